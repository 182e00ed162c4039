"""Failures from node to client: as themselves, or as an error that says as much as is known."""

from __future__ import annotations

import concurrent.futures
import re
import sys
import traceback
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyward.errors import (
    AbsentRankError,
    DeadlockError,
    NodeLostError,
    RemoteError,
    RemoteImportError,
    ResultTooLargeError,
    SerializationError,
    TaskTimeoutError,
    WorkerCrashedError,
)
from skyward.wire import failures
from skyward.wire.messages import MAX_TEXT
from skyward.wire.statuses import (
    CANCELLED,
    CRASHED,
    IMPORT_FAILED,
    NODE_LOST,
    RAISED,
    REFUSED,
    TIMED_OUT,
    TOO_LARGE,
    UNSERIALIZABLE,
    Failure,
)
from tests.wire.elsewhere import run_as_main

if TYPE_CHECKING:
    from tests.wire.elsewhere import Elsewhere


def caught(error: BaseException) -> BaseException:
    """Return the exception as `except` sees it, with a traceback."""
    try:
        raise error
    except BaseException as raised:
        return raised


def arrived(failure: Failure) -> BaseException:
    """Return what the client raises."""
    return failures.to_exception(failures.encode(failure), function="train", node=3, task=17)


def sent(error: BaseException) -> BaseException:
    """Return what the client raises for an exception of a task."""
    return arrived(failures.from_exception(caught(error)))


ERRORS = """
class Good(ValueError):
    def __init__(self, text, code):
        super().__init__(text, code)
        self.code = code

class Picky(Exception):
    def __init__(self, *, code):
        super().__init__(f"code {code}")

class Holding(Exception):
    def __init__(self, text):
        super().__init__(text)
        import threading
        self.lock = threading.Lock()

class Telling(Exception):
    def __init__(self, number):
        super().__init__(f"value {number} is bad")
        self.number = number

class Changing(Exception):
    def __reduce__(self): return ValueError, ("other",)

class Mute(Exception):
    def __str__(self): raise RuntimeError

class Stiff(Exception):
    def __setattr__(self, name, value): raise AttributeError(name)
    def add_note(self, note): raise AttributeError(note)

KINDS = {"Good": Good, "Picky": Picky, "Holding": Holding, "Changing": Changing, "Mute": Mute, "Telling": Telling}

def throw(name, *args, **kwargs):
    raise KINDS[name](*args, **kwargs)
"""


@pytest.mark.rule("R29")
def test_exception_is_raised_with_its_own_class(elsewhere: Elsewhere) -> None:
    """A task's exception, also of a class of ``__main__``, arrives as itself with all its state."""
    main = run_as_main(ERRORS)
    with pytest.raises(main["Good"]) as info:
        elsewhere.call(main["throw"], "Good", "text", code=5)
    assert type(info.value) is main["Good"]
    assert info.value.args == ("text", 5)
    assert info.value.code == 5


@pytest.mark.rule("R29")
def test_exception_says_what_it_said(elsewhere: Elsewhere) -> None:
    """Its class makes the text from other arguments, and shall not do it from the text."""
    main = run_as_main(ERRORS)
    with pytest.raises(main["Telling"]) as info:
        elsewhere.call(main["throw"], "Telling", 7)
    assert (str(info.value), info.value.number) == ("value 7 is bad", 7)


@pytest.mark.rule("R29")
def test_exception_has_the_remote_traceback_as_its_cause() -> None:
    """The cause shows the frames and the chain of the remote side; printing the exception shows it."""

    def inner() -> None:
        raise KeyError("first")

    def outer() -> None:
        try:
            inner()
        except KeyError as error:
            raise ValueError("second") from error

    with pytest.raises(ValueError, match="second") as caught:
        outer()
    got = arrived(failures.from_exception(caught.value))
    text = str(got.__cause__)
    for part in ("in inner", 'raise KeyError("first")', "direct cause", "in outer", "ValueError: second"):
        assert part in text
    assert 'raise KeyError("first")' in "".join(traceback.format_exception(got))


