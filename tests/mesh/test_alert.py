"""Who stays awake while it waits: the thread that waits for the only task there is."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from skyward.results import Single
from skyward.wire.codec import pack_body
from skyward.wire.lone import Call
from skyward.wire.messages import Results, Tasks
from skyward.wire.parcels import LARGEST, Cutter
from skyward.wire.payload import dumps_value
from skyward.wire.statuses import OK

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

    from tests.mesh.meshes import Mesh


def test_only_who_waits_for_the_only_task_stays_awake(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    """With one more under way, there is something else to be done meanwhile."""
    (node,) = mesh.open(slots=2, calls=True)
    poll, me = mesh.engine.hub.poll, threading.get_ident()
    eager: list[bool] = []
    answers: list[Callable[[], None]] = []  # which come when this thread waits for them, not the background

    def note(timeout: float, **how: Any) -> Any:
        if threading.get_ident() == me and answers:
            eager.append(how["eager"])
            answers.pop()()
        return poll(timeout, **how)

    monkeypatch.setattr(mesh.engine.hub, "poll", note)
    alone = Single()
    mesh.submit(mesh.task(sink=alone))
    call = node.expect(Call)
    answers.append(lambda: node.reply(call.id))
    mesh.outcome(alone)
    first, second = Single(), Single()
    mesh.submit(mesh.task(sink=first), mesh.task(sink=second))
    ids = node.expect(Tasks).ids
    answers.append(lambda: node.finish(ids))
    mesh.outcome(first)
    mesh.outcome(second)
    assert eager == [True, False]


def test_nobody_stays_awake_while_pieces_come(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    """The threads that decrypt them need the processors."""
    (node,) = mesh.open(calls=True)
    gathers: list[bool] = []
    alone = Single()
    mesh.submit(mesh.task(sink=alone))
    call = node.expect(Call)
    value = bytes(LARGEST + 1)
    sizes, buffers, body = pack_body([dumps_value(value)])
    message = Results(node.epoch, 1, [call.id], [OK], sizes, buffers, [5])
    messages = list(Cutter().cut(node.epoch, message, body))
    handle = mesh.engine.hearing.handle

    def note(*args: Any) -> None:
        handle(*args)
        gathers.append(mesh.engine.hearing.gathers)

    monkeypatch.setattr(mesh.engine.hearing, "handle", note)
    for frames in messages:
        node.send_frames(frames)
    assert mesh.outcome(alone) == value
    assert gathers == [*[True] * (len(messages) - 1), False]
