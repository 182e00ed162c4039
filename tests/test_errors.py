"""Every exception of ours: who is to blame, what it says, and that it survives travelling."""

from __future__ import annotations

import copy
import inspect
import pickle
import signal
from typing import Any, cast

import pytest

from skyward import errors
from skyward.errors import (
    AbsentRankError,
    AuthError,
    BroadcastError,
    CapacityError,
    ConfigError,
    DeadlockError,
    ForkedPoolError,
    HostKeyError,
    MeshError,
    MeshExistsError,
    MisuseError,
    NodeLostError,
    NoNodesError,
    NoPoolError,
    PoolClosedError,
    ProtocolError,
    ProvisionError,
    RemoteError,
    RemoteImportError,
    ResultTooLargeError,
    SerializationError,
    SkywardError,
    TaskError,
    TaskTimeoutError,
    UnknownMeshError,
    VersionMismatchError,
    WorkerCrashedError,
)

CRASH = WorkerCrashedError(
    signal=9,
    stderr=("Fatal", "  bye"),
    peak_memory=300 * 2**20,
    memory_limit=512 * 2**20,
    oom=True,
    attempts=2,
)


def placed(error: TaskError) -> TaskError:
    """Return the error of a task that is known."""
    error.function, error.node, error.task = "train", 1, 17
    return error


# What can be wrong with a machine: all with the same kind of text.
MACHINES = (
    errors.AccessError,
    errors.HostUnreachableError,
    errors.LoginRefusedError,
    errors.BootstrapError,
    errors.SetupError,
    errors.NoPythonError,
    errors.ArchitectureError,
    errors.DiskFullError,
    errors.PortInUseError,
    errors.PackageError,
)

