"""What a module defines under a qualified name, for whoever sends a reference and for whoever has got one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType


def attribute(module: ModuleType, name: str) -> Any:
    """Return what a module defines under a qualified name; a function of a class as it stands there."""
    found: Any = module
    for part in name.split("."):
        if isinstance(found, type):
            holder = next((kind for kind in found.__mro__ if part in vars(kind)), None)
            if holder is None:
                raise AttributeError(f"class {found.__qualname__} has no attribute {part!r}")
            found = vars(holder)[part]
            if isinstance(found, staticmethod | classmethod):
                found = cast("Any", found).__func__
        else:
            found = getattr(found, part)
    return found


def unmarked(found: Any) -> Callable[..., Any]:
    """Return the function that ``@sky.function`` has marked, or what is not marked; nobody here imports that."""
    function: Callable[..., Any] = found.__wrapped__ if type(found).__module__ == "skyward.calls" else found
    return function