@pytest.mark.rule("R29")
def test_exception_has_a_note_with_function_node_and_task() -> None:
    """The note says where it happened; notes of the task's own are kept."""
    error = ValueError("x")
    error.add_note("from the task")
    assert sent(error).__notes__ == ["from the task", "raised by train on node 3, task 17"]


@pytest.mark.rule("R29")
def test_error_of_ours_that_a_task_raises_has_the_note() -> None:
    """As any; one that stands for another exception says itself where it was."""
    assert sent(TaskTimeoutError(1.0)).__notes__ == ["raised by train on node 3, task 17"]
    assert not hasattr(sent(KeyboardInterrupt()), "__notes__")
    verdict = failures.of_client(AbsentRankError(7, (0, 1)))
    again = arrived(verdict)
    assert isinstance(again, AbsentRankError)
    assert (again.rank, hasattr(again, "__notes__")) == (7, False)


@pytest.mark.rule("R29")
def test_traceback_from_very_deep_is_that_of_the_last_frames() -> None:
    """All of them would take longer than many a task."""

    def descend(depth: int) -> None:
        if depth == 0:
            raise RecursionError("the floor")
        descend(depth - 1)

    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(10_000)
    try:
        with pytest.raises(RecursionError) as caught:
            descend(5_000)
    finally:
        sys.setrecursionlimit(limit)
    text = failures.from_exception(caught.value).traceback
    [repeated] = re.findall(r"Previous line repeated (\d+) more times", text)
    assert 1_900 < int(repeated) < 2_000
    assert text.endswith("RecursionError: the floor\n")


@pytest.mark.rule("R29")
def test_our_own_frames_are_left_out() -> None:
    """The remote traceback has the user's frames, also in the middle, and none of skyward's."""
    from skyward.calls import function as mark

    def broken() -> None:
        raise ValueError("deep")

    with pytest.raises(ValueError, match="deep") as caught:
        mark(broken).local()
    text = failures.from_exception(caught.value).traceback
    assert "in broken" in text
    assert "calls.py" not in text
    assert "test_failures.py" in text


@pytest.mark.rule("R29")
@pytest.mark.parametrize("kind", [StopIteration, StopAsyncIteration, KeyboardInterrupt, GeneratorExit, BaseException])
def test_exception_that_would_mean_something_else_here_is_a_remote_error(kind: type[BaseException]) -> None:
    """What would end an iteration, a generator or the program becomes a `RemoteError`."""
    got = sent(kind("text"))
    assert isinstance(got, RemoteError)
    assert (got.type_name, got.remote_message) == (kind.__name__, "text")
    assert kind.__name__ in got.traceback
    assert (got.function, got.node, got.task) == ("train", 3, 17)


@pytest.mark.rule("R29")
def test_stop_iteration_from_a_hostile_node_is_not_raised() -> None:
    """A node that claims to send an `Exception` and sends something else gets a `RemoteError`."""
    import pickle

    for forged in (StopIteration(1), KeyboardInterrupt(), "text", SystemExit(3)):
        got = arrived(Failure(RAISED, "ValueError", "x", exception=pickle.dumps(forged)))
        assert isinstance(got, RemoteError)
        assert got.type_name == "ValueError"


@pytest.mark.rule("R29")
@pytest.mark.parametrize(
    ("name", "kwargs", "message"),
    [
        ("Picky", {"code": 3}, "code 3"),
        ("Holding", {"text": "held"}, "held"),
        ("Changing", {}, ""),
    ],
)
def test_exception_that_does_not_survive_pickling_is_a_remote_error(
    elsewhere: Elsewhere, name: str, kwargs: dict[str, Any], message: str
) -> None:
    """Type name, message and traceback are there when the exception itself cannot be."""
    main = run_as_main(ERRORS)
    with pytest.raises(RemoteError) as info:
        elsewhere.call(main["throw"], name, **kwargs)
    assert info.value.type_name == name
    assert info.value.remote_message.startswith(message)
    assert "in throw" in info.value.traceback


