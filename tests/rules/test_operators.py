"""Calls and what the operators do with them, on real nodes."""

from __future__ import annotations

import gc
import os
from typing import TYPE_CHECKING, Any

import pytest

import skyward as sky
from skyward.errors import AbsentRankError, BroadcastError, NoPoolError, SerializationError, TaskTimeoutError
from skyward.results import Collection
from tests.rules.work import add, die_by, echo, fail, hold, let_go, meet, note, place, runs, until

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.rule("R1")
def test_call_runs_nothing_until_it_meets_a_pool(pool: sky.Compute, tmp_path: Path) -> None:
    """A call describes work; the operator runs it, once."""
    call = note(str(tmp_path), "mark")
    assert not (tmp_path / "mark").exists()
    assert call >> pool == "mark"
    assert (tmp_path / "mark").read_text() == "x"
    assert add.__name__ == "add"
    assert add.__doc__ == "Add two numbers."
    with pytest.raises(TypeError, match=r"add\(\) missing 1 required positional argument: 'a'"):
        add()  # type: ignore[call-arg]  # that is the mistake


@pytest.mark.rule("R1")
def test_decorator_sets_timeout_and_retries(pool: sky.Compute, tmp_path: Path) -> None:
    """Options of the decorator hold for every call."""

    @sky.function(timeout=0.2, retries=0)
    def stay(directory: str) -> None:
        hold.local(directory, "a")

    with pytest.raises(TaskTimeoutError):
        stay(str(tmp_path)) >> pool


@pytest.mark.rule("R2")
def test_local_runs_here_and_at_once() -> None:
    """`local` needs no pool, and runs in this process."""

    @sky.function
    def pid(x: int) -> tuple[int, int]:
        return x, os.getpid()

    assert pid.local(3) == (3, os.getpid())


@pytest.mark.rule("R3")
def test_call_beats_decorator_beats_pool_option(tmp_path: Path) -> None:
    """The nearest setting wins."""

    @sky.function(timeout=60)
    def stay(directory: str, name: str) -> str:
        return hold.local(directory, name)

    with sky.Compute(nodes=2, timeout=0.2) as pool:
        with pytest.raises(TaskTimeoutError) as of_pool:
            hold(str(tmp_path), "a") >> pool
        assert of_pool.value.timeout == 0.2
        with pytest.raises(TaskTimeoutError) as of_call:
            stay(str(tmp_path), "b").with_timeout(0.3) >> pool
        assert of_call.value.timeout == 0.3
        of_decorator = stay(str(tmp_path), "c") > pool
        runs(tmp_path, "c")
        with pytest.raises(TaskTimeoutError):
            hold(str(tmp_path), "d") >> pool  # longer than the pool's limit: the decorated one outlives it
        let_go(tmp_path, "c")
        assert of_decorator.result() == "c"


@pytest.mark.rule("R3")
def test_retries_of_the_call_count(pool: sky.Compute, tmp_path: Path) -> None:
    """A call without retries runs once, with one twice."""
    with pytest.raises(sky.WorkerCrashedError):
        die_by(9, str(tmp_path)).with_retries(0) >> pool
    assert (tmp_path / "deaths").read_text() == "x"
    with pytest.raises(sky.WorkerCrashedError):
        die_by(9, str(tmp_path)).with_retries(1) >> pool
    assert (tmp_path / "deaths").read_text() == "xxx"


@pytest.mark.rule("R3")
def test_on_chooses_the_node(pool: sky.Compute) -> None:
    """A call with a rank runs there; one with an absent rank fails at once, saying which there are."""
    assert [(place(i).on(i % 2) >> pool)[0::2] for i in range(6)] == [(i, i % 2) for i in range(6)]
    assert (place().on("head") >> pool)[2] == 0
    with pytest.raises(AbsentRankError, match=r"no node with rank 7 .*ready ranks: 0, 1"):
        place().on(7) >> pool


