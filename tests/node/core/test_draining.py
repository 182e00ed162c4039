"""Leaving in good order, by the actions that come out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from skyward.wire.messages import Beat, Bye, Drain, Draining, Returned
from skyward_node.core.actions import (
    Exit,
    Gone,
    Kill,
    Retire,
    Send,
    Shutdown,
)
from skyward_node.core.draining import PARTING
from skyward_node.executors.events import TemplateLost

if TYPE_CHECKING:
    from collections.abc import Callable

    Rig = Any

EPOCH = 77


@pytest.mark.rule("R40")
def test_shutdown_hands_back_finishes_and_waits_until_results_are_seen(make_rig: Callable[..., Rig]) -> None:
    """After SIGTERM what waits returns, what runs finishes, and the end comes when the client has it all."""
    rig = make_rig(1)
    rig.open()
    rig.submit(1, 2)
    assert rig.handle(Shutdown(30.0, "asked"))[0] == Send(b"peer1", Draining(EPOCH, 30.0, "asked"))
    assert rig.finish(1, 1) == [rig.results(1, 1)]
    bye = Send(b"peer1", Bye(EPOCH, 0, "drained"))
    assert rig.say(Beat(EPOCH, 1, 0.0)) == [bye, Retire(1)]
    assert rig.say(Bye(EPOCH, 1, "so be it")) == [Exit(0)]


def test_node_hangs_up_when_all_clients_have_answered_its_goodbye(make_rig: Callable[..., Rig]) -> None:
    """A client drops what it has not read when the connection ends, the goodbye too; a mute one is not waited for."""
    rig = make_rig(2)
    rig.open()
    rig.hello(session=b"t" * 16, peer=b"peer2")
    actions = rig.handle(Shutdown(30.0, "asked"))
    assert [action.peer for action in actions if action.message == Bye(EPOCH, 0, "drained")] == [b"peer1", b"peer2"]
    assert rig.say(Beat(EPOCH, 0, 0.0)) == []  # crossed the goodbye
    assert rig.say(Bye(EPOCH, 0, "so be it")) == []
    assert rig.core.next_deadline() <= rig.now + PARTING
    assert rig.handle(after=PARTING) == [Exit(0)]


def test_client_that_hung_up_is_not_waited_for(make_rig: Callable[..., Rig]) -> None:
    """There is nobody to read the goodbye."""
    rig = make_rig(1)
    rig.open()
    rig.handle(Shutdown(30.0, "asked"))
    assert rig.handle(Gone(b"peer1")) == [Exit(0)]


def test_shutdown_returns_what_has_not_started(make_rig: Callable[..., Rig]) -> None:
    """The client may run it elsewhere."""
    rig = make_rig(1)
    rig.open()
    rig.submit(1, 2, 3)
    assert Send(b"peer1", Returned(EPOCH, [2, 3])) in rig.handle(Shutdown(30.0, "asked"))


def test_many_tasks_are_returned_in_messages_that_a_client_takes(make_rig: Callable[..., Rig]) -> None:
    """No message names more tasks than the protocol allows."""
    rig = make_rig(1)
    rig.open()
    for start in (1, 10_001):
        rig.submit(*range(start, start + 10_000))
    actions = rig.handle(Shutdown(30.0, "asked"))
    returned = [action.message for action in actions if isinstance(action.message, Returned)]
    assert [len(message.ids) for message in returned] == [16_384, 3_615]
    assert [id for message in returned for id in message.ids] == list(range(2, 20_001))


def test_draining_node_takes_nothing_new(make_rig: Callable[..., Rig]) -> None:
    """Tasks that come now go back at once, and strangers are refused."""
    rig = make_rig(1)
    rig.open()
    rig.submit(1)
    rig.handle(Shutdown(30.0, "asked"))
    assert rig.submit(2) == [Send(b"peer1", Returned(EPOCH, [2]))]
    assert rig.hello(session=b"t" * 16, peer=b"peer2") == rig.refused("full", "the node is shutting down", b"peer2")


def test_drain_ends_at_its_deadline(make_rig: Callable[..., Rig]) -> None:
    """A task that does not finish in time is killed."""
    rig = make_rig(1, lease=60.0)
    rig.open()
    rig.submit(1)
    rig.handle(Shutdown(30.0, "asked"))
    assert rig.handle(after=29.0) == []
    assert rig.handle(after=1.1) == [
        Send(b"peer1", Bye(EPOCH, 0, "drained")),
        Kill(1),
    ]
    assert rig.say(Bye(EPOCH, 0, "so be it")) == [Exit(0)]


def test_shutdown_without_clients_is_immediate(rig: Rig) -> None:
    """An idle node just ends."""
    rig.start()
    assert rig.handle(Shutdown(30.0, "asked")) == [Exit(0)]


def test_drain_of_one_session_leaves_the_node_to_others(make_rig: Callable[..., Rig]) -> None:
    """A client may let go of the node; the daemon stays."""
    rig = make_rig(1)
    rig.open()
    actions = rig.say(Drain(EPOCH, 5.0))
    assert actions == [
        Send(b"peer1", Draining(EPOCH, 5.0, "asked by the client")),
        Send(b"peer1", Bye(EPOCH, 0, "drained")),
    ]
    assert not rig.core.node.over


def test_lost_template_ends_the_daemon(rig: Rig) -> None:
    """Without it no worker can start: the node is lost, and replaced."""
    rig.start()
    assert rig.handle(TemplateLost()) == [Exit(1)]