def test_exception_without_text_is_raised_all_the_same(elsewhere: Elsewhere) -> None:
    """A class of the user's whose ``__str__`` raises arrives as itself."""
    main = run_as_main(ERRORS)
    with pytest.raises(main["Mute"]) as info:
        elsewhere.call(main["throw"], "Mute")
    assert "in throw" in str(info.value.__cause__)


def test_exception_that_refuses_notes_is_raised_all_the_same() -> None:
    """A class of the user's that takes no attributes loses its note, not its error."""
    main = run_as_main(ERRORS)
    assert type(sent(main["Stiff"]("x"))) is main["Stiff"]


@pytest.mark.rule("R29")
def test_exception_of_a_module_that_is_missing_here_is_a_remote_error(elsewhere: Elsewhere) -> None:
    """An exception class that exists only on the node is named, and so is the reason."""

    def fail() -> None:
        import sys
        import types

        module = types.ModuleType("errors_there")
        module.__spec__ = sys.__spec__
        exec("class There(Exception): pass", module.__dict__)
        sys.modules["errors_there"] = module
        raise module.There("far")

    with pytest.raises(RemoteError, match="No module named 'errors_there'") as info:
        elsewhere.call(fail)
    assert (info.value.type_name, info.value.remote_message) == ("errors_there.There", "far")


@pytest.mark.rule("R29")
def test_group_of_exceptions_arrives_with_its_members() -> None:
    """An `ExceptionGroup` is an `Exception` like any other."""
    got = sent(ExceptionGroup("several", [ValueError(1), KeyError("k")]))
    assert isinstance(got, ExceptionGroup)
    assert [type(member) for member in got.exceptions] == [ValueError, KeyError]
    assert "KeyError" in str(got.__cause__)


def test_exception_that_carries_too_much_is_a_remote_error() -> None:
    """An exception larger than the limit is replaced, and the reason given."""
    failure = failures.from_exception(caught(ValueError("x" * 10_000)), limit=1_000)
    assert failure.exception == b""
    assert "more than the 1000 allowed" in failure.message


@pytest.mark.rule("R38")
def test_crash_is_a_worker_crashed_error_with_all_that_is_known() -> None:
    """Signal or exit code, stderr, memory and attempts arrive."""
    got = arrived(
        Failure(CRASHED, signal=9, stderr=["a", "b"], peak_memory=100, memory_limit=200, oom=True, attempts=2)
    )
    assert isinstance(got, WorkerCrashedError)
    assert (got.signal, got.exitcode, got.stderr, got.peak_memory) == (9, None, ("a", "b"), 100)
    assert (got.memory_limit, got.oom, got.attempts, got.node) == (200, True, 2, 3)
    exited = arrived(Failure(CRASHED, exitcode=0))
    assert isinstance(exited, WorkerCrashedError)
    assert (exited.signal, exited.exitcode, exited.peak_memory) == (None, 0, None)


@pytest.mark.rule("R39")
def test_timeout_is_a_task_timeout_error() -> None:
    """The limit in seconds and the place are named."""
    got = arrived(Failure(TIMED_OUT, timeout=1.5))
    assert isinstance(got, TaskTimeoutError | TimeoutError)
    assert str(got) == "task exceeded its timeout of 1.5 s (function train, node 3, task 17)"


@pytest.mark.rule("R21")
def test_too_large_a_result_names_size_and_limit() -> None:
    """The error has both numbers and the option."""
    got = arrived(Failure(TOO_LARGE, size=500, limit=100))
    assert isinstance(got, ResultTooLargeError)
    assert (got.size, got.limit) == (500, 100)
    assert "max_payload" in str(got)


