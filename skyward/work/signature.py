"""Argument checking in Python's own words.

A *checker* is an empty function with exactly the parameters of another one. Calling it binds the
arguments, and raises the `TypeError` that a real call would raise, for a tenth of a microsecond;
`inspect.Signature.bind` takes twenty-five times that and words it differently.
"""

from __future__ import annotations

from functools import lru_cache
from types import CodeType, FunctionType
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import inspect
    from collections.abc import Callable

    Checker = Callable[..., None]

CO_VARARGS: Final = 4  # flags of code, as `inspect` calls them
CO_VARKEYWORDS: Final = 8

_ANYTHING: Final = "*args, **kwargs"


def make_checker(function: Callable[..., Any], qualname: str) -> Checker:
    """Return the checker of a function; one that takes anything if its parameters cannot be known."""
    if isinstance(function, FunctionType):
        # Not `inspect.signature`: it shows what `functools.wraps` pretends, this is what a call would meet.
        return _empty(_parameters(function.__code__), qualname, function.__defaults__, function.__kwdefaults__)
    import inspect  # 5 ms, and most functions are plain

    try:
        signature = inspect.signature(function, follow_wrapped=False)
    except (TypeError, ValueError):  # some builtins do not tell
        return _empty(_ANYTHING, qualname, None, None)
    return _from_signature(signature, qualname)


def _parameters(code: CodeType) -> str:
    """Return the source of a code object's parameter list, without defaults."""
    names = list(code.co_varnames)
    positional, keyword = code.co_argcount, code.co_kwonlyargcount
    rest = positional + keyword  # where the names of *args and **kwargs stand
    parts = names[:positional]
    if code.co_posonlyargcount:
        parts.insert(code.co_posonlyargcount, "/")
    if code.co_flags & CO_VARARGS:
        parts.append("*" + names[rest])
        rest += 1
    elif keyword:
        parts.append("*")
    parts += names[positional : positional + keyword]
    if code.co_flags & CO_VARKEYWORDS:
        parts.append("**" + names[rest])
    return ", ".join(parts)


def _from_signature(signature: inspect.Signature, qualname: str) -> Checker:
    parameters = signature.parameters.values()
    bare = [p.replace(default=p.empty, annotation=p.empty) for p in parameters]
    given = [p for p in parameters if p.default is not p.empty]
    defaults = tuple(p.default for p in given if p.kind is not p.KEYWORD_ONLY)
    keyword_defaults = {p.name: p.default for p in given if p.kind is p.KEYWORD_ONLY}
    shown = str(signature.replace(parameters=bare, return_annotation=signature.empty))
    return _empty(shown[1:-1], qualname, defaults, keyword_defaults)


def _empty(
    parameters: str, qualname: str, defaults: tuple[Any, ...] | None, keyword_defaults: dict[str, Any] | None
) -> Checker:
    name = qualname.rpartition(".")[2]
    checker = FunctionType(_compiled(parameters), {}, name, defaults)
    checker.__qualname__ = qualname
    checker.__kwdefaults__ = keyword_defaults
    return checker


@lru_cache(maxsize=1024)  # many functions share a parameter list; compiling one takes 20 µs
def _compiled(parameters: str) -> CodeType:
    code: CodeType = eval(f"lambda {parameters}: None", {}).__code__  # noqa: S307 - names of a compiled function only
    return code
