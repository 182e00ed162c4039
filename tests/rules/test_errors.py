"""How failures of tasks arrive at the client (R29, F28 to F31)."""

from __future__ import annotations

import itertools
import os
import re
import sys
import threading
import time
import traceback
import types
from typing import TYPE_CHECKING, Any

import pytest

import skyward as sky
from tests.rules.work import OddError, add, echo, fail, place, raise_odd, zeros

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.mark.rule("R29")
def test_users_class_keeps_its_fields(pool: sky.Compute) -> None:
    """The client catches its own class, with the fields, and sees the whole chain in the traceback."""
    with pytest.raises(OddError) as caught:
        raise_odd(7) >> pool
    assert type(caught.value) is OddError
    assert (caught.value.code, caught.value.detail) == (7, "of the user's")
    text = "".join(traceback.format_exception(caught.value))
    assert "KeyError: 'inner'" in text
    assert text.index('raise KeyError("inner")') < text.index("raise OddError(code") < text.rindex("OddError")


@pytest.mark.rule("R29")
def test_note_names_function_node_and_task(pool: sky.Compute) -> None:
    """The node is the one it ran on, and no two tasks have the same number."""
    notes: list[str] = []
    for rank in (0, 1, 1):
        with pytest.raises(ValueError, match="bad 3") as caught:
            fail(3).on(rank) >> pool
        notes += caught.value.__notes__
    assert [note.partition(", task")[0] for note in notes] == [f"raised by fail on node {rank}" for rank in (0, 1, 1)]
    assert len({int(note.rpartition("task ")[2]) for note in notes}) == 3


@pytest.mark.rule("R29")
def test_error_of_a_call_of_the_task_has_the_note_of_the_task(pool: sky.Compute) -> None:
    """What a task makes by hand has it, too; a node is named only by functions that it has run."""

    @sky.function
    def outer(inner: str) -> None:
        if inner == "crash":
            leave().with_retries(0) >> sky
        if inner == "late":
            nap().with_timeout(0.2) >> sky
        if inner == "absent":
            nap().on(7) >> sky
        if inner == "remote":
            raise sky.RemoteError("Thing", "text", "traceback")
        raise sky.TaskTimeoutError(1.0)

    @sky.function
    def leave() -> None:
        os._exit(3)

    @sky.function
    def nap() -> None:
        time.sleep(60)

    for inner, kind, function in (
        ("crash", sky.WorkerCrashedError, "leave"),
        ("late", sky.TaskTimeoutError, "nap"),
        ("absent", sky.AbsentRankError, None),
        ("remote", sky.RemoteError, "outer"),
        ("by hand", sky.TaskTimeoutError, "outer"),
    ):
        with pytest.raises(kind) as caught:
            outer(inner).on(1) >> pool
        (note,) = caught.value.__notes__
        assert re.fullmatch(r"raised by \S+\.outer on node 1, task \d+", note)
        name = getattr(caught.value, "function", None)
        assert (name if name is None else name.rpartition(".")[2]) == function
        assert "in outer" in str(caught.value.__cause__)


@pytest.mark.rule("R29")
def test_error_is_the_same_by_every_way(pool: sky.Compute) -> None:
    """A call, a group, a stream, a future, a broadcast and `map` raise the class with cause and note."""

    def raised(run: Any) -> BaseException:
        with pytest.raises(Exception) as caught:  # noqa: PT011 - which one is checked below, for all ways alike
            run()
        return caught.value

    broadcast = raised(lambda: fail(1) @ pool)
    assert isinstance(broadcast, sky.BroadcastError)
    errors = [
        raised(lambda: fail(1) >> pool),
        raised(lambda: (add(1, 1) & fail(1)) >> pool),
        raised(lambda: list(sky.gather(fail(1), stream=True) >> pool)),
        raised((fail(1) > pool).result),
        raised(lambda: list(pool.map(fail, [1]))),
        *broadcast.errors.values(),
    ]
    assert len(errors) == 7
    for error in errors:
        assert type(error) is ValueError
        assert error.args == ("bad 1",)
        assert 'raise ValueError(f"bad {value}")' in str(error.__cause__)
        assert any("fail" in note for note in error.__notes__)