@pytest.mark.rule("R29")
def test_missing_module_is_a_remote_import_error() -> None:
    """The module is named, and the remote traceback is the cause."""
    got = arrived(Failure(IMPORT_FAILED, message="No module named 'x'", traceback="Traceback", module="x"))
    assert isinstance(got, RemoteImportError)
    assert got.module == "x"
    assert "Traceback" in str(got.__cause__)


@pytest.mark.rule("R29")
@pytest.mark.parametrize("spec", [None, ModuleSpec("made_by_hand", None)])
def test_module_made_in_memory_is_not_to_be_installed(spec: ModuleSpec | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the client has the module but no file of it, the advice is to put it into one."""
    module = ModuleType("made_by_hand")
    module.__spec__ = spec
    monkeypatch.setitem(sys.modules, "made_by_hand", module)
    got = arrived(Failure(IMPORT_FAILED, message="No module named 'made_by_hand'", module="made_by_hand"))
    assert isinstance(got, RemoteImportError)
    assert got.in_memory
    assert "put it into a file" in str(got) and "install" not in str(got)
    for name in ("pytest", "tests", "sys", "absent_here", ""):
        other = arrived(Failure(IMPORT_FAILED, message="no", module=name))
        assert "install it there" in str(other), name


def test_result_that_cannot_be_pickled_is_a_serialization_error() -> None:
    """The function and the result's repr are named, the remote traceback is the cause."""
    got = arrived(Failure(UNSERIALIZABLE, message="no; the result was <lock>", traceback="Traceback"))
    assert isinstance(got, SerializationError)
    assert "the result of train" in str(got) and "<lock>" in str(got)
    assert "Traceback" in str(got.__cause__)
    assert got.__notes__ == ["raised by train on node 3, task 17"]


def test_other_outcomes_have_errors_of_their_own() -> None:
    """A cancelled task, a lost node and a refused nested call are what they are called."""
    assert isinstance(arrived(Failure(CANCELLED)), concurrent.futures.CancelledError)
    lost = arrived(Failure(NODE_LOST, message="gone", attempts=2))
    assert isinstance(lost, NodeLostError)
    assert (lost.node, lost.reason, lost.attempts, lost.task) == (3, "gone", 2, 17)
    refused = arrived(Failure(REFUSED, type_name="DeadlockError", message="too many"))
    assert isinstance(refused, DeadlockError)
    assert refused.message == "too many"
    assert isinstance(arrived(Failure(REFUSED, type_name="PoolClosedError", message="closed")), RemoteError)


def test_texts_are_cut_to_their_bounds() -> None:
    """Messages, tracebacks and lines of any length and with any characters arrive within the protocol's bounds."""
    long = "\udcff" + "x" * (3 * MAX_TEXT) + "end"
    failure = Failure(CRASHED, long, long, long, stderr=[long] * 150, module=long)
    got = failures.decode(failures.encode(failure))
    assert len(got.message) == len(got.traceback) == len(got.stderr[0]) == MAX_TEXT
    assert got.message.startswith("\\udcffxxx") and got.message.endswith("xend")
    assert len(got.type_name) == len(got.module) == 1024
    assert len(got.stderr) == 100
    huge = failures.from_exception(caught(ValueError(long)))
    assert isinstance(arrived(huge), ValueError)


@pytest.mark.rule("R43")
@given(st.binary(max_size=200))
def test_garbage_is_a_remote_error(data: bytes) -> None:
    """Whatever a node sends in place of a failure becomes an exception, and raises none."""
    got = failures.to_exception(data, function="f", node=0, task=1)
    assert isinstance(got, RemoteError)


@pytest.mark.rule("R43")
@given(st.binary(max_size=200), st.integers(0, 255), st.text(max_size=20))
def test_any_pickle_in_a_failure_is_survived(data: bytes, status: int, text: str) -> None:
    """Rubbish where the exception should be, and any status, give an exception."""
    got = arrived(Failure(status, text, text, text, exception=data))
    assert isinstance(got, BaseException)
