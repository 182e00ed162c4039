"""What a function's signature says about streams: whether it yields, and which parameters are fed one by one.

A parameter annotated ``Iterator[...]`` or ``Generator[...]`` is fed from any iterable; one annotated ``Iterable[...]``
only from what can be iterated once, and so is one that allows something else beside them: a list given for
``list[int] | Iterator[int]`` stays one. Annotations may be strings, aliases, optional, or wrapped in ``Annotated``.
Those that are strings are evaluated where the function was defined; what cannot be, because its names exist for type
checkers only, is read as it is written.

The ``*args, **kwargs`` of a decorator stand for the parameters of what it wraps, if it says so by `functools.wraps`. It
may pass on something else: that is assumed of a call whose arguments would not fit the wrapped function.
"""

from __future__ import annotations

import collections.abc
import functools
import sys
from types import FunctionType, MethodType, UnionType
from typing import TYPE_CHECKING, Annotated, Any, Final, Union, get_args, get_origin

from skyward.frozen import Frozen

if TYPE_CHECKING:
    import ast
    import inspect
    from collections.abc import Callable, Iterator

ALWAYS: Final = 1  # fed element by element, whatever iterable is passed
ONCE: Final = 2  # only if the iterable can be iterated once

_KINDS: Final[dict[Any, int]] = {
    collections.abc.Iterator: ALWAYS,
    collections.abc.Generator: ALWAYS,
    collections.abc.Iterable: ONCE,
}
_NAMES: Final = {"Iterator": ALWAYS, "Generator": ALWAYS, "Iterable": ONCE}
_DEEPEST: Final = 100  # decorators below which is looked: some function may wrap itself
_YIELDS: Final = 0x20 | 0x200  # flags of the code of generators, and of asynchronous ones