@pytest.mark.rule("R3")
def test_name_shows_in_the_repr() -> None:
    """A label tells calls apart."""
    assert "tuesday" in repr(add(1, 2).named("tuesday"))


@pytest.mark.rule("R3")
def test_name_shows_in_errors(pool: sky.Compute) -> None:
    """Beside that of the function, in the note of an exception and in errors of ours; at any length."""
    with pytest.raises(ValueError, match="bad 1") as caught:
        fail(1).named("tuesday") >> pool
    assert "raised by fail 'tuesday' on node" in caught.value.__notes__[0]
    with pytest.raises(sky.RemoteError, match="'monday'"):
        sky.function(lambda: next(iter(())))().named("monday") >> pool
    with pytest.raises(sky.BroadcastError) as broadcast:
        fail(2).named("friday") @ pool
    assert all("friday" in error.__notes__[0] for error in broadcast.value.errors.values())

    @sky.function
    def nest() -> int:
        return add(1, 2).named("x" * 5_000) >> sky

    assert nest() >> pool == 3


@pytest.mark.rule("R21")
def test_group_timeout_keeps_nothing(pool: sky.Compute) -> None:
    """A limit that is not over yet does not hold what a group has brought."""
    future: Any = (echo(1) & echo(2)).with_timeout(3600) > pool
    assert future.result() == (1, 2)
    del future
    gc.collect()
    assert not [thing for thing in gc.get_objects() if isinstance(thing, Collection)]


@pytest.mark.rule("R3")
def test_group_timeout_cuts_off_members(pool: sky.Compute, tmp_path: Path) -> None:
    """The time limit of a group runs from dispatch, and cancels whoever is late."""
    group = sky.gather(hold(str(tmp_path), "a"), add(1, 2), return_exceptions=True).with_timeout(2)
    late, three = group >> pool
    assert isinstance(late, TaskTimeoutError)
    assert three == 3
    assert [(place(i) >> pool)[0] for i in range(4)] == [0, 1, 2, 3]
    assert not (tmp_path / "a-done").exists()
    with pytest.raises(TaskTimeoutError):
        (hold(str(tmp_path), "b") & hold(str(tmp_path), "c")).with_timeout(0.2) >> pool


@pytest.mark.rule("R5")
@pytest.mark.rule("F28")
def test_what_cannot_be_pickled_fails_before_anything_is_sent(pool: sky.Compute, tmp_path: Path) -> None:
    """The error names the path to the culprit, and no member of the group has run."""
    import threading

    with pytest.raises(SerializationError, match=r"argument 'value' → \[0\] → _thread.lock"):
        echo([threading.Lock()]) >> pool
    with pytest.raises(SerializationError):
        (note(str(tmp_path), "mark") & echo(threading.Lock())) >> pool
    assert add(1, 2) >> pool == 3
    assert not (tmp_path / "mark").exists()
    session = threading.Lock()

    @sky.function
    def use() -> Any:
        return session

    with pytest.raises(SerializationError, match="closure variable 'session'"):
        use() >> pool


@pytest.mark.rule("R6")
def test_single_call_runs_on_one_node(pool: sky.Compute) -> None:
    """The value comes back; calls take turns on the nodes."""
    results = [place(i) >> pool for i in range(6)]
    assert [value for value, _, _ in results] == list(range(6))
    assert {node for _, _, node in results} == {0, 1}
    assert len({pid for _, pid, _ in results}) == 2
    assert os.getpid() not in {pid for _, pid, _ in results}


@pytest.mark.rule("R8")
def test_broadcast_runs_once_on_every_node(pool: sky.Compute, tmp_path: Path) -> None:
    """The values come in rank order, from as many processes."""
    values = meet(str(tmp_path), "x", 1) @ pool
    assert [name for name, _ in values] == ["x", "x"]
    assert len({pid for _, pid in values}) == 2
    assert [node for _, _, node in place("a") @ pool] == [0, 1]


