"""A node that lies to its client: it cannot answer for others, and nobody waits because of it (F44)."""

from __future__ import annotations

import os
import pickle
from typing import TYPE_CHECKING, Any, Final

import pytest

import skyward as sky
from skyward.wire import payload
from skyward.wire.messages import Function, Module, Results, Submit
from tests.rules.work import add, hold, let_go, note, runs, until
from tests.security.forger import EPOCH, Forger

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from skyward.transport.keys import KeyPair
    from skyward.transport.sockets import Context
    from tests.security.conftest import Start

IDS: Final = range(1, 50)  # ids that tasks of a new pool have


class Bomb:
    """Its pickle makes a directory when it is opened."""

    def __init__(self, path: Path) -> None:
        self._path = str(path)

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self._path,)


@pytest.fixture
def forger(context: Context) -> Iterator[Forger]:
    """Return a node that lies."""
    forger = Forger(context)
    yield forger
    forger.close()


@pytest.fixture
def pool(start_node: Start, forger: Forger, key_file: tuple[str, KeyPair]) -> Iterator[sky.Compute]:
    """Return a pool of an honest node and one that lies."""
    path, keys = key_file
    node = start_node(keys)
    with sky.Compute(sky.Static([node.address, forger.address], key=path)) as pool:
        yield pool


def rank_of(pool: sky.Compute, address: tuple[str, str]) -> int:
    """Return the rank of a node."""
    return next(node.rank for node in pool.snapshot().nodes if node.endpoint == address[0])


@pytest.mark.rule("F44")
def test_result_of_anothers_task_is_dropped_and_logged(
    pool: sky.Compute, forger: Forger, short_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The pickle is never opened, the honest node's result arrives, and the log names the liar."""
    liar = rank_of(pool, forger.address)
    future = hold(str(short_path), "task").on(1 - liar) > pool
    runs(short_path, "task")
    forger.forge(IDS, pickle.dumps(Bomb(short_path / "bomb")))
    until(lambda: "does not hold" in caplog.text)
    assert f"node {liar} sent results" in caplog.text
    let_go(short_path, "task")
    assert future.result() == "task"
    assert not (short_path / "bomb").exists()
    assert pool.current_nodes() == 2


@pytest.mark.rule("F44")
def test_result_of_another_life_is_dropped(pool: sky.Compute, forger: Forger, short_path: Path) -> None:
    """A result that carries another epoch counts for nothing, though the task is there."""
    liar = rank_of(pool, forger.address)
    future = note(str(short_path), "never").on(liar) > pool
    until(lambda: forger.ids)
    forger.forge(forger.ids, pickle.dumps(Bomb(short_path / "bomb")), epoch=EPOCH + 1)
    forger.seq = 0
    forger.forge(forger.ids, pickle.dumps("forged, but its own to forge"))
    assert future.result() == "forged, but its own to forge"
    assert not (short_path / "bomb").exists()


@pytest.mark.rule("F44")
@pytest.mark.rule("R37")
def test_result_that_comes_twice_counts_once(pool: sky.Compute, forger: Forger, short_path: Path) -> None:
    """Said again under the same number or the next, a result is delivered once."""
    liar = rank_of(pool, forger.address)
    future = add(1, 2).on(liar) > pool
    until(lambda: forger.ids)
    forger.forge(forger.ids, pickle.dumps("first"))
    forger.seq = 0
    forger.forge(forger.ids, pickle.dumps("second"))
    forger.forge(forger.ids, pickle.dumps(Bomb(short_path / "bomb")))
    result: Any = future.result()
    assert result == "first"
    assert add(1, 2).on(1 - liar) >> pool == 3
    assert not (short_path / "bomb").exists()


@pytest.mark.rule("F44")
def test_calls_of_a_task_that_it_does_not_run_are_ignored(pool: sky.Compute, forger: Forger, short_path: Path) -> None:
    """Who has not been given a task cannot have others run code in its name."""
    liar = rank_of(pool, forger.address)
    note(str(short_path), "once").on(1 - liar) >> pool
    code = pool._maker.resolve(note)
    for module in code.modules:
        forger.tell(Module(EPOCH, module.key, module.name), [module.body])
    forger.tell(Function(EPOCH, code.key, [module.key for module in code.modules], code.name), [code.body])
    call = payload.dumps_call((str(short_path), "once"), {}, names=())[0]
    future = hold(str(short_path), "task").on(1 - liar) > pool
    runs(short_path, "task")
    for seq, parent in enumerate((1, 2, 1_000), 1):  # one that has ended, one that runs elsewhere, one that never was
        calls = Submit(EPOCH, parent, [code.key], [1], [0], [len(call.data)], [0], [], [], [1 - liar], ["note"], seq)
        forger.tell(calls, [call.data])
    own = add(1, 2).on(liar) > pool
    until(lambda: forger.ids)
    forger.forge(forger.ids, pickle.dumps(3))
    assert own.result() == 3  # so what was said before has been heard
    let_go(short_path, "task")
    assert future.result() == "task"
    assert add(1, 2).on(1 - liar) >> pool == 3
    assert (short_path / "once").read_text() == "x"


@pytest.mark.rule("F44")
@pytest.mark.parametrize("gap", [2, 2**63])
def test_node_that_makes_no_sense_is_lost(pool: sky.Compute, forger: Forger, gap: int) -> None:
    """Results with a number that cannot be end the node, and the others go on."""
    liar = rank_of(pool, forger.address)
    future = add(1, 2).on(liar) > pool
    until(lambda: forger.ids)
    forger.tell(Results(EPOCH, gap, [1], [0], [1], [0], [1]), [b"."])
    with pytest.raises(sky.NodeLostError, match="makes no sense"):
        future.result()
    assert add(1, 2).on(1 - liar) >> pool == 3
