"""Lone tasks on a real daemon, which take no turn of its loop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from skyward.wire.messages import Pulse
from tests.node.work import add, hold, let_go

if TYPE_CHECKING:
    from collections.abc import Callable

    Serve = Callable[..., tuple[Any, Any]]


@pytest.mark.rule("R37")
def test_lone_tasks_run_and_results_come_back_once(serve: Serve) -> None:
    """Also with others between them, and after pauses in which the node has nothing to do but to wait."""
    _, client = serve(concurrency=2)
    client.hello(replies=True)
    values = [client.value(client.call(add, n, 1)) for n in range(200)]
    assert values == list(range(1, 201))
    ids = [client.call(add, n, 1) for n in range(50)]
    assert [client.value(id) for id in ids] == list(range(1, 51))
    client.wait_for(Pulse)
    more = [client.value(client.call(add, 0, 0)) for _ in range(3)], client.value(client.submit(add, 1, 1))
    assert more == ([0] * 3, 2)
    assert sorted(client.deliveries) == list(range(1, client.next_id))


@pytest.mark.rule("R37")
def test_outcome_of_a_lone_task_waits_for_its_client(
    serve: Serve, context: Callable[[Any], Any], directory: Any
) -> None:
    """One whose connection is gone when it comes is told to the next connection of the session."""
    daemon, client = serve()
    client.hello(replies=True)
    assert client.value(client.call(add, 1, 2)) == 3
    assert client.value(client.call(hold, _let_go(directory / "a"))) == "let go"
    id = client.call(hold, str(directory / "b"))
    client.until((directory / "b-runs").exists)
    client.socket.close(0)
    let_go(directory / "b")
    other = context(daemon)
    other.session, other.epoch, other.seen = client.session, client.epoch, client.seen
    other.hello(replies=True)
    assert other.value(id) == "let go"
    other.next_id = client.next_id
    assert other.value(other.call(add, 2, 3)) == 5
    assert other.deliveries == [id, id + 1]


def _let_go(path: Any) -> str:
    let_go(path)
    return str(path)
