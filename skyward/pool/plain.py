"""Calls that pass nothing but numbers and text, of a function whose code has been sent before: made into tasks at once.

Who starts calls one by one, for a future each, pays for each of them what a group pays once. So the common kind of
call takes the shortest way here. Every other kind, also one that fails, takes the way of `operations`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from skyward.dispatch.tasks import ANY, Task
from skyward.wire.payload import dumps_plain
from skyward.work.pending import PendingFunction

if TYPE_CHECKING:
    from collections.abc import Iterator

    from skyward.config import Options
    from skyward.results import Sink
    from skyward.wire.functions import FunctionStore


def plain_task(
    call: PendingFunction[Any], sink: Sink, ids: Iterator[int], functions: FunctionStore, options: Options, limit: int
) -> Task | None:
    """Return the task of a call of the common kind, or None; ``limit`` is what arguments and code may have in bytes."""
    function = call.function
    if type(call) is not PendingFunction or call.kwargs or function.yields or function.inputs is not None:
        return None
    blob = functions.known(function)
    data = dumps_plain(call.args)
    if blob is None or data is None:
        return None
    size = len(data)
    if size > limit or len(blob.body) > limit:
        return None
    retries, timeout = function.retries, function.timeout
    if retries is None:
        retries = options.retries
    if timeout is None:
        timeout = options.timeout or 0.0
    return Task(next(ids), blob, data, (), sink, 0, retries, timeout, ANY, blob.name, size, True)
