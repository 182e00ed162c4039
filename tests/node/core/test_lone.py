"""The short way of a lone task and the usual one are the same in all that can be seen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyward.wire.lone import Call, Reply
from skyward.wire.messages import Beat, Release, Roster
from skyward_node.core.actions import Incoming, Send, Shutdown
from skyward_node.executors.events import Printed
from tests.node.core.conftest import EPOCH, KEY, OTHER_KEY, Rig

if TYPE_CHECKING:
    from skyward_node.core.actions import Action


class Script:
    """Steps of a client and of workers, each of which does something in every state."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.last = 0

    def _some(self, number: int) -> int:
        return 1 + number % max(self.last, 1)

    def _holder(self, number: int) -> tuple[int, int] | None:
        held = [(worker.id, next(iter(worker.tasks))) for worker in self.rig.core.node.workers.values() if worker.tasks]
        return held[number % len(held)] if held else None

    def call(self, number: int) -> list[Action]:
        """One task in one frame; every fourth time with a time limit, every fifth with no second try."""
        self.last += 1
        timeout = 5.0 if number % 4 == 3 else 0.0
        data = b"args %d" % self.last
        return self.rig.say(Call(EPOCH, self._seen(number), KEY, self.last, data, 0 if number % 5 == 4 else 3, timeout))

    def _seen(self, number: int) -> int:
        """Return what the client acknowledges: nothing every third time, else all."""
        session = self.rig.core.node.sessions.get(self.rig.session)
        return session.outbox.seq if session is not None and number % 3 else 0

    def round_trip(self, number: int) -> list[Action]:
        """One task in one frame, whose worker ends it."""
        return self.call(number) + self.reply(number)

    def submit(self, number: int) -> list[Action]:
        """The same as a batch."""
        self.last += 1
        return self.rig.submit(self.last, retries=[0 if number % 5 == 4 else 3])

    def submit_two(self, number: int) -> list[Action]:
        """Two tasks at once."""
        self.last += 2
        return self.rig.submit(self.last - 1, self.last)

    def submit_again(self, number: int) -> list[Action]:
        """A task that is known."""
        return self.rig.submit(self._some(number))

    def call_again(self, number: int) -> list[Action]:
        """The same in one frame."""
        return self.rig.say(Call(EPOCH, 0, KEY, self._some(number), b"args"))

    def call_other(self, number: int) -> list[Action]:
        """One task of the second of two functions, or of one that is not there."""
        self.last += 1
        return self.rig.say(Call(EPOCH, 0, b"h" * 16 if number % 10 == 9 else OTHER_KEY, self.last, b"args", 1))

    def call_what_is_refused(self, number: int) -> list[Action]:
        """One task in another's name, for another life of the node, or with an answer to what was never said."""
        epoch, ack, user = [(EPOCH, 0, "somebody"), (EPOCH + 1, 0, ""), (EPOCH, 10_000, "")][number % 3]
        return self.rig.handle(Incoming(self.rig.peer, Call(epoch, ack, KEY, self.last + 1, b"args"), (), user))

    def hesitate(self, number: int) -> list[Action]:
        """A task comes some milliseconds later."""
        self.rig.now += 0.001 * (number % 12)
        return self.call(number)

    def share(self, number: int) -> list[Action]:
        """Another client comes, seldom; its tasks take turns with ours."""
        if number % 10 != 9:
            return []
        return self.rig.hello(peer=b"other", session=b"o" * 16)

    def reply(self, number: int) -> list[Action]:
        """A worker ends its first task, and says so in one frame."""
        found = self._holder(number)
        return self._reply(*found, status=number % 2, elapsed=number) if found else []

    def _reply(self, worker: int, id: int, status: int = 0, elapsed: int = 1) -> list[Action]:
        return self.rig.hear(worker, Reply(0, 0, id, status, elapsed, b"result"))

    def finish(self, number: int) -> list[Action]:
        """The same as a batch."""
        found = self._holder(number)
        return self.rig.finish(*found, elapsed=number, status=number % 2) if found else []

    def reply_of_what_is_not_there(self, number: int) -> list[Action]:
        """A worker ends a task that it does not have."""
        return self._reply(1 + number % 2, 10_000)

    def cancel(self, number: int) -> list[Action]:
        """The client cancels a task, or takes it back."""
        return self.rig.cancel(self._some(number), running=number % 2 == 0)

    def progress(self, number: int) -> list[Action]:
        """A worker says that its task takes long."""
        found = self._holder(number)
        return self.rig.progress(*found) if found else []

    def hand_back(self, number: int) -> list[Action]:
        """A worker hands a task back."""
        found = self._holder(number)
        return self.rig.hand_back(*found) if found else []

    def print(self, number: int) -> list[Action]:
        """A worker prints a line, or begins one."""
        return self.rig.handle(Printed(1 + number % 2, 1, b"x\ny" if number % 3 else b"z"))

    def die(self, number: int) -> list[Action]:
        """A worker dies."""
        found = self._holder(number)
        return self.rig.die(found[0]) if found else []

    def spawn(self, number: int) -> list[Action]:
        """All workers that were started come up."""
        fresh = [worker.id for worker in self.rig.core.node.workers.values() if not worker.spawned]
        return [action for worker in fresh for action in self.rig.spawned(worker)]

    def beat(self, number: int) -> list[Action]:
        """The client acknowledges what it was sent."""
        session = self.rig.core.node.sessions.get(self.rig.session)
        return self.rig.say(Beat(EPOCH, session.outbox.seq if session else 0, 1.0))

    def roster(self, number: int) -> list[Action]:
        """The client says who the nodes are."""
        return self.rig.say(Roster(EPOCH, 0, "job", [], [], 0))

    def release(self, number: int) -> list[Action]:
        """The client reads a result no more."""
        return self.rig.say(Release(EPOCH, [(1 << 32) + number]))

    def wait(self, number: int) -> list[Action]:
        """Time passes."""
        return self.rig.handle(after=0.3 * (number % 20))

    def greet(self, number: int) -> list[Action]:
        """The client comes back over a new connection."""
        session = self.rig.core.node.sessions.get(self.rig.session)
        self.rig.peer = b"peer%d" % (10 + number)
        return self.rig.hello(epoch=EPOCH, ack=session.outbox.acked if session else 0, replies=number % 4 > 0)

    def drain(self, number: int) -> list[Action]:
        """The node shall end."""
        return self.rig.handle(Shutdown(1.0, "asked to")) if number % 7 == 6 else []