@pytest.mark.rule("R8")
def test_broadcast_keeps_the_results_of_nodes_that_succeed(pool: sky.Compute) -> None:
    """The error carries each node's result or error, and names every failed node."""

    @sky.function
    def fail_on(rank: int) -> int:
        info = sky.instance_info()
        assert info is not None
        if info.node == rank:
            raise ValueError(f"bad {rank}")
        return info.node

    with pytest.raises(BroadcastError, match="node 1: ValueError: bad 1") as caught:
        fail_on(1) @ pool
    good, bad = caught.value.results
    assert good == 0
    assert isinstance(bad, ValueError)
    assert list(caught.value.errors) == [1]


@pytest.mark.rule("R9")
def test_groups_are_built_by_ampersand(pool: sky.Compute) -> None:
    """Groups flatten, have a length, iterate over their calls, and give a tuple."""
    group = (add(1, 1) & add(2, 2)) & (add(3, 3) & add(4, 4))
    assert len(group) == 4
    assert [call.args for call in group] == [(1, 1), (2, 2), (3, 3), (4, 4)]
    assert group >> pool == (2, 4, 6, 8)


@pytest.mark.rule("R9")
def test_wrong_operands_are_told_where_parentheses_belong(pool: sky.Compute) -> None:
    """Both mistakes are a `TypeError` that shows the right way."""
    with pytest.raises(TypeError, match="&"):
        add(1, 2) & 5  # type: ignore[operator]  # that is the mistake
    with pytest.raises(TypeError, match=r"\(.*&.*\) >> pool"):
        add(1, 2) & echo(3) >> pool


@pytest.mark.rule("R10")
def test_gather_takes_any_number_of_calls(pool: sky.Compute) -> None:
    """Calls, an iterable of them, or none; and nothing else."""
    assert sky.gather(*[add(i, i) for i in range(100)]) >> pool == tuple(2 * i for i in range(100))
    assert sky.gather(add(i, 1) for i in range(3)) >> pool == (1, 2, 3)
    assert sky.gather() >> pool == ()
    with pytest.raises(TypeError, match="takes calls"):
        sky.gather(1, 2)  # type: ignore[call-overload]  # that is the mistake


@pytest.mark.rule("R11")
def test_group_runs_all_members_at_once(pool: sky.Compute, tmp_path: Path) -> None:
    """Members that wait for one another meet, on two nodes; results come in submission order."""
    (a, pid_a), (b, pid_b) = (meet(str(tmp_path), "a", 2) & meet(str(tmp_path), "b", 2)) >> pool
    assert (a, b) == ("a", "b")
    assert pid_a != pid_b


@pytest.mark.rule("R14")
def test_sky_means_the_active_pool(pool: sky.Compute) -> None:
    """The module and `sky.sky` stand for the innermost open pool, also with `@`."""
    assert add(1, 2) >> sky == 3
    assert add(2, 2) >> sky.sky == 4
    assert echo("x") @ sky == ["x", "x"]
    with sky.Compute(nodes=1) as inner:
        assert len(echo(1) @ sky) == 1
        assert inner.current_nodes() == 1
    assert len(echo(1) @ sky) == 2


@pytest.mark.rule("R14")
def test_no_pool_says_how_to_open_one() -> None:
    """Without a pool the error shows what to write."""
    with pytest.raises(NoPoolError, match=r"with sky.Compute\(nodes=2\) as pool") as caught:
        add(1, 2) >> sky
    assert isinstance(caught.value, RuntimeError)


@pytest.mark.rule("R15")
def test_methods_do_what_operators_do(pool: sky.Compute) -> None:
    """`run`, `run_async`, `broadcast` and `run_parallel` are the operators by name."""
    assert pool.run(add(1, 2)) == sky.sky.run(add(1, 2)) == 3
    assert pool.run(add(1, 2) & add(3)) == (3, 3)
    assert list(pool.run(sky.gather(add(1), add(2), stream=True))) == [1, 2]
    assert pool.run_async(add(2, 2)).result() == 4
    assert pool.broadcast(echo(5)) == [5, 5]
    assert pool.run_parallel(add(1, 1), add(2, 2)) == (2, 4)


