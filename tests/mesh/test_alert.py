"""Who stays awake while it waits: the thread that waits for the only task there is."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from skyward.results import Single
from skyward.wire.lone import Call
from skyward.wire.messages import Tasks

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