@pytest.mark.rule("R29")
def test_remote_error_keeps_its_group_alive(pool: sky.Compute) -> None:
    """What must not be raised here neither ends the iteration of a stream nor the client's program."""

    @sky.function
    def stop(value: int) -> int:
        if value % 3 == 1:
            raise StopIteration(value)
        if value % 3 == 2:
            raise GeneratorExit(value)
        return value

    stream = sky.gather(*[stop(i) for i in range(9)], stream=True, return_exceptions=True) >> pool
    results = list(stream)
    assert [result for result in results if isinstance(result, int)] == [0, 3, 6]
    failures = [result for result in results if isinstance(result, sky.RemoteError)]
    assert [error.type_name for error in failures] == ["StopIteration", "GeneratorExit"] * 3
    assert [error.remote_message for error in failures] == ["1", "2", "4", "5", "7", "8"]


@pytest.mark.rule("R29")
def test_result_that_cannot_be_unpickled_here_says_whose_it_is(pool: sky.Compute) -> None:
    """Of a call, of a member of a group, and of an item."""

    class Odd:
        def __reduce__(self) -> Any:
            return divmod, (1, 0)

    @sky.function
    def odd(_: int) -> Odd:
        return Odd()

    for attempt in (
        lambda: odd(1).on(1) >> pool,
        lambda: sky.gather(odd(1).on(1), odd(2).on(1)) >> pool,
        lambda: list(pool.map(odd, [1])),
    ):
        with pytest.raises(sky.RemoteError, match="ZeroDivisionError") as caught:
            attempt()
        assert caught.value.function is not None
        assert caught.value.function.endswith(".odd")
        assert caught.value.node in (0, 1)
        assert caught.value.task is not None


@pytest.mark.rule("R29")
def test_result_that_ends_the_program_when_it_is_unpickled_does_not(pool: sky.Compute) -> None:
    """As ``sys.exit`` in a task does not: it is one more result that cannot be unpickled."""

    class Leaving:
        def __reduce__(self) -> Any:
            return sys.exit, (3,)

    class LeavingError(Exception):
        def __setstate__(self, state: Any) -> None:
            raise SystemExit(3)

    @sky.function
    def leave(_: int) -> Leaving:
        return Leaving()

    @sky.function
    def fail_so() -> None:
        error = LeavingError()
        error.told = True  # type: ignore[attr-defined]  # so that there is a state
        raise error

    values = sky.gather(leave(1), add(1, 1), fail_so(), return_exceptions=True) >> pool
    assert [type(value) for value in values] == [sky.RemoteError, int, sky.RemoteError]
    assert [type(value) for value in pool.map(add, [1])] == [int]
    with pytest.raises(sky.RemoteError, match="SystemExit"):
        list(pool.map(leave, [1, 2]))
    with pytest.raises(sky.BroadcastError):
        leave(1) @ pool


@pytest.mark.rule("F29")
def test_argument_that_cannot_be_unpickled_names_the_module(pool: sky.Compute) -> None:
    """A module that the node lacks is a `RemoteImportError`; any other trouble is the trouble itself."""

    class Lacking:
        def __reduce__(self) -> Any:
            return __import__, ("no_such_module_anywhere",)

    class Odd:
        def __reduce__(self) -> Any:
            return divmod, (1, 0)

    for rank in (0, 1):
        with pytest.raises(sky.RemoteImportError) as caught:
            echo(Lacking()).on(rank) >> pool
        assert (caught.value.module, caught.value.node) == ("no_such_module_anywhere", rank)
        assert isinstance(caught.value, ImportError)
    with pytest.raises(ZeroDivisionError):
        echo(Odd()) >> pool

    @sky.function
    def late() -> None:
        __import__("no_such_module_anywhere")

    with pytest.raises(ModuleNotFoundError) as plain:  # the task has begun, and this is its own failure
        late() >> pool
    assert type(plain.value) is ModuleNotFoundError
    assert len(place(1) @ pool) == 2


@pytest.mark.rule("F29")
def test_function_of_a_module_in_memory_says_what_to_do(pool: sky.Compute, monkeypatch: pytest.MonkeyPatch) -> None:
    """It can be installed nowhere: what helps is a file."""
    module = types.ModuleType("made_in_memory")
    exec("def double(number):\n    return 2 * number", vars(module))
    monkeypatch.setitem(sys.modules, "made_in_memory", module)

    @sky.function
    def doubled(number: int) -> Any:
        return module.double(number)

    with pytest.raises(sky.RemoteImportError, match=r"'made_in_memory' .* put it into a file on sys\.path"):
        doubled(1) >> pool
    travels: Any = sky.function(module.double)
    assert travels(1) >> pool == 2


