"""The streams of a pool that go on: generators, pulled arguments, feeders. They end with the pool at the latest."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Final
from weakref import WeakValueDictionary

from skyward.errors import PoolClosedError
from skyward.pool import claims

if TYPE_CHECKING:
    from skyward.answers.values import ValueBuffer
    from skyward.pool.feeding import Feeder
    from skyward.pool.pumping import Pump

FEEDER_END: Final = 1.0  # seconds the thread of a stream may take to end: a user's iterator may not return at all


class Underway:
    """Knows them. Any thread may add one at any time, also while they are ended."""

    def __init__(self) -> None:
        # By their ids, because a `WeakSet` that changes while somebody goes through it raises.
        self._feeders: dict[int, Feeder] = {}  # whose threads have not ended
        self._lock = threading.Lock()  # of the numbers, and of taking feeders off
        self._handed_in = 0  # calls, by feeders whose threads have ended
        self._seen = 0  # by all of them, when that was looked at last
        self._values: WeakValueDictionary[int, ValueBuffer] = WeakValueDictionary()  # of calls that yield
        self._pumps: WeakValueDictionary[int, Pump] = WeakValueDictionary()  # of arguments fed element by element

    def add_feeder(self, feeder: Feeder) -> None:
        """Note what feeds a stream, and has not started, until it ends."""
        self._feeders[id(feeder)] = feeder
        feeder.on_end = self._on_end

    def _on_end(self, feeder: Feeder) -> None:
        with self._lock:
            self._handed_in += feeder.handed_in
            del self._feeders[id(feeder)]

    def add_values(self, buffer: ValueBuffer) -> None:
        """Note what a generator yields into."""
        self._values[id(buffer)] = buffer

    def add_pump(self, pump: Pump) -> None:
        """Note what pulls an argument."""
        self._pumps[id(pump)] = pump

    def stop_values(self) -> None:
        """Stop the generators that no call of the pool needs."""
        for reference in self._values.valuerefs():
            if (buffer := reference()) is not None:
                buffer.give_up()

    def finish_feeders(self) -> bool:
        """Wait for calls that are all there and handed in little by little; return whether any were since last time.

        Counted are those of feeders that have ended, too: one may hand in its last calls and be gone at any moment.
        """
        for feeder in list(self._feeders.values()):
            feeder.finish()
        with self._lock:
            feeders = list(self._feeders.values())
            before, self._seen = self._seen, self._handed_in + sum(feeder.handed_in for feeder in feeders)
        return self._seen != before

    def stop_feeders(self) -> None:
        """End the threads that feed streams and pull arguments, as far as users' iterators let them."""
        pumps = [pump for reference in self._pumps.valuerefs() if (pump := reference()) is not None]
        feeders = list(self._feeders.values())
        for feeder in feeders:
            if feeder.thread.is_alive():
                feeder.stop(PoolClosedError("the pool was closed"))
        for pump in pumps:
            pump.stop()
        deadline = time.monotonic() + FEEDER_END
        for thread in [feeder.thread for feeder in feeders] + [pump.thread for pump in pumps]:
            if thread is not None and thread.ident is not None and thread is not threading.current_thread():
                thread.join(max(0.0, deadline - time.monotonic()))
        for feeder in feeders:
            feeder.give_up()
        claims.let_go()