# Each error with its text: what somebody reads at night.
TEXTS: list[tuple[SkywardError, str]] = [
    (SkywardError(), ""),
    (SkywardError("anything"), "anything"),
    (MisuseError("no"), "no"),
    (TaskError("no"), "no"),
    (MeshError("no"), "no"),
    (ConfigError("retries must be an int"), "retries must be an int"),
    (NoPoolError("no pool"), "no pool"),
    (PoolClosedError("closed"), "closed"),
    (ForkedPoolError("forked"), "forked"),
    (DeadlockError("all wait"), "all wait"),
    (AuthError("refused"), "refused"),
    (ProtocolError("nonsense"), "nonsense"),
    (HostKeyError("the key has changed"), "the key has changed"),
    (
        AbsentRankError(5, (0, 1)),
        "no node with rank 5 in this pool (ready ranks: 0, 1); use .on(rank) with one of these, or .on('head')",
    ),
    (
        AbsentRankError(0, ()),
        "no node with rank 0 in this pool (ready ranks: none); call again when one is ready",
    ),
    (UnknownMeshError("a"), "there is no mesh 'a', nor any other"),
    (UnknownMeshError("a", ("b", "c"), "make one"), "there is no mesh 'a'; there are b, c; make one"),
    (MeshExistsError("a"), "a mesh 'a' is there already"),
    (MeshExistsError("a", "end it"), "a mesh 'a' is there already; end it"),
    (SerializationError("the call"), "cannot serialize the call"),
    (
        SerializationError("the arguments of f", ("argument 'cfg'", "[0]"), "no locks"),
        "cannot serialize the arguments of f: argument 'cfg' → [0] (no locks)",
    ),
    (
        SerializationError("f", ("argument 'cfg'", *["[0]"] * 99), "no locks"),
        "cannot serialize f: argument 'cfg' → [0] → [0] → [0] → … → [0] → [0] → [0] → [0] (no locks)",
    ),
    (SerializationError("f", tuple("123456789")), "cannot serialize f: 1 → 2 → 3 → 4 → 5 → 6 → 7 → 8 → 9"),
    (RemoteError("KeyError", ""), "KeyError"),
    (RemoteError("KeyError", "'k'"), "KeyError: 'k'"),
    (
        placed(RemoteError("lib.Odd", "no", "Traceback\n  here\n", "it cannot be unpickled")),
        (
            "lib.Odd: no (function train, node 1, task 17)\nit cannot be unpickled\n\n"
            "remote traceback:\nTraceback\n  here"
        ),
    ),
    (
        placed(RemoteImportError("torch", "No module named 'torch'")),
        (
            "module 'torch' cannot be imported on the node (function train, node 1, task 17): No module named 'torch'; "
            "install it there (sky.Image(pip=[...])) or make it importable"
        ),
    ),
    (
        RemoteImportError("made", "No module named 'made'", in_memory=True),
        (
            "module 'made' cannot be imported on the node: No module named 'made'; here it was made in memory, with no "
            "file that could be sent: put it into a file on sys.path, or define what the task needs in __main__ or in "
            "a function"
        ),
    ),
    (
        ResultTooLargeError(2000, 1000),
        "result of 2000 bytes exceeds max_payload=1000 bytes; return less, or raise sky.Options(max_payload=...)",
    ),
    (placed(TaskTimeoutError(1.5)), "task exceeded its timeout of 1.5 s (function train, node 1, task 17)"),
    (TaskTimeoutError(60.0), "task exceeded its timeout of 60 s"),
    (placed(TaskTimeoutError(2.5, group=True)), "the group exceeded its timeout of 2.5 s, counted from dispatch"),
    (
        placed(CRASH),
        (
            "the worker process was killed by SIGKILL, out of memory, 2 times while running the task "
            "(function train, node 1, task 17); peak memory 300 MiB of 512 MiB\n"
            "last lines of its stderr:\n  Fatal\n    bye"
        ),
    ),
    (WorkerCrashedError(exitcode=3), "the worker process exited with code 3 while running the task"),
    (
        WorkerCrashedError(signal=999, peak_memory=2**20),
        "the worker process was killed by signal 999 while running the task; peak memory 1 MiB",
    ),
    (NodeLostError(2, "it was silent"), "node 2 was lost: it was silent"),
    (NodeLostError(2, "it was silent", 3), "node 2 was lost: it was silent (the task was lost 3 times)"),
    (NoNodesError(60.0), "no node became ready within node_wait=60 s"),
    (
        NoNodesError(0.5, ("node 0: died", "no room")),
        "no node became ready within node_wait=0.5 s; causes:\n  node 0: died\n  no room",
    ),
    (
        NoNodesError(0.5, ("node 0: died", "no room", "node 0: died")),
        "no node became ready within node_wait=0.5 s; causes:\n  node 0: died (2 times)\n  no room",
    ),
    (
        BroadcastError((0, 1, 2), ("value", KeyError("k"), CapacityError(1, 2)), (1, 2)),
        "broadcast failed on 2 of 3 nodes:\n  node 1: KeyError: 'k'\n  node 2: CapacityError: got 1 of 2 nodes",
    ),
    (ProvisionError("it did not start"), "it did not start"),
    (
        ProvisionError("it did not start", ("line", "last line")),
        "it did not start\nlast lines of its log:\n  line\n  last line",
    ),
    *[(kind("h1: it did not start"), "h1: it did not start") for kind in MACHINES],
    (errors.QuotaError(1, 3, "no more"), "got 1 of 3 nodes: no more"),
    (CapacityError(3, 8), "got 3 of 8 nodes"),
    (CapacityError(3, 8, "no spot capacity"), "got 3 of 8 nodes: no spot capacity"),
    (
        VersionMismatchError("version", "Python 3.11", "Python 3.12"),
        "version differs: client has Python 3.11, node has Python 3.12",
    ),
]
CLASSES = [value for _, value in inspect.getmembers(errors, inspect.isclass) if issubclass(value, SkywardError)]


def same(one: Any, other: Any) -> bool:
    """Return whether two errors are alike, and so are those in their fields."""
    if isinstance(one, BaseException):
        return type(one) is type(other) and str(one) == str(other) and same(one.__dict__, other.__dict__)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


@pytest.mark.parametrize(("error", "text"), TEXTS, ids=lambda value: type(value).__name__)
def test_error_says_what_has_happened(error: SkywardError, text: str) -> None:
    """The text is built from the fields; the repr adds the class."""
    assert str(error) == text
    assert repr(error) == f"{type(error).__name__}({text!r})"


def test_every_error_is_tried() -> None:
    """The table above has them all."""
    assert {type(error) for error, _ in TEXTS} == set(CLASSES)