class Inputs(Frozen):
    """The parameters of a function that are fed element by element, as `ALWAYS` or `ONCE`."""

    positional: tuple[int, ...]  # one entry for each positional parameter; 0: an ordinary one
    rest: int  # ``*args``
    named: dict[str, int]  # those that can be passed by keyword
    others: int  # ``**kwargs``
    shown: inspect.Signature | None = None  # of what a decorator wraps, which these are the parameters of

    def places(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Iterator[tuple[int | str, int]]:
        """Yield which arguments of a call they are: index or name, and kind."""
        if self.shown is not None and not _fit(self.shown, args, kwargs):
            return  # the decorator changes arguments, and nobody knows which
        for index in range(len(args)):
            kind = self.positional[index] if index < len(self.positional) else self.rest
            if kind:
                yield index, kind
        for name in kwargs:
            kind = self.named.get(name, self.others)
            if kind:
                yield name, kind


def _fit(signature: inspect.Signature, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    try:
        signature.bind(*args, **kwargs)
    except TypeError:
        return False
    return True


def yields(function: Any) -> bool:
    """Return whether calling it gives a generator, plain or asynchronous."""
    if type(function) is FunctionType:
        return bool(function.__code__.co_flags & _YIELDS)
    import inspect  # 5 ms, and most functions are plain

    called: Any = function
    if not inspect.isroutine(function) and not isinstance(function, functools.partial):
        called = getattr(function.__class__, "__call__", function)  # noqa: B004 - not whether there is one
    return inspect.isgeneratorfunction(called) or inspect.isasyncgenfunction(called)


def find_inputs(function: Callable[..., Any]) -> Inputs | None:
    """Return which parameters are fed element by element; None if there is none."""
    import inspect

    rest = inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD
    shown: inspect.Signature | None = None
    try:
        signature = inspect.signature(function, follow_wrapped=False)
        if all(parameter.kind in rest for parameter in signature.parameters.values()):
            signature = shown = inspect.signature(function)  # what `functools.wraps` says, if that is other
    except (TypeError, ValueError):  # some builtins do not tell
        return None
    parameters = list(signature.parameters.values())
    # One of `functools.wraps` with parameters of its own takes what it takes, but says what the original says.
    kinds = {parameter.name: _kind(parameter.annotation, function) for parameter in parameters}
    if not any(kinds.values()):
        return None
    either = inspect.Parameter.POSITIONAL_OR_KEYWORD
    positional = [p.name for p in parameters if p.kind in (inspect.Parameter.POSITIONAL_ONLY, either)]
    by_name = [p.name for p in parameters if p.kind in (either, inspect.Parameter.KEYWORD_ONLY)]
    return Inputs(
        tuple(kinds[name] for name in positional),
        max([kinds[p.name] for p in parameters if p.kind is inspect.Parameter.VAR_POSITIONAL], default=0),
        {name: kinds[name] for name in by_name},
        max([kinds[p.name] for p in parameters if p.kind is inspect.Parameter.VAR_KEYWORD], default=0),
        shown,
    )


def _kind(annotation: Any, function: Any) -> int:
    if isinstance(annotation, str):
        if not any(name in annotation for name in _NAMES) and not annotation.isidentifier():
            return 0
        evaluated = _evaluated(annotation, function)
        return _written_kind(annotation) if evaluated is None else _kind_of(evaluated)
    return _kind_of(annotation)


def _kind_of(annotation: Any) -> int:
    """Return the kind of an annotation that is an object."""
    if isinstance(annotation, str):
        return _written_kind(annotation)
    origin = get_origin(annotation)
    if origin is Annotated:
        return _kind_of(get_args(annotation)[0])
    if origin is Union or origin is UnionType:
        return _union_kind([_kind_of(member) for member in get_args(annotation) if member is not type(None)])
    value = getattr(annotation, "__value__", None)  # `type Alias = ...`
    if value is not None and origin is None:
        return _kind_of(value)
    name = getattr(annotation, "__forward_arg__", None)
    if isinstance(name, str):
        return _written_kind(name)
    return _hashed_kind(origin if origin is not None else annotation)


def _union_kind(kinds: list[int]) -> int:
    """Return the kind of a union of these, but for None."""
    if not any(kinds):
        return 0
    return ALWAYS if set(kinds) == {ALWAYS} else ONCE


def _hashed_kind(annotation: Any) -> int:
    try:
        return _KINDS.get(annotation, 0)
    except TypeError:  # somebody's own kind of annotation
        return 0


def _evaluated(annotation: str, function: Any) -> Any:
    """Return what a string means where the function was defined; None if that cannot be told."""
    plain = function
    for _ in range(_DEEPEST):
        inside = _inside(plain)
        if inside is None:
            break
        plain = inside
    names = getattr(plain, "__globals__", None) or vars(sys.modules.get(getattr(plain, "__module__", ""), sys))
    try:
        return eval(annotation, names)  # noqa: S307 - an annotation of the user's own program, as typing does it
    except Exception:  # names that exist for type checkers only
        return None


def _inside(function: Any) -> Any:
    """Return what a partial application, a method or a decorated function calls; None for any other."""
    import inspect

    if isinstance(function, functools.partial):
        return function.func
    if isinstance(function, MethodType):
        return function.__func__
    # An object that answers any name with another such object has none.
    wraps = inspect.getattr_static(function, "__wrapped__", None) is not None
    return getattr(function, "__wrapped__", None) if wraps else None


def _written_kind(annotation: str) -> int:
    import ast  # 2 ms, and few annotations have to be read

    try:
        tree: ast.AST = ast.parse(annotation.strip(), mode="eval").body
    except SyntaxError:
        return 0
    return _tree_kind(tree)


def _tree_kind(tree: ast.AST) -> int:
    import ast

    match tree:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return _NAMES.get(name, 0)
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            parts: list[ast.expr] = [left, right]
        case ast.Subscript(value=ast.Name(id=name) | ast.Attribute(attr=name), slice=inner):
            inside = list(inner.elts) if isinstance(inner, ast.Tuple) else [inner]
            parts = {"Optional": inside, "Annotated": inside[:1], "Union": inside}.get(name, [tree.value])
        case ast.Constant(value=str(text)):
            return _written_kind(text)
        case _:
            parts = []
    return _union_kind([_tree_kind(part) for part in parts if not _is_none(part)])


def _is_none(tree: ast.AST) -> bool:
    import ast

    return isinstance(tree, ast.Constant) and tree.value is None