@pytest.mark.rule("F30")
def test_result_that_cannot_be_pickled_is_told_with_its_repr(pool: sky.Compute) -> None:
    """And so is an exception, of which class, message and traceback remain."""

    @sky.function
    def lock(label: str) -> Any:
        return {label: threading.Lock()}

    @sky.function
    def raise_lock(label: str) -> Any:
        class HoldsLockError(Exception):
            def __init__(self, label: str, lock: Any) -> None:
                super().__init__(label, lock)

            def __str__(self) -> str:
                return f"with {self.args[0]}"

        raise HoldsLockError(label, threading.Lock())

    with pytest.raises(sky.SerializationError, match=r"the result of .*lock.*\{'here': <unlocked _thread.lock"):
        lock("here") >> pool
    with pytest.raises(sky.RemoteError) as caught:
        raise_lock("there") >> pool
    assert "HoldsLockError" in caught.value.type_name
    assert "with there" in caught.value.remote_message
    assert "raise HoldsLockError(label, threading.Lock())" in caught.value.traceback
    assert len(place(2) @ pool) == 2


@pytest.mark.rule("F31")
@pytest.mark.rule("R21")
def test_what_is_too_large_is_refused_on_both_sides() -> None:
    """By size and option; what is within the limit passes, and the pool goes on."""
    with sky.Compute(nodes=2, max_payload=100_000) as pool:
        with pytest.raises(sky.ResultTooLargeError, match="max_payload=100000") as caught:
            zeros(200_000) >> pool
        assert caught.value.size >= 200_000
        assert caught.value.limit == 100_000
        with pytest.raises(sky.SerializationError, match=r"max_payload"):
            echo(bytes(200_000)) >> pool
        within = sky.gather(echo(bytes(90_000)), echo(bytes(80_000))) >> pool
        assert [len(value) for value in within] == [90_000, 80_000]
        assert len({pid for _, pid, _ in place(1) @ pool}) == 2


@pytest.mark.rule("F31")
@pytest.mark.rule("R23")
def test_number_that_is_too_large_ends_its_stream() -> None:
    """Numbers gather, as if they were small; one of a megabyte is refused at its place, one that fits arrives."""

    @sky.function
    def powers(*bits: int, then: Any) -> Iterator[Any]:
        for number in bits:
            yield 1 << number
        yield from then

    with sky.Compute(nodes=1, max_payload=1_000_000) as pool:
        for then in ([3], [["no number"]], [*range(1_000), ["no number"]], []):
            values = powers(*range(100), 6_000_000, 10_000_000, then=then) >> pool
            assert list(itertools.islice(values, 101)) == [1 << number for number in [*range(100), 6_000_000]]
            with pytest.raises(sky.ResultTooLargeError, match="max_payload=1000000"):
                next(values)


@pytest.mark.rule("R29")
def test_deep_and_large_errors_arrive(pool: sky.Compute) -> None:
    """An error of many megabytes, or of endless recursion, is told and harms nobody."""

    @sky.function
    def recurse(depth: int) -> int:
        return int(recurse.local(depth + 1)) + 1

    @sky.function
    def shout(size: int) -> None:
        raise ValueError("x" * size)

    with pytest.raises(RecursionError):
        recurse(0) >> pool
    with pytest.raises((ValueError, sky.RemoteError), match="xxx"):
        shout(20_000_000) >> pool
    assert [(place(i) >> pool)[0] for i in range(2)] == [0, 1]


@pytest.mark.rule("R29")
def test_what_must_not_be_raised_here_becomes_a_remote_error(pool: sky.Compute) -> None:
    """`StopIteration`, `StopAsyncIteration`, any other `BaseException`, and what cannot be unpickled."""

    class Odd(BaseException):
        pass

    class Unpicklable(Exception):
        def __init__(self, a: int, b: int) -> None:
            super().__init__(f"{a} and {b}")

    @sky.function
    def raise_it(kind: str) -> None:
        errors = {
            "stop": StopIteration(3),
            "async": StopAsyncIteration(4),
            "odd": Odd("odd one"),
            "keyboard": KeyboardInterrupt("no"),
            "unpicklable": Unpicklable(1, 2),
        }
        raise errors[kind]

    for kind, name, text in [
        ("stop", "StopIteration", "3"),
        ("async", "StopAsyncIteration", "4"),
        ("odd", "Odd", "odd one"),
        ("keyboard", "KeyboardInterrupt", "no"),
        ("unpicklable", "Unpicklable", "1 and 2"),
    ]:
        with pytest.raises(sky.RemoteError) as caught:
            raise_it(kind) >> pool
        assert name in caught.value.type_name
        assert text in caught.value.remote_message
        assert "raise errors[kind]" in caught.value.traceback
