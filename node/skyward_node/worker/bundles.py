"""A bundle while it runs: its calls one after the other, and what may be taken from it meanwhile.

The slot's thread takes call after call. When one takes long the control thread takes the others away, and tells what
has become of those before it, so that nothing waits behind that one; see `skyward.wire.bundles`.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Final

from skyward.wire import bundles, payload
from skyward.wire.bundles import PLAIN, Mixed
from skyward.wire.frames import Payload
from skyward.wire.statuses import MIXED, OK

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from skyward.wire.bundles import Entry, Value
    from skyward_node.worker.slot import Slot

SLOW: Final = 10_000_000  # ns that a bundle may run: then its calls are some ten times slower than was expected


class Bundle:
    """The calls of one bundle."""

    __slots__ = ("_calls", "_failures", "_left", "_lock", "_seen", "_total", "_values", "id", "stuck")

    def __init__(self, id: int, entries: Sequence[Entry]) -> None:
        self.id = id
        self.stuck = False  # one call takes long, or all of them do
        self._total = len(entries)
        self._calls = enumerate(entries)  # taking one is a single step of the interpreter: one thread has it
        self._values: list[Value] = []  # of the calls that have ended, in their order
        self._failures: dict[int, tuple[int, bytes]] = {}  # of those that gave none, before their place is taken
        self._left: list[int] = []  # calls that were taken away
        self._seen = -1  # calls that had ended at the last look
        self._lock = threading.Lock()  # whoever has it knows all that were taken away

    # --- the slot's thread --------------------------------------------------------------------

    def run(self, function: Callable[..., Any], slot: Slot) -> None:
        """Run what there is, until a cancel strikes; raises only what breaks in between two calls."""
        id, add, finish, interrupts = self.id, self._values.append, slot.finish, slot.interrupts
        places, seat, printing, size = slot.places, slot.seat, slot.printing, 0
        for place, entry in self._calls:
            places[seat] = place
            try:
                value = function(*entry) if type(entry) is tuple else _call(function, entry)
                if type(value) not in PLAIN:
                    value, weight = finish(function, value)
                    size += weight
            except BaseException as error:
                self._failures[place] = slot.failure(id, error)
                add(None)
                if interrupts.hit == id:
                    return
            else:
                add(value)
            if printing.begun:
                printing.end_lines()
            if size > bundles.YIELDED:
                self.take_rest()

    def outcome(self, cancelled: tuple[int, bytes]) -> tuple[int, Payload]:
        """Return status and payload of the bundle; calls that it did not come to have been ``cancelled``."""
        with self._lock:
            if len(self._values) == self._total and not self._failures:
                return OK, Payload(bundles.pack_values(self._values), ())
            mixed = self.so_far()
        missing = set(range(self._total)).difference(mixed.values, mixed.failures, mixed.left)
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

    def so_far(self) -> Mixed:
        """Return what has become of the calls."""
        values = list(self._values)  # before the failures: whose place is taken, has its failure
        failures = dict(self._failures)
        good = {place: value for place, value in enumerate(values) if place not in failures}
        return Mixed(good, failures, self._left)


def _call(function: Callable[..., Any], entry: Any) -> Any:
    args, kwargs = payload.loads_call(entry)
    return function(*args, **kwargs)
