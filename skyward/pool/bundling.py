"""Short calls of a group as bundles: how they are put together, and how what becomes of a bundle is told apart again.

A call may be part of a bundle if it may run again, has no time limit, may run anywhere, and passes only what a small
pickle holds. How many calls make a bundle is a matter of their time, and of how many there are for each slot: at the
end of a group all slots shall be busy. Of a function that has not run before some calls go alone; when the bundles
behind them are to be sent, it is known whether they shall be.

What a bundle has not run, or lost with its worker, becomes tasks of single calls. What a user sees is the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol, cast

from skyward.dispatch.tasks import NOWHERE, Task
from skyward.errors import NodeLostError, ProtocolError, RemoteError
from skyward.results import CancelledError, Given, Run, Sink
from skyward.wire import bundles, failures
from skyward.wire.statuses import CRASHED, MIXED, OK
from skyward.work.pending import PendingFunction

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from skyward.results import Collection, Outcome
    from skyward.wire.bundles import Arguments, Mixed
    from skyward.wire.frames import Buffer
    from skyward.wire.functions import FunctionBlob

LEAST: Final = 4  # calls that are worth a bundle
WORTHWHILE: Final = 1_000.0  # µs of work in a bundle: many times what a task costs on its way, and no wait to speak of
TOO_LONG: Final = 2_000.0  # µs of a call that has no advantage of a bundle, also if it was slow to begin
FIRST: Final = 8  # calls of a function that go alone, and before its bundles, if nothing is known of it
SHARES: Final = 8  # bundles for each slot, at least
SMALL: Final = 8_192  # bytes of the arguments of a call that may be part of one


def size_of_bundles(cost: float | None, calls: int, slots: int) -> int:
    """Return how many calls of ``cost`` µs, if it is known, make a bundle, of so many for so many slots; 1: none do."""
    most = min(calls // (SHARES * max(slots, 1)), bundles.LARGEST)
    if cost is not None:
        most = min(most, int(WORTHWHILE / max(cost, 1.0)))
    return most if most >= LEAST else 1


def is_worthwhile(cost: float | None) -> bool:
    """Return whether calls that were put together shall go so, now that their ``cost`` in µs may be known."""
    return cost is None or cost <= TOO_LONG


Like = tuple["FunctionBlob", int, float]  # of all calls of a function that have no options: retries, timeout


class Owner(Protocol):
    """Who has tasks run, and counts calls. But for `new_id`, called where outcomes are delivered."""

    def note_failure(self) -> None:
        """Count a call that has failed."""
        ...

    def new_id(self) -> int:
        """Return an id for a task."""
        ...

    def again(self, tasks: Sequence[Task], *, done: int, failed: int) -> None:
        """Have calls run that were part of a bundle; so many of them were counted as done, and as failed."""
        ...


class Bundler:
    """Puts calls of one group together."""

    def __init__(
        self, owner: Owner, collection: Collection, cost: Callable[[bytes], float | None], calls: int, slots: int
    ) -> None:
        """Put together what is worth it of so many calls for so many slots; ``cost`` tells the µs of a function's."""
        self._owner = owner
        self._collection = collection
        self._cost = cost
        self._calls = calls
        self._slots = slots
        self._gathered: dict[int, _Gathered | None] = {}  # by function; None: its calls stay alone

    def _begin(self, like: Like | None) -> _Gathered | None:
        if like is None:
            return None
        blob, retries, timeout = like
        cost = self._cost(blob.key)
        most = size_of_bundles(cost, self._calls, self._slots) if retries and not timeout else 1
        return _Gathered(blob, retries, most, FIRST if cost is None else 0) if most > 1 else None

    def take(
        self, call: PendingFunction[Any], index: int, tasks: list[Task], look: Callable[[Any], Like | None]
    ) -> bool:
        """Take in a call, member ``index`` of the group, if it may be part of a bundle; return whether it is.

        A bundle that is full joins ``tasks``. ``look`` tells what all calls of a function have in common.
        """
        function = call.function
        try:
            gathered = self._gathered[id(function)]
        except KeyError:
            gathered = self._gathered[id(function)] = self._begin(look(function))
        if gathered is None or type(call) is not PendingFunction or call.kwargs:
            return False
        size = 0
        for value in call.args:
            kind = cast("type[object]", type(value))
            if kind is int:
                if not -bundles.WIDE < value < bundles.WIDE:
                    return False
            elif kind is str:
                size += len(value) if value.isascii() else 4 * len(value)
            elif kind is bytes:
                size += len(value)
            elif kind not in bundles.PLAIN:
                return False
        if size > SMALL:
            return False
        if gathered.alone:
            gathered.alone -= 1
            return False
        entries = gathered.calls
        entries.append(call.args)
        gathered.indexes.append(index)
        gathered.size += size
        if len(entries) >= gathered.most or gathered.size > bundles.SIZE:
            self._close(gathered, tasks)
        return True

    def close(self, tasks: list[Task]) -> None:
        """Add what has been gathered to ``tasks``."""
        for gathered in self._gathered.values():
            if gathered is not None and gathered.calls:
                self._close(gathered, tasks)

    def _close(self, gathered: _Gathered, tasks: list[Task]) -> None:
        entries, indexes = gathered.calls, gathered.indexes
        gathered.calls, gathered.indexes, gathered.size = [], [], 0
        data, blob = bundles.pack(entries), gathered.blob
        bundle = Bundle(self._owner, self._collection, blob, indexes, data)
        if len(entries) == 1:
            tasks += bundle.singles([0], gathered.retries)
            return
        tasks.append(
            Task(
                self._owner.new_id(), blob, data, (), bundle, indexes[0], gathered.retries,
                name=blob.name, size=len(data), movable=True, count=len(entries),
            )
        )  # fmt: skip


