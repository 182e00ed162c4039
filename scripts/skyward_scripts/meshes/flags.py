"""A function's signature as a command: parameters become flags, with their types, defaults and help.

What has no default is required; what may not be given by its name is an argument. A type that no flag can have is
written as JSON.
"""

from __future__ import annotations

import enum
import inspect
import json
import pathlib
import types
import typing
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, Literal, Union, get_args, get_origin

import click

from skyward.errors import ConfigError
from skyward_scripts.meshes import docstrings


class Kind(typing.NamedTuple):
    """How a parameter is written on a command line, and what becomes of that."""

    type: click.ParamType[Any]
    many: bool = False  # the flag may be repeated
    switch: bool = False  # --flag / --no-flag
    make: Callable[[Any], Any] = lambda value: value  # of what click has made


class Json(click.ParamType[Any]):
    """A value that is written as JSON."""

    name = "json"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the value."""
        if not isinstance(value, str):
            return value
        try:
            return json.loads(value)
        except ValueError as error:
            self.fail(f"{value!r} is no JSON: {error}", param, ctx)


LISTS: Final = (list, tuple, set, frozenset, Sequence, Collection, Iterable)
CLASSES: Final[dict[Any, Kind]] = {
    int: Kind(click.INT),
    float: Kind(click.FLOAT),
    str: Kind(click.STRING),
    bool: Kind(click.BOOL, switch=True),
    inspect.Parameter.empty: Kind(click.STRING),
    Any: Kind(click.STRING),
}


def kind_of(annotation: Any) -> Kind:
    """Return how a parameter with this annotation is written."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        others = [argument for argument in arguments if argument is not type(None)]
        return kind_of(others[0]) if len(others) == 1 else Kind(Json())
    if origin is Literal:
        by_text = {str(argument): argument for argument in arguments}
        return Kind(click.Choice(list(by_text)), make=_looked_up(by_text))
    if (origin or annotation) in LISTS:
        return _of_several(origin or annotation, arguments)
    if annotation in CLASSES:
        return CLASSES[annotation]
    return _of_class(annotation) if isinstance(annotation, type) and origin is None else Kind(Json())


def _looked_up(values: Mapping[str, Any]) -> Callable[[Any], Any]:
    """Return what finds a value by its text; a default is a value already."""

    def make(text: Any) -> Any:
        return values.get(text, text)

    return make


def _of_class(annotation: type) -> Kind:
    if issubclass(annotation, pathlib.PurePath):
        return Kind(click.STRING, make=annotation)
    if issubclass(annotation, enum.Enum):
        members = dict(annotation.__members__)
        return Kind(click.Choice(list(members)), make=_looked_up(members))
    return Kind(Json())


def _of_several(container: Any, arguments: tuple[Any, ...]) -> Kind:
    """Return how several values are written: each with the flag before it; those of several types as JSON."""
    if container is tuple and arguments and arguments[1:] != (...,):
        return Kind(Json(), make=tuple)
    inner = kind_of(arguments[0] if arguments else str)
    if inner.many or inner.switch:
        return Kind(Json())
    made: Any = container if container in (list, tuple, set, frozenset) else list
    return Kind(inner.type, many=True, make=_each(inner, made))


def _each(inner: Kind, container: Any) -> Callable[[Any], Any]:
    """Return what makes each of several values, and puts them together."""

    def make(values: Iterable[Any]) -> Any:
        return container([inner.make(value) for value in values])

    return make


def command_for(function: Callable[..., Any], name: str, run: Callable[..., Any]) -> click.Command:
    """Return a command whose flags are the parameters of ``function``, and which calls ``run(*args, **kwargs)``.

    Raises `ConfigError` for a parameter that no command line can give.
    """
    plain = inspect.unwrap(function)
    signature = inspect.signature(plain)
    try:
        hints = typing.get_type_hints(plain)
    except Exception:  # names that only a type checker knows
        hints = {}
    said = docstrings.read(inspect.getdoc(plain))
    kinds = {each.name: _checked(each, hints) for each in signature.parameters.values()}
    parameters = [_parameter(each, kinds[each.name], said.parameters) for each in signature.parameters.values()]

    def call(**values: Any) -> Any:
        args: list[Any] = []
        kwargs: dict[str, Any] = {}
        for each in signature.parameters.values():
            value: Any = values[_key(each.name)]
            if value is None or (value == () and kinds[each.name].many and each.default is not each.empty):
                value = each.default if each.default is not each.empty else value
            else:
                value = kinds[each.name].make(value)
            if each.kind is each.VAR_POSITIONAL:
                args.extend(value)
            elif each.kind is each.KEYWORD_ONLY:
                kwargs[each.name] = value
            else:
                args.append(value)
        return run(*args, **kwargs)

    helps = ["-h" if "help" in signature.parameters else "--help"]
    return click.Command(
        name, callback=call, params=parameters, help=said.text, context_settings={"help_option_names": helps}
    )


def _checked(parameter: inspect.Parameter, hints: Mapping[str, Any]) -> Kind:
    annotation = hints.get(parameter.name, parameter.annotation)
    if parameter.kind is parameter.VAR_KEYWORD:
        raise ConfigError(f"parameter **{parameter.name} takes any name, and a command line must know them")
    if get_origin(annotation) is Iterator or annotation is Iterator:
        raise ConfigError(f"parameter {parameter.name} is fed by an iterator: call the function from a program")
    if parameter.kind is parameter.VAR_POSITIONAL:
        inner = kind_of(annotation)
        return Kind(inner.type, many=True, make=_each(inner, list))
    return kind_of(annotation)


def _key(name: str) -> str:
    return f"p_{name}"  # no name of click's own, whatever the parameter is called


def _parameter(parameter: inspect.Parameter, kind: Kind, said: Mapping[str, str]) -> click.Parameter:
    required = parameter.default is parameter.empty
    if parameter.kind is parameter.VAR_POSITIONAL:
        return click.Argument(
            [_key(parameter.name)], type=kind.type, nargs=-1, metavar=f"[{parameter.name.upper()}]..."
        )
    if parameter.kind is parameter.POSITIONAL_ONLY:
        nargs = -1 if kind.many else 1
        return click.Argument(
            [_key(parameter.name)], type=kind.type, nargs=nargs, required=required, metavar=parameter.name.upper()
        )
    flag = parameter.name.replace("_", "-")
    words = said.get(parameter.name, "")
    default = "" if required or parameter.default is None else f"[default: {_shown(parameter.default)}]"
    without: dict[str, Any] = {} if required else {"default": None}  # to click None would be a default
    return click.Option(
        [f"--{flag}/--no-{flag}" if kind.switch else f"--{flag}", _key(parameter.name)],
        type=None if kind.switch else kind.type,
        multiple=kind.many,
        required=required,
        **without,
        help="  ".join(filter(None, (words, default))),
        metavar=None if kind.switch or isinstance(kind.type, click.Choice) else kind.type.name.upper(),
    )


def _shown(default: object) -> str:
    if isinstance(default, enum.Enum):
        return default.name
    return str(default) if isinstance(default, str | int | float | pathlib.PurePath) else repr(default)