@pytest.mark.parametrize(("error", "text"), TEXTS, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("protocol", [2, pickle.HIGHEST_PROTOCOL])
def test_error_survives_pickling(error: SkywardError, text: str, protocol: int) -> None:
    """With class, text, fields and notes."""
    error = copy.copy(error)
    error.add_note("on a Tuesday")
    again = pickle.loads(pickle.dumps(error, protocol))
    assert same(error, again)
    assert again.args == error.args
    assert again.__notes__ == ["on a Tuesday"]
    assert str(again) == text


@pytest.mark.parametrize(("error", "text"), TEXTS, ids=lambda value: type(value).__name__)
def test_arguments_of_an_error_are_its_text(error: SkywardError, text: str) -> None:
    """Also where the text is made of fields; what stands below the message of `ProvisionError` may be missing."""
    assert error.args == (text.partition("\nlast lines of its log")[0],)


def test_arguments_of_an_error_can_be_set() -> None:
    """As those of any exception; what it says stays."""
    error = copy.copy(CRASH)
    text = str(error)
    error.args = ("a", 1)
    assert error.args == ("a", 1)
    assert str(error) == text


@pytest.mark.rule("R29")
@pytest.mark.parametrize("kind", CLASSES)
@pytest.mark.parametrize("args", [(), ("too slow",), (ValueError("too slow"),)], ids=["bare", "text", "error"])
def test_error_made_by_hand_is_told_and_travels(kind: type[SkywardError], args: tuple[Any, ...]) -> None:
    """As tests of users make them: of one text, or of nothing, where that is all they need."""
    try:
        error = kind(*args)
    except TypeError as refusal:  # it takes more than that, and says so
        assert "argument" in str(refusal)  # noqa: PT017 - some classes take one text, and some do not
        return
    text = str(error)
    assert str(*args) in text
    assert repr(error) == f"{kind.__name__}({text!r})"
    for again in (copy.copy(error), copy.deepcopy(error), pickle.loads(pickle.dumps(error))):
        assert (type(again), str(again), repr(again)) == (kind, text, repr(error))


@pytest.mark.rule("R29")
def test_text_in_the_place_of_a_number_is_the_text() -> None:
    """Nobody reads of a limit of so many "too slow" seconds."""
    assert str(TaskTimeoutError(cast("float", "too slow"))) == "too slow"
    assert str(TaskTimeoutError(cast("float", "too slow"), group=True)) == "too slow"
    assert str(NoNodesError(cast("float", "too slow"))) == "too slow"
    assert str(WorkerCrashedError()) == "the worker process died while running the task"


@pytest.mark.parametrize(
    ("kind", "builtin"),
    [
        (ConfigError, ValueError),
        (NoPoolError, RuntimeError),
        (PoolClosedError, RuntimeError),
        (ForkedPoolError, RuntimeError),
        (AbsentRankError, LookupError),
        (UnknownMeshError, LookupError),
        (MeshExistsError, RuntimeError),
        (SerializationError, TypeError),
        (RemoteError, RuntimeError),
        (RemoteImportError, ImportError),
        (ResultTooLargeError, ValueError),
        (TaskTimeoutError, TimeoutError),
        (WorkerCrashedError, RuntimeError),
        (DeadlockError, RuntimeError),
        (NodeLostError, ConnectionError),
        (NoNodesError, ConnectionError),
        (BroadcastError, RuntimeError),
        (ProvisionError, RuntimeError),
        (AuthError, PermissionError),
        (VersionMismatchError, RuntimeError),
        (ProtocolError, RuntimeError),
    ],
)
def test_error_is_what_a_caller_expects(kind: type[SkywardError], builtin: type[Exception]) -> None:
    """Each is also the builtin that code without skyward would catch."""
    assert issubclass(kind, builtin)
    assert issubclass(kind, SkywardError)


def test_blame_is_clear_from_the_class() -> None:
    """Each error but the root and its four branches is in exactly one branch, and the module's tree shows it."""
    branches = (MisuseError, TaskError, MeshError, ProtocolError)
    for kind in set(CLASSES) - {SkywardError}:
        assert sum(issubclass(kind, branch) for branch in branches) == 1, kind
    assert errors.__doc__ is not None
    for kind in CLASSES:
        assert f" {kind.__name__} " in f" {errors.__doc__} ".replace("\n", " "), f"{kind.__name__} is not in the tree"
        assert kind.__doc__


def test_where_says_as_much_as_is_known() -> None:
    """Nothing is said of what is not known."""
    error = TaskError()
    assert error.where() == ""
    error.node = 0
    assert error.where() == " (node 0)"
    error.task = 3
    assert error.where() == " (node 0, task 3)"


def test_broadcast_error_gives_failures_by_rank() -> None:
    """Values stay where they are; failures can be asked for by rank."""
    cause = KeyError("k")
    error = BroadcastError((0, 3), ("value", cause), (3,))
    assert error.errors == {3: cause}
    assert error.results == ("value", cause)


def test_signal_numbers_of_this_system_have_names() -> None:
    """A crash names the signal as people know it."""
    assert "SIGSEGV" in str(WorkerCrashedError(signal=signal.SIGSEGV))
