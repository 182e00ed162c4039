"""What travels: code, arguments and results, as they are at dispatch."""

from __future__ import annotations

import functools
import importlib
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

import skyward as sky
from skyward.wire.messages import Function as FunctionMessage
from tests.rules.processes import pid_of
from tests.rules.work import add, async_add, echo, hold, let_go, place, runs, until

if TYPE_CHECKING:
    from types import ModuleType

MAIN = """
import os
from dataclasses import dataclass
import skyward as sky

factor = 3

@dataclass
class Point:
    x: int
    def scaled(self): return Point(self.x * factor)

class Base:
    shared = "client"

@sky.function
def scale(point): return point.scaled(), os.getpid()

@sky.function
def spoil(value):
    Base.shared = "worker"
    return Base()

def closure(n):
    return sky.function(lambda x, *, y=1: (x + n) * y)

with sky.Compute(nodes=2) as pool:
    results = sky.gather(scale(Point(1)), scale(Point(2))) >> pool
    print([point for point, _ in results], all(type(point) is Point for point, _ in results))
    print(os.getpid() not in [pid for _, pid in results])
    print(closure(10)(1, y=2) >> pool)
    print(type(spoil(1) >> pool) is Base, Base.shared)
    factor = 5
    print((scale(Point(1)) >> pool)[0])
"""


@pytest.mark.rule("R4")
@pytest.mark.rule("R48")
def test_main_script_travels_by_value(tmp_path: Path) -> None:
    """Classes of ``__main__`` work as arguments and results; a result changes no class; globals rebind."""
    script = tmp_path / "script.py"
    script.write_text(MAIN)
    out = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False, timeout=120)
    assert out.stdout.splitlines() == [
        "[Point(x=3), Point(x=6)] True",
        "True",
        "22",
        "True client",
        "Point(x=5)",
    ], out.stderr


@pytest.mark.rule("R4")
def test_values_of_all_kinds_come_back_equal(pool: sky.Compute) -> None:
    """Containers, arrays, frames, and what the standard library has."""
    import datetime as dt
    import decimal
    import enum

    color = enum.Enum("color", "RED GREEN")
    values: list[Any] = [
        {"a": [1, (2, {3}), None], "b": {"c": b"x" * 100_000}},
        dt.datetime(2020, 1, 1, tzinfo=dt.UTC),
        decimal.Decimal("1.5"),
        Path("/tmp"),
        1 << 1000,
    ]
    assert list(sky.gather(*[echo(value) for value in values]) >> pool) == values
    assert (echo(color.GREEN) >> pool).name == "GREEN"
    array = np.arange(100_000).reshape(100, 1000)[:, ::2]
    assert np.array_equal(echo(array) >> pool, array)
    frame = pd.DataFrame({"a": [1, 2, 3], "b": ["x", "y", "z"]})
    pd.testing.assert_frame_equal(echo(frame) >> pool, frame)


@pytest.mark.rule("R4")
def test_arrays_arrive_writable(pool: sky.Compute) -> None:
    """On the worker and back here, small and large, as in a local call."""

    @sky.function
    def increment(array: Any) -> Any:
        array += 1
        return array

    for size in (10, 4_000, 20_000, 1_000_000):
        array = np.zeros(size)
        result = increment(array) >> pool
        result += 1
        assert (result == 2).all()
        assert (array == 0).all()


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a maker of modules that are the user's own; it writes and imports, or reloads, them."""
    monkeypatch.syspath_prepend(str(tmp_path / "lib"))
    (tmp_path / "lib").mkdir()
    names: list[str] = []

    def make(name: str, source: str) -> ModuleType:
        path = tmp_path / "lib" / f"{name}.py"
        path.write_text(source)
        stamp = 1_000_000_000 + len(names)
        os.utime(path, (stamp, stamp))
        names.append(name)
        importlib.invalidate_caches()
        if name in sys.modules:
            return importlib.reload(sys.modules[name])
        return importlib.import_module(name)

    yield make
    for name in names:
        sys.modules.pop(name, None)


@pytest.mark.rule("R4")
@pytest.mark.rule("R48")
def test_users_modules_travel_as_source(module: Any) -> None:
    """They are imported under their own name on the worker; a changed file is new code at the next dispatch."""
    module("skytest_helper", "def twice(x): return 2 * x\n")
    source = (
        "import os\nimport skyward as sky\nimport skytest_helper\n"
        "@sky.function\ndef work(x): return {0} * skytest_helper.twice(x), __name__, os.getpid()\n"
    )
    work = module("skytest_work", source.format(1))
    with sky.Compute(nodes=2) as pool:
        results = sky.gather(work.work(1), work.work(2)) >> pool
        assert [(value, name) for value, name, _ in results] == [(2, "skytest_work"), (4, "skytest_work")]
        assert os.getpid() not in {pid for _, _, pid in results}
        work = module("skytest_work", source.format(10))
        assert (work.work(1) >> pool)[0] == 20
        module("skytest_helper", "def twice(x): return 200 * x\n")
        assert (work.work(1) >> pool)[0] == 2000


