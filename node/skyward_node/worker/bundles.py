"""A bundle while it runs: its calls one after the other, and what may be taken from it meanwhile.

The slot's thread takes call after call. When one takes long the control thread takes the others away, and tells what
has become of those before it, so that nothing waits behind that one; see `skyward.wire.bundles`.
"""

from __future__ import annotations

import threading
from types import CoroutineType
from typing import TYPE_CHECKING, Any, Final, cast

from skyward.wire import bundles
from skyward.wire.bundles import PLAIN, WIDE, Mixed
from skyward.wire.frames import Payload
from skyward.wire.statuses import MIXED, OK

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from skyward.wire.bundles import Arguments, Value
    from skyward_node.worker.slot import Slot

MOST: Final = 2**20  # bytes of what is said of a bundle while it runs: the values are also in its outcome
SLOW: Final = 10_000_000  # ns that a bundle may run: then its calls are some ten times slower than was expected


class Bundle:
    """The calls of one bundle."""

    __slots__ = ("_calls", "_failures", "_left", "_lock", "_seen", "_total", "_values", "id", "stuck")

    def __init__(self, id: int, calls: Sequence[Arguments]) -> None:
        self.id = id
        self.stuck = False  # one call takes long, or all of them do
        self._total = len(calls)
        self._calls = enumerate(calls)  # taking one is a single step of the interpreter: one thread has it
        self._values: list[Value] = []  # of the calls that have ended, in their order
        self._failures: dict[int, tuple[int, bytes]] = {}  # of those that gave none, before their place is taken
        self._left: list[int] = []  # calls that were taken away
        self._seen = -1  # calls that had ended at the last look
        self._lock = threading.Lock()  # whoever has it knows all that were taken away

    # --- the slot's thread --------------------------------------------------------------------

    def run(self, function: Callable[..., Any], slot: Slot) -> None:
        """Run what there is, until a cancel strikes."""
        id, add, interrupts, printing, size = self.id, self._values.append, slot.interrupts, slot.printing, 0
        places, seat = slot.places, slot.seat
        for place, arguments in self._calls:
            places[seat] = place
            try:
                try:
                    interrupts.arm(id)
                    value = function(*arguments)
                    if type(value) is CoroutineType:
                        value = slot.run_coroutine(cast("Coroutine[Any, Any, Any]", value))
                finally:
                    interrupts.armed = None  # what we do between two calls is not interrupted
                if type(value) not in PLAIN or (type(value) is int and not -WIDE < value < WIDE):
                    value, weight = slot.finish(function, value)
                    size += weight
                elif slot.leave_fork is not None:
                    slot.leave_fork(None)
            except BaseException as error:
                failure = slot.failure(id, error)
                size += len(failure[1])
                self._failures[place] = failure
                add(None)
            else:
                add(value)
            slot.end_calls(id)
            if printing.begun:
                printing.end_lines()
            if interrupts.hit == id:
                return
            if size > bundles.YIELDED:
                self.take_rest()

    def outcome(self, cancelled: tuple[int, bytes] | None) -> tuple[int, Payload]:
        """Return status and payload of the bundle; calls that it did not come to were ``cancelled``, or are left."""
        with self._lock:
            if len(self._values) == self._total and not self._failures:
                return OK, Payload(bundles.pack_values(self._values), ())
            mixed = self._so_far()
        missing = set(range(self._total)).difference(mixed.values, mixed.failures, mixed.left)
        if cancelled is None:
            mixed.left.extend(missing)
        else:
            mixed.failures.update(dict.fromkeys(missing, cancelled))
        return MIXED, Payload(bundles.pack_mixed(mixed), ())

    # --- the control thread -------------------------------------------------------------------

    def look(self, ran: int) -> None:
        """See whether the bundle, which has been running for ``ran`` ns, gets on."""
        ended = len(self._values)
        self.stuck = ended == self._seen or ran > SLOW
        self._seen = ended

    def take_rest(self) -> None:
        """Take away all calls that nobody has taken."""
        with self._lock:
            self._left += [place for place, _ in self._calls]

    def part(self) -> bytes | None:
        """Take away the rest, and return what has become of the calls, if one of them still runs."""
        self.take_rest()
        mixed = self._so_far()
        if len(mixed.values) + len(mixed.failures) + len(mixed.left) == self._total:
            return None  # its outcome is about to say so
        data = bundles.pack_mixed(mixed)
        return data if len(data) <= MOST else bundles.pack_mixed(Mixed({}, {}, mixed.left))

    def _so_far(self) -> Mixed:
        values = list(self._values)  # before the failures: whose place is taken, has its failure
        failures = dict(self._failures)
        good = {place: value for place, value in enumerate(values) if place not in failures}
        return Mixed(good, {place: failures[place] for place in failures if place < len(values)}, [*self._left])
