"""Frozen values: classes whose fields are what they annotate, as those of `dataclasses` are.

The standard module imports `inspect`, which takes 5 ms, and writes and compiles the source of every method of every
class, which takes half a millisecond for each. That was a tenth of the time from the start of a program to its first
result. These classes share their methods instead. To make a value takes longer, so they are for settings and
descriptions, of which there are few.

A value beside an annotation is the field's default. ``__post_init__`` checks, and may complete. The functions of
`dataclasses` take such values, too; whoever calls them has imported it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast, dataclass_transform

if TYPE_CHECKING:
    import inspect
    from collections.abc import Callable
    from dataclasses import Field
    from typing import Self

_ABSENT: Final = object()  # the default of a field that has none


class _Special:
    """What `field` says."""

    __slots__ = ("default_factory", "repr")

    def __init__(self, default_factory: Callable[[], Any] | None, *, repr: bool) -> None:
        self.default_factory = default_factory
        self.repr = repr


def field(*, default_factory: Callable[[], Any] | None = None, repr: bool = True) -> Any:
    """Describe a field whose default is made anew for each value, or that is not shown."""
    return _Special(default_factory, repr=repr)


class _Fields:
    """What the functions of `dataclasses` look for; made when they do."""

    def __get__(self, _value: object, owner: type[Frozen]) -> dict[str, Field[Any]]:
        import dataclasses

        described: list[tuple[str, Any, Any]] = []
        for name, default in owner.defaults.items():
            options: dict[str, Any] = {"repr": name not in owner.hidden, "kw_only": owner.by_name}
            if isinstance(default, _Special):
                options["default_factory"] = default.default_factory
            elif default is not _ABSENT:
                options["default"] = default
            described.append((name, owner.__annotations__[name], dataclasses.field(**options)))
        try:
            made: Any = dataclasses.make_dataclass(owner.__name__, described)
        except RuntimeError as error:  # which Python 3.11 makes of whatever is raised in `__set_name__`
            if isinstance(error.__cause__, KeyboardInterrupt):
                raise error.__cause__ from None
            raise
        return cast("dict[str, Field[Any]]", made.__dataclass_fields__)


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
class FrozenType(type):
    """Makes the classes."""

    defaults: dict[str, Any]  # by field, in the order in which they are annotated
    hidden: frozenset[str]
    by_name: bool  # its fields are passed by keyword only

    def __new__(cls, name: str, bases: tuple[type, ...], scope: dict[str, Any], *, kw_only: bool = False) -> FrozenType:
        """Take the defaults out of the class, where the slots' own descriptors are to be."""
        said = {each: scope.pop(each, _ABSENT) for each in scope.get("__annotations__", ())}
        made = super().__new__(
            cls, name, bases, {"__slots__": tuple(said), "__match_args__": () if kw_only else tuple(said)} | scope
        )
        special = {each: what for each, what in said.items() if isinstance(what, _Special)}
        made.hidden = frozenset(each for each, what in special.items() if not what.repr)
        made.defaults = said | {each: _ABSENT for each, what in special.items() if what.default_factory is None}
        made.by_name = kw_only
        return made

    @property
    def __signature__(cls) -> inspect.Signature:
        """What `help` and `inspect` show."""
        from inspect import Parameter, Signature

        kind = Parameter.KEYWORD_ONLY if cls.by_name else Parameter.POSITIONAL_OR_KEYWORD
        parameters: list[Parameter] = []
        for name, default in cls.defaults.items():
            shown = Parameter.empty if default is _ABSENT else default
            parameters.append(Parameter(name, kind, default=shown, annotation=cls.__annotations__[name]))
        return Signature(parameters)


class Frozen(metaclass=FrozenType):
    """Base of the classes: ``class Point(Frozen): x: int; y: int = 0``."""

    __dataclass_fields__ = _Fields()

    if not TYPE_CHECKING:  # who checks types knows it by the fields

        def __init__(self, /, *args: Any, **kwargs: Any) -> None:
            cls = type(self)
            passed = _bind(cls, args, kwargs) if args or kwargs else {}
            for name, default in cls.defaults.items():
                value = passed.get(name, default)
                if value is _ABSENT:
                    raise TypeError(f"{cls.__qualname__}.__init__() missing a required argument: {name!r}")
                object.__setattr__(self, name, value.default_factory() if type(value) is _Special else value)
            self.__post_init__()

    def __post_init__(self) -> None:
        """Check the values."""

    def but(self, **changes: Any) -> Self:
        """Return one like it, but for these fields."""
        return type(self)(**self.as_dict() | changes)

    __replace__ = but  # for `copy.replace`

    def as_dict(self) -> dict[str, Any]:
        """Return the values by their names."""
        return {name: getattr(self, name) for name in type(self).defaults}

    def _values(self) -> tuple[Any, ...]:
        return tuple(getattr(self, name) for name in type(self).defaults)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Frozen) or type(other) is not type(self):
            return NotImplemented
        return self._values() == other._values()

    def __hash__(self) -> int:
        return hash(self._values())

    def __repr__(self) -> str:
        cls = type(self)
        shown = ", ".join(f"{name}={getattr(self, name)!r}" for name in cls.defaults if name not in cls.hidden)
        return f"{cls.__qualname__}({shown})"

    def __setattr__(self, name: str, value: object) -> None:
        from dataclasses import FrozenInstanceError

        raise FrozenInstanceError(f"cannot assign to field {name!r}")

    def __delattr__(self, name: str) -> None:
        from dataclasses import FrozenInstanceError

        raise FrozenInstanceError(f"cannot delete field {name!r}")

    def __getstate__(self) -> tuple[Any, ...]:
        return self._values()

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        for name, value in zip(type(self).defaults, state, strict=True):
            object.__setattr__(self, name, value)


def _bind(cls: FrozenType, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Return arguments by the names of the fields; complain as Python does."""
    if len(args) > (0 if cls.by_name else len(cls.defaults)):
        raise TypeError(f"{cls.__qualname__}.__init__() takes fewer positional arguments than {len(args)}")
    passed = dict(zip(cls.defaults, args, strict=False))
    for name in kwargs:
        if name not in cls.defaults:
            raise TypeError(f"{cls.__qualname__}.__init__() got an unexpected keyword argument {name!r}")
        if name in passed:
            raise TypeError(f"{cls.__qualname__}.__init__() got multiple values for argument {name!r}")
    return passed | kwargs
