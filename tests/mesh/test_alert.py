"""Who stays awake while it waits: the thread that waits for the only task there is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from skyward.results import Single
from skyward.wire.lone import Call
from skyward.wire.messages import Tasks

if TYPE_CHECKING:
    import pytest

    from tests.mesh.meshes import Mesh


def test_only_who_waits_for_the_only_task_stays_awake(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    """With one more under way, there is something else to be done meanwhile."""
    (node,) = mesh.open(slots=2, calls=True)
    poll = mesh.engine.hub.poll
    eager: list[bool] = []

    def note(timeout: float, **how: Any) -> Any:
        eager.append(how["eager"])
        return poll(timeout, **how)

    monkeypatch.setattr(mesh.engine.hub, "poll", note)
    alone = Single()
    mesh.submit(mesh.task(sink=alone))
    node.reply(node.expect(Call).id)
    mesh.outcome(alone)
    assert any(eager)
    first, second = Single(), Single()
    mesh.submit(mesh.task(sink=first), mesh.task(sink=second))
    ids = node.expect(Tasks).ids
    eager.clear()
    node.finish(ids)
    mesh.outcome(first)
    mesh.outcome(second)
    assert eager
    assert not any(eager)