STEPS = [name for name in vars(Script) if not name.startswith("_")]
LIKELY = [*["call", "reply"] * 12, *["round_trip"] * 60, "beat", "beat"]  # else nothing is ever alone

CALM = [*["round_trip"] * 8, "reply", "reply", "reply", "call", "hesitate", "call_other", "beat"]


def histories(names: list[str]) -> st.SearchStrategy[list[tuple[str, int]]]:
    """Return some of these steps, each with a number that says which of its kinds it is."""
    return st.lists(st.tuples(st.sampled_from(names), st.integers(0, 100)), min_size=5, max_size=40)


def books(rig: Rig) -> Any:
    """Return what a core has written down."""
    node = rig.core.node
    sessions = [
        (
            [
                (task.id, task.state, task.wish, task.retries, task.crashes, task.spared)
                for task in session.tasks.values()
            ],
            (session.highest, session.queued, list(session.idle), [*session.seats], session.silence),
            (session.outbox.seq, session.outbox.acked, session.outbox.size, session.outbox.entries),
            (session.outbox.done, session.outbox.failed, sorted(code.cost for code in session.library._codes.values())),
        )
        for session in node.sessions.values()
    ]
    workers: list[Any] = [
        (worker.id, list(worker.tasks), worker.load, worker.pace, worker.used, worker.stuck, worker.index, worker.told)
        for worker in node.workers.values()
    ]
    workers += [(worker.idle_since, worker.spawned, worker.leaving, worker.last) for worker in node.workers.values()]
    return sessions, workers, node.running, node.lent, sorted(node.stuck), [timer[0] for timer in node._timers]