class _Gathered:
    """Calls of one function that are no bundle yet."""

    __slots__ = ("alone", "blob", "calls", "indexes", "most", "retries", "size")

    def __init__(self, blob: FunctionBlob, retries: int, most: int, alone: int) -> None:
        self.blob = blob
        self.retries = retries
        self.most = most
        self.alone = alone  # calls that go alone yet
        self.calls: list[Arguments] = []
        self.indexes: list[int] = []
        self.size = 0  # bytes of text and the like


class Bundle(Sink):
    """The sink of a bundle: tells apart what has become of its calls, members ``indexes`` of a group."""

    __slots__ = ("_blob", "_collection", "_data", "_gone", "_indexes", "_owner")

    def __init__(
        self, owner: Owner, collection: Collection, blob: FunctionBlob, indexes: Sequence[int], data: bytes
    ) -> None:
        self._owner = owner
        self._collection = collection
        self._blob = blob
        self._indexes = indexes
        self._data = data
        self._gone: set[int] = set()  # places of calls that have an outcome, or that others run

    def deliver(self, task: Task, outcome: Outcome) -> None:
        """Tell the members what has become of them."""
        if isinstance(outcome, tuple):
            status, data, _, rank, *_ = outcome
            if status == OK and not self._gone:
                self._collection.take_run(Run(self._indexes, data))
            elif status in (OK, MIXED):
                self._deliver_mixed(task, status, data, rank)
            elif status == CRASHED:
                self._deliver_crash(task, outcome)
            else:
                self._give(self._rest(), outcome)
        elif isinstance(outcome, NodeLostError) and self._gone and task.losses <= task.retries:
            self._again(task, self._rest(), failed=True)
        else:
            self._give(self._rest(), outcome)

    def _deliver_mixed(self, task: Task, status: int, data: Buffer, rank: int) -> None:
        total = len(self._indexes)
        try:
            mixed = bundles.unpack_mixed(data, total) if status == MIXED else bundles.as_mixed(data, total)
            if len(mixed.values) + len(mixed.failures) + len(mixed.left) < total:
                raise ProtocolError("a bundle's outcome leaves out some of its calls")
        except ProtocolError as error:
            self._give(self._rest(), RemoteError(type(error).__name__, str(error), reason="the results make no sense"))
        else:
            self._again(task, self._take(task, mixed, rank), done=True)

    def _deliver_crash(self, task: Task, outcome: Outcome) -> None:
        """The call that ran is to blame, if it is known; what ran before it may have ended, and its value be lost."""
        guilty = failures.decode(cast("Any", outcome)[1]).place
        rest = self._rest()
        if task.cancelled:
            again, over = [], [guilty] if guilty in rest else rest
        elif task.retries > task.losses:
            again, over = rest, []
        else:
            again = [place for place in rest if 0 <= guilty < place]
            over = [place for place in rest if place not in again]
        self._give(over, outcome)
        if task.cancelled:
            self._give(self._rest(), CancelledError())
        self._again(task, again, done=True, failed=True, guilty=guilty)

    def interim(self, task: Task, data: Buffer, rank: int) -> tuple[int, int, list[Task]]:
        """Take in what has become of the calls so far; return how many have ended, and are left, and those as tasks.

        Raises `ProtocolError` for what makes no sense.
        """
        total, gone = len(self._indexes), self._gone
        mixed = bundles.unpack_mixed(data, total)
        if len(gone.union(mixed.values, mixed.failures, mixed.left)) == total:
            raise ProtocolError("a bundle that still runs, and none of its calls does")
        before = len(gone)
        left = self._take(task, mixed, rank)
        ended = len(gone) - before
        gone.update(left)
        return ended, len(left), self._wanted(task, left)

    def dissolve(self, task: Task) -> list[Task]:
        """Return the calls as tasks of their own, before anything has become of them."""
        return self._wanted(task, self._rest())

    def on_started(self, *, unstoppable: bool) -> None:
        """Pass it on."""
        self._collection.on_started(unstoppable=unstoppable)

    def on_cancel(self) -> None:
        """Pass it on."""
        self._collection.on_cancel()

    def singles(
        self, places: Iterable[int], retries: int, losses: int = 0, start: int = NOWHERE, guilty: int = -1
    ) -> list[Task]:
        """Return calls as tasks of their own; the ``guilty`` one has brought a worker down.

        ``start``: the place in its queue that the bundle's first call had.
        """
        calls, tasks = bundles.unpack(self._data), list[Task]()
        for place in places:
            data = bundles.pack_alone(calls[place])
            crashes = int(place == guilty)
            tasks.append(
                Task(
                    self._owner.new_id(), self._blob, data, (), self._collection, self._indexes[place],
                    retries - crashes, name=self._blob.name, size=len(data), movable=True, losses=losses,
                    place=start + place if start else NOWHERE, crashes=crashes,
                )
            )  # fmt: skip
        return tasks

    def _rest(self) -> list[int]:
        return [place for place in range(len(self._indexes)) if place not in self._gone]

    def _give(self, places: Iterable[int], outcome: Outcome) -> None:
        for place in places:
            self._gone.add(place)
            self._collection.take(self._indexes[place], outcome)

    def _take(self, task: Task, mixed: Mixed, rank: int) -> list[int]:
        """Give values and failures to the members that have none; return the places of calls that are left."""
        gone, take, indexes, name = self._gone, self._collection.take, self._indexes, self._blob.name
        for place, value in mixed.values.items():
            if place not in gone:
                gone.add(place)
                own = cast("tuple[bytes, tuple[bytes, ...]] | None", value if type(value) is tuple else None)
                take(indexes[place], Given(value) if own is None else (OK, *own, rank, task.id, name))
        for place, (status, failure) in mixed.failures.items():
            if place not in gone:
                gone.add(place)
                self._owner.note_failure()
                take(indexes[place], (status, failure, (), rank, task.id, name))
        return [place for place in mixed.left if place not in gone]

    def _again(
        self, task: Task, places: list[int], *, done: bool = False, failed: bool = False, guilty: int = -1
    ) -> None:
        tasks = self._wanted(task, places, guilty=guilty)
        if tasks:
            count = len(tasks)
            self._owner.again(tasks, done=count if done else 0, failed=count if failed else 0)

    def _wanted(self, task: Task, places: list[int], *, guilty: int = -1) -> list[Task]:
        """Return calls as tasks of the group, if it wants them still."""
        collection = self._collection
        if collection.done or not places:
            return []
        if task.cancelled:
            self._give(places, CancelledError())
            return []
        tasks = self.singles(places, task.retries, task.losses, task.place, guilty)
        collection.tasks += tasks  # in place: whoever cancels the group means these, too
        return tasks