@pytest.mark.rule("R4")
def test_cached_functions_and_properties_travel(pool: sky.Compute, module: Any) -> None:
    """By value, with empty caches, or by name from a module."""

    @functools.lru_cache(maxsize=10, typed=True)
    def fibonacci(n: int) -> int:
        return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)

    class Lazy:
        @functools.cached_property
        def pid(self) -> int:
            return os.getpid()

    @sky.function
    def work(lazy: Lazy) -> tuple[Any, ...]:
        return fibonacci(80), fibonacci.cache_parameters(), fibonacci.cache_info().currsize, lazy.pid == os.getpid()

    fibonacci(5)
    assert work(Lazy()) >> pool == (fibonacci(80), {"maxsize": 10, "typed": True}, 10, True)
    named = module("skytest_cached", "import functools\n@functools.cache\ndef where(): return __name__\n")
    assert echo(named.where) >> pool is named.where
    assert sky.function(lambda: [named.where()])() >> pool == ["skytest_cached"]
    assert sky.function(named.where)() >> pool == "skytest_cached"


@pytest.mark.rule("R4")
def test_map_sends_a_marked_function_of_a_module_by_name(pool: sky.Compute, module: Any) -> None:
    """It has the globals that the module's source makes, not those of the client."""
    source = "import skyward as sky\nX = 1\n@sky.function\ndef work(_): return X, __name__\n"
    work = module("skytest_map", source)
    work.X = 2
    assert list(pool.map(work.work, [0])) == [work.work(0) >> pool] == [(1, "skytest_map")]


@pytest.mark.rule("R48")
def test_running_tasks_keep_what_they_started_with(pool: sky.Compute, tmp_path: Path) -> None:
    """Rebinding a captured name is new code for the next call alone."""
    word = "old"

    @sky.function
    def say(directory: str, name: str) -> str:
        hold.local(directory, name)
        return word

    first = say(str(tmp_path), "a") > pool
    runs(tmp_path, "a")
    word = "new"
    second = say(str(tmp_path), "b") > pool
    for name in "ab":
        let_go(tmp_path, name)
    assert (first.result(), second.result()) == ("old", "new")


@pytest.mark.rule("R48")
def test_edit_between_two_futures_is_new_code_for_the_second(module: Any, tmp_path: Path) -> None:
    """However quickly calls follow each other, each has the code that its file had when it was made."""
    source = "import skyward as sky\n@sky.function\ndef version(_): return {}\n"
    work = module("skytest_quick", source.format(0))
    path = tmp_path / "lib" / "skytest_quick.py"
    with sky.Compute(nodes=2) as pool:
        futures = []
        for edition in range(1, 5):
            futures += [work.version(number) > pool for number in range(100)]
            new = tmp_path / "new.py"
            new.write_text(source.format(edition))
            futures += [work.version(number) > pool for number in range(100)]
            new.replace(path)  # the quickest way to change a file
        got = [future.result() for future in futures]
    assert got == [edition for edition in range(4) for _ in range(200)]


@pytest.mark.rule("R47")
def test_arguments_are_snapshotted_at_dispatch(pool: sky.Compute, tmp_path: Path) -> None:
    """Changing an array after `>`, or while a stream runs, affects no run."""
    holders = [hold(str(tmp_path), str(i)).on(i) > pool for i in range(2)]
    array, smaller = np.ones(100_000), np.ones(10_000)  # in shared memory, and beside it
    small = [1, 2]
    future = (echo(array) & echo(smaller) & echo(small)) > pool
    stream = sky.gather(echo(array), echo(bytearray(b"x" * 100_000)), stream=True) >> pool
    array[:] = smaller[:] = 5
    small.append(3)
    for i in range(2):
        let_go(tmp_path, str(i))
    got, got_smaller, got_small = future.result()
    assert (got == 1).all()
    assert (got_smaller == 1).all()
    assert got_small == [1, 2]
    assert (next(stream) == 1).all()
    assert [holder.result() for holder in holders] == ["0", "1"]