@pytest.mark.rule("R37")
@given(
    steps=histories(STEPS + LIKELY) | histories(CALM),
    concurrency=st.integers(1, 2),
    heartbeat=st.sampled_from([60.0, 0.05]),
    mode=st.sampled_from([{}, {}, {}, {"threads": True}, {"reuse": False}]),
)
def test_both_ways_say_and_note_the_same(
    steps: list[tuple[str, int]], concurrency: int, heartbeat: float, mode: dict[str, bool]
) -> None:
    """Whatever comes, in whatever order, nothing tells which way a task has gone."""
    short, usual = Script(Rig(concurrency, **mode)), Script(Rig(concurrency, short=False, **mode))
    for script in (short, usual):
        script.rig.open(heartbeat=heartbeat, replies=True)
        script.rig.say(script.rig.function(OTHER_KEY), [b"code of g"])
        script.submit(0)
        script.finish(0)
    for name, number in steps:
        assert getattr(short, name)(number) == getattr(usual, name)(number)
        assert books(short.rig) == books(usual.rig)


def test_lone_task_goes_the_short_way(rig: Rig) -> None:
    """The second call of a client that waits for each of its calls takes no other."""
    rig.open(replies=True)
    rig.submit(1)  # its worker does not have the code
    rig.finish(1, 1)
    assert rig.say(Call(EPOCH, 0, KEY, 2, b"args 2")) == [rig.give(1, 2)]
    assert rig.hear(1, Reply(0, 0, 2, 0, 50_000, b"result 2")) == [
        Send(rig.peer, Reply(EPOCH, 2, 2, 0, 50_000, b"result 2"))
    ]
    assert rig.shortened == 2


@pytest.mark.parametrize("pause", [0.001, 0.5])
def test_pauses_do_not_close_the_short_way(rig: Rig, pause: float) -> None:
    """Calls and results that come late take it, too, until something else is due."""
    rig.open(replies=True)
    rig.submit(1)
    rig.finish(1, 1)
    rig.now += pause
    rig.say(Call(EPOCH, 0, KEY, 2, b"args 2"))
    rig.now += pause / 2
    rig.hear(1, Reply(0, 0, 2, 0, 50_000, b"result 2"))
    assert rig.shortened == 2


def test_tasks_of_several_threads_go_the_short_way(rig: Rig) -> None:
    """Each worker has a task of its own, and ends it in whatever order."""
    rig.open(replies=True)
    for id in (1, 2):
        rig.submit(id)
    for id in (1, 2):
        rig.finish(id, id)
    for id, worker in ((3, 2), (4, 1)):
        assert rig.say(Call(EPOCH, 0, KEY, id, b"args %d" % id)) == [rig.give(worker, id)]
    for id, worker in ((3, 2), (4, 1)):
        assert rig.hear(worker, Reply(0, 0, id, 0, 50_000, b"r")) == [
            Send(rig.peer, Reply(EPOCH, id, id, 0, 50_000, b"r"))
        ]
    assert rig.shortened == 4


def test_client_that_does_not_know_replies_gets_none(rig: Rig) -> None:
    """One small result is a batch of one to it."""
    rig.open()
    rig.submit(1)
    assert rig.hear(1, Reply(0, 0, 1, 0, 50_000, b"result 1")) == [rig.results(1, 1)]
    rig.hello(epoch=EPOCH, replies=True)
    rig.submit(2)
    assert rig.finish(1, 2) == [Send(rig.peer, Reply(EPOCH, 2, 2, 0, 50_000, b"result 2"))]