@pytest.mark.rule("R17")
def test_no_node_gets_a_second_task_while_another_is_free(pool: sky.Compute, tmp_path: Path) -> None:
    """With one node held, ten tasks after each other go to the other one; two holders sit on two nodes."""
    held = hold(str(tmp_path), "a").on(0) > pool
    runs(tmp_path, "a")
    assert {(place(i) >> pool)[2] for i in range(10)} == {1}
    let_go(tmp_path, "a")
    assert held.result() == "a"


@pytest.mark.rule("R17")
def test_tasks_start_in_submission_order_on_all_slots(tmp_path: Path) -> None:
    """Total parallelism is nodes x concurrency: four meet on two nodes of two, and the fifth waits."""
    with sky.Compute(nodes=2, concurrency=2) as pool:
        assert pool.concurrency == 2
        first = sky.gather(*[meet(str(tmp_path), str(i), 4) for i in range(4)]) >> pool
        assert len({pid for _, pid in first}) == 4
        holders = [hold(str(tmp_path), f"h{i}") > pool for i in range(5)]
        for i in range(4):
            runs(tmp_path, f"h{i}")
        assert not (tmp_path / "h4-runs").exists()
        let_go(tmp_path, "h2")
        runs(tmp_path, "h4")
        for i in range(5):
            let_go(tmp_path, f"h{i}")
        assert [future.result() for future in holders] == [f"h{i}" for i in range(5)]


def test_failure_is_not_retried(pool: sky.Compute) -> None:
    """An exception is the task's answer."""
    with pytest.raises(ValueError, match="bad 3"):
        fail(3) >> pool
    until(lambda: pool.snapshot().in_flight == 0)
    assert pool.snapshot().rerun == 0


@pytest.mark.rule("R15")
def test_map_is_lazy_ordered_and_isolates_errors(pool: sky.Compute) -> None:
    """Plain and marked functions; an item that fails, or kills its worker, is the only one that does."""
    pulled: list[int] = []

    def items() -> Any:
        for i in range(100_000):
            pulled.append(i)
            yield i

    results = pool.map(lambda x: 2 * x, items())
    assert [next(results) for _ in range(100)] == [2 * i for i in range(100)]
    assert len(pulled) < 100_000
    results.close()

    def odd(x: int) -> int:
        if x == 5:
            raise ValueError(f"bad {x}")
        if x == 50:
            os._exit(3)
        return x

    outcomes: list[Any] = []
    results = pool.map(odd, range(100))
    while True:
        try:
            outcomes.append(next(results))
        except StopIteration:
            break
        except Exception as error:  # the test is about these
            outcomes.append(error)
    assert [o for o in outcomes if isinstance(o, int)] == [i for i in range(100) if i not in (5, 50)]
    assert isinstance(outcomes[5], ValueError)
    assert isinstance(outcomes[50], sky.WorkerCrashedError)
    assert list(pool.map(add, [1, 2, 3], [10, 20, 30])) == [11, 22, 33]
    assert len({pid for _, pid, _ in pool.map(place, range(50))}) == 2


def test_repr_is_for_the_log(pool: sky.Compute) -> None:
    """It tells how many nodes are ready."""
    assert repr(pool) == "<sky.Compute on local, 2 of 2 nodes ready>"


@pytest.mark.rule("R6")
def test_value_that_python_takes_for_no_operator_is_told(pool: sky.Compute) -> None:
    """The task has run, and the operands were right; by any other way its value is a value."""
    refusing = sky.function(lambda: NotImplemented)
    with pytest.raises(TypeError, match=r"<lambda>\(\)> has returned NotImplemented.*pool\.run\(call\)"):
        refusing() >> pool
    assert pool.run(refusing()) is NotImplemented
    assert (refusing() > pool).result() is NotImplemented
    assert (refusing() & refusing()) >> pool == (NotImplemented, NotImplemented)
    assert refusing() @ pool == [NotImplemented] * 2