@pytest.mark.rule("R47")
def test_rerun_has_the_arguments_of_the_first_run(pool: sky.Compute, tmp_path: Path) -> None:
    """A task that is run again after its node was lost sees what was dispatched."""
    import signal

    @sky.function
    def total(directory: str, name: str, array: Any) -> float:
        hold.local(directory, name)
        return float(array.sum())

    array = np.ones(100_000)
    future = total(str(tmp_path), "a", array) > pool
    runs(tmp_path, "a")
    array[:] = 7
    (tmp_path / "a-runs").unlink()
    busy = next(node for node in pool.snapshot().nodes if node.in_flight)
    os.kill(pid_of(busy), signal.SIGKILL)
    runs(tmp_path, "a")
    let_go(tmp_path, "a")
    assert future.result() == 100_000


@pytest.mark.rule("R19")
def test_code_is_serialized_once_and_sent_once_per_node(pool: sky.Compute, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not per call; a new version is sent anew."""
    from skyward.mesh import talk
    from skyward.wire import functions

    sent: list[str] = []
    serialized: list[str] = []
    by_value, send = functions._by_value, talk.Talk.send

    def count_sent(self: talk.Talk, mate: Any, message: Any, body: Any = (), **how: Any) -> None:
        if isinstance(message, FunctionMessage):
            sent.append(message.name)
        send(self, mate, message, body, **how)

    def count_serialized(function: Any) -> Any:
        serialized.append(function.__name__)
        return by_value(function)

    monkeypatch.setattr(talk.Talk, "send", count_sent)
    monkeypatch.setattr(functions, "_by_value", count_serialized)
    n = 1

    @sky.function
    def work(x: int) -> tuple[int, int]:
        return x + n, os.getpid()

    for _ in range(3):
        results = sky.gather(*[work(i) for i in range(50)]) >> pool
        assert [value for value, _ in results] == [i + 1 for i in range(50)]
    assert len(work(1) @ pool) == 2
    assert (len(sent), len(serialized)) == (2, 1)
    n = 2
    assert [value for value, _ in work(1) @ pool] == [3, 3]
    assert (len(sent), len(serialized)) == (4, 2)


@pytest.mark.rule("R19")
def test_broadcast_serializes_its_arguments_once(pool: sky.Compute) -> None:
    """Whatever the number of nodes."""
    pickled: list[int] = []

    class Counted:
        def __reduce__(self) -> Any:
            pickled.append(1)
            return int, (5,)

    assert echo(Counted()) @ pool == [5, 5]
    assert pickled == [1]


@pytest.mark.rule("R49")
def test_async_functions_are_awaited_on_the_worker(pool: sky.Compute) -> None:
    """The value comes back, also in groups and futures, from both nodes."""
    assert async_add(1, 2) >> pool == 3
    assert sky.gather(*[async_add(i, i) for i in range(4)]) >> pool == (0, 2, 4, 6)
    assert (async_add(2, 2) > pool).result() == 4

    @sky.function
    async def where(x: int) -> tuple[int, int]:
        import asyncio

        await asyncio.sleep(0)
        return x, os.getpid()

    assert len({pid for _, pid in where(1) @ pool}) == 2


@pytest.mark.rule("R49")
def test_async_function_can_be_cancelled(pool: sky.Compute, tmp_path: Path) -> None:
    """Its coroutine sees the cancel, and its worker lives on."""

    def mark(directory: str, name: str) -> None:
        Path(directory, name).touch()

    @sky.function
    async def wait(directory: str) -> None:
        import asyncio

        mark(directory, "a-runs")
        try:
            await asyncio.sleep(3600)
        finally:
            mark(directory, "finally")

    pid = (place().on(1) >> pool)[1]
    future = wait(str(tmp_path)).on(1) > pool
    runs(tmp_path, "a")
    assert future.cancel()
    until((tmp_path / "finally").exists)
    assert (place().on(1) >> pool)[1] == pid


@pytest.mark.rule("R5")
def test_pool_travels_to_its_own_nodes_only(pool: sky.Compute) -> None:
    """Another pool, a call, or what a pool gives for calls, as an argument is a `TypeError` that says so."""
    with sky.Compute(nodes=1) as other, pytest.raises(TypeError, match="its own nodes"):
        echo(other) >> pool
    future = add(1, 2) > pool
    stream = sky.gather(add(1, 2), add(3, 4), stream=True) >> pool
    mapped = pool.map(add, [1, 2])
    for value in (add(1, 2), add(1, 2) & add(3, 4), future, stream, mapped):
        with pytest.raises(TypeError, match="cannot be an argument or a result: calls cannot be nested yet"):
            echo([value]) >> pool
    assert (future.result(), list(stream), list(mapped)) == (3, [3, 7], [1, 2])
    with pytest.raises(TypeError):
        echo(threading.Lock()) >> pool
