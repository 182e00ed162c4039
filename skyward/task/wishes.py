"""Where a function wants its output kept: what the decorators of `output` note, and nodes go by."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from skyward.frozen import Frozen

if TYPE_CHECKING:
    from collections.abc import Callable

    from skyward.runtime import InstanceInfo

Only: TypeAlias = "Literal['head'] | Callable[[InstanceInfo], bool]"

WISH: Final = "__skyward_output__"  # the attribute of a function that holds its `Wish`
STDOUT: Final = 1
STDERR: Final = 2


class Wish(Frozen):
    """Where a function's output is kept: everywhere, nowhere, on the head, or where a predicate says so."""

    stdout: Only | bool = True
    stderr: Only | bool = True


def is_kept(only: Only | bool, info: InstanceInfo) -> bool:
    """Return whether a stream is kept here; raises what the user's predicate raises."""
    if isinstance(only, bool):
        return only
    return info.is_head if only == "head" else bool(only(info))
