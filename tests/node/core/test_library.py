"""The code of a session: what tasks hold, what is kept beside that, and what workers forget."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from skyward.wire.lone import Call
from skyward.wire.messages import Beat, Function, Module, Need, Submit
from skyward.wire.shelf import CALLS, NODE, WORKER
from skyward_node.core.actions import Action, Control, Give, Kill, Send
from skyward_node.pipe_messages import Forget

if TYPE_CHECKING:
    from collections.abc import Callable

    Rig = Any

EPOCH = 77
LARGE = bytes(NODE // 2)  # of the node's share; and all that a worker, or a task's calls, may keep
assert WORKER <= len(LARGE) >= CALLS


def key(number: int) -> bytes:
    """Return the key of a function."""
    return b"function-%07d" % number


def send(rig: Rig, *numbers: int, body: bytes = LARGE) -> None:
    """Have the client send code."""
    for number in numbers:
        rig.say(rig.function(key(number)), [body])


def submit(rig: Rig, task: int, function: int, **changes: Any) -> list[Action]:
    """Have the client send one task."""
    actions: list[Action] = rig.submit(task, functions=[key(function)], **changes)
    return actions


def need(*numbers: int) -> Send:
    """Return the client being asked for code."""
    return Send(b"peer1", Need(EPOCH, [key(number) for number in numbers], []))


def told(actions: list[Action], kind: type) -> list[Any]:
    """Return the messages of one kind."""
    return [action.message for action in actions if isinstance(action, Give | Send) and type(action.message) is kind]


@pytest.mark.rule("R21")
def test_code_that_no_task_needs_is_given_up(rig: Rig) -> None:
    """What was used longest ago; the client is asked for it when a task needs it, and the task runs then."""
    rig.open()
    send(rig, 1, 2, 3)
    (given,) = told(submit(rig, 1, 3, retries=[0]), Call)
    assert given.function == key(3)
    assert submit(rig, 2, 1) == [need(1)]
    (given,) = told(rig.say(rig.function(key(1)), [LARGE]), Call)
    assert given.ids == [2]


@pytest.mark.rule("R21")
def test_code_of_a_task_that_waits_stays(make_rig: Callable[..., Rig]) -> None:
    """However much comes after it."""
    rig = make_rig(1)
    rig.open()
    send(rig, 1)
    rig.submit(1)
    submit(rig, 2, 1)
    send(rig, 2, 3, 4, 5)
    assert told(submit(rig, 3, 1), Need) == []
    assert [message.key for message in told(rig.finish(1, 1), Function)] == [key(1)]


@pytest.mark.rule("R21")
def test_code_of_a_task_that_runs_stays(make_rig: Callable[..., Rig]) -> None:
    """A fresh worker gets it when the first one dies."""
    rig = make_rig(1)
    rig.open()
    send(rig, 1)
    submit(rig, 1, 1)
    send(rig, 2, 3, 4, 5)
    assert told(submit(rig, 2, 1), Need) == []
    actions = rig.die(1)
    assert [message.key for message in told([*actions, *rig.spawned(2)], Function)] == [key(1)]


@pytest.mark.rule("R21")
@pytest.mark.parametrize("timeout", [0.0, 60.0])
def test_ended_task_holds_no_code(make_rig: Callable[..., Rig], timeout: float) -> None:
    """Nor does the clock of its timeout."""
    rig = make_rig(1)
    rig.open()
    send(rig, 1)
    submit(rig, 1, 1, timeouts=[timeout])
    rig.finish(1, 1)
    send(rig, 2, 3, 4)
    assert submit(rig, 2, 1) == [need(1)]


@pytest.mark.rule("R21")
def test_cancelled_task_holds_no_code(make_rig: Callable[..., Rig]) -> None:
    """Although it may stay in the queue until its turn comes."""
    rig = make_rig(1)
    rig.open()
    send(rig, 1)
    rig.submit(1)
    submit(rig, 2, 1)
    rig.cancel(2)
    send(rig, 2, 3, 4)
    assert submit(rig, 3, 1) == [need(1)]


@pytest.mark.rule("R21")
def test_modules_go_with_their_functions(rig: Rig) -> None:
    """A module stays as long as a function needs it; it is asked for with the function that comes without it."""
    rig.open()
    rig.say(Module(EPOCH, b"m" * 16, "m"), [LARGE])
    rig.say(rig.function(key(1), [b"m" * 16]), [b""])
    assert rig.say(rig.function(key(2), [b"m" * 16]), [b""]) == []
    send(rig, 3, 4)
    assert rig.say(rig.function(key(5), [b"m" * 16]), [b""]) == [
        Send(b"peer1", Need(EPOCH, [key(5)], [b"m" * 16])),
    ]


@pytest.mark.rule("R21")
def test_modules_wait_for_their_function(rig: Rig) -> None:
    """Those that have come before it count as used, however large they are."""
    rig.open()
    modules = [b"module-%09d" % number for number in range(5)]
    for module in modules:
        rig.say(Module(EPOCH, module, "m"), [LARGE])
    assert rig.say(rig.function(key(1), modules), [b""]) == []
    assert told(submit(rig, 1, 1), Need) == []


@pytest.mark.rule("R21")
@pytest.mark.parametrize("threads", [False, True])
def test_worker_forgets_what_it_has_no_task_of(make_rig: Callable[..., Rig], threads: bool) -> None:
    """What was used longest ago, when more comes than it may keep; it gets that again when it needs it."""
    rig = make_rig(1, threads=threads)
    rig.open()
    actions: list[Action] = []
    for task, function in enumerate((1, 2, 3), 1):
        send(rig, function)
        actions = submit(rig, task, function)
        rig.finish(1, task)
    assert told(actions, Forget) == [Forget([key(1)], [])]
    send(rig, 1)
    actions = submit(rig, 4, 1)
    assert [message.key for message in told(actions, Function)] == [key(1)]
    assert told(actions, Forget) == [Forget([key(2)], [])]


@pytest.mark.rule("R21")
def test_worker_keeps_what_its_tasks_need(make_rig: Callable[..., Rig]) -> None:
    """Until they have ended."""
    rig = make_rig(3, threads=True)
    rig.open()
    for task, function in enumerate((1, 2, 3), 1):
        send(rig, function)
        assert told(submit(rig, task, function), Forget) == []
    rig.finish(1, 1)
    rig.finish(1, 2)
    send(rig, 4)
    assert told(submit(rig, 4, 4), Forget) == [Forget([key(1), key(2)], [])]


# --- calls of tasks ------------------------------------------------------------------------


def call(rig: Rig, parent: int, number: int, *functions: int) -> list[Action]:
    """Have a task make calls, the code of which the worker has sent."""
    none = [0] * len(functions)
    calls = [number * 100 + index for index in range(len(functions))]
    fns = list(range(len(functions)))
    keys = [key(function) for function in functions]
    names = ["g"] * len(functions)
    message = Submit(0, parent, keys, calls, fns, none, none, [], [], [-1] * len(functions), names)
    actions: list[Action] = rig.hear(1, message, [b""])
    return actions


def bring(rig: Rig, *numbers: int, body: bytes = LARGE) -> None:
    """Have a worker send code."""
    for number in numbers:
        assert rig.hear(1, Function(0, key(number), [], "g"), [body]) == []


def codes(actions: list[Action]) -> list[bytes]:
    """Return the keys of the code that goes to the client."""
    return [message.key for message in told(actions, Function)]


@pytest.mark.rule("R22")
def test_code_of_calls_goes_up_again_when_the_client_may_have_given_it_up(rig: Rig) -> None:
    """The client keeps what the last calls needed, and the node knows what that is."""
    rig.open()
    rig.submit(1)
    for number, function in enumerate((1, 2)):
        bring(rig, function)
        assert codes(call(rig, 1, number, function)) == [key(function)]
    assert codes(call(rig, 1, 2, 1)) == codes(call(rig, 1, 3, 2)) == []
    bring(rig, 3)
    assert codes(call(rig, 1, 4, 3)) == [key(3)]
    bring(rig, 1)
    assert codes(call(rig, 1, 5, 1)) == [key(1)]


@pytest.mark.rule("R22")
def test_calls_of_many_large_functions_go_up_together(rig: Rig) -> None:
    """What one message needs is there, however large it is."""
    rig.open()
    rig.submit(1)
    bring(rig, 1, 2, 3, 4)
    assert codes(call(rig, 1, 1, 1, 2, 3, 4)) == [key(number) for number in (1, 2, 3, 4)]


@pytest.mark.rule("R21")
def test_code_of_calls_is_given_up(rig: Rig) -> None:
    """A worker that counts on more than the node must keep has written to its pipe."""
    rig.open()
    rig.submit(1)
    for function in range(1, 6):
        bring(rig, function)
        call(rig, 1, function, function)
    rig.say(Beat(EPOCH, 0, 0.0, heard=5))
    assert Kill(1) in call(rig, 1, 6, 1)


@pytest.mark.rule("R22")
def test_calls_that_come_to_nothing_count_as_uses(rig: Rig) -> None:
    """As of a thread that goes on when its task has ended: its worker counts on the code from then on."""
    rig.open()
    rig.submit(1, 2)
    for function in range(1, 4):
        bring(rig, function)
        call(rig, 1, function, function)
    [answer] = call(rig, 99, 4, 2)
    assert isinstance(answer, Control)
    bring(rig, 4)
    call(rig, 1, 5, 4)
    rig.say(Beat(EPOCH, 0, 0.0, heard=4))
    for function in (5, 6):
        send(rig, function)
    assert Kill(1) not in call(rig, 1, 6, 2)


@pytest.mark.rule("R22")
def test_code_of_calls_that_may_be_lost_stays(rig: Rig) -> None:
    """After a break it is said again, with its calls, although nobody else needs it any more."""
    rig.open()
    rig.submit(1)
    for function in range(1, 6):
        bring(rig, function)
        call(rig, 1, function, function)
    actions = rig.hello(peer=b"peer2", epoch=EPOCH, heard=1)
    assert codes(actions) == [key(number) for number in (2, 3, 4, 5)]
    assert [message.seq for message in told(actions, Submit)] == [2, 3, 4, 5]
