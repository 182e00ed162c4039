"""Every setting of a pool, with its default, unit and reason."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

from skyward.errors import ConfigError
from skyward.frozen import Frozen, field
from skyward.model import Executor, as_whole, whole

LONGEST: Final = 1e9  # seconds: the protocol's bound, thirty years
LARGEST: Final = 2**62  # bytes: fits the protocol's integers
FASTEST: Final = 0.01  # seconds between two heartbeats: nodes beat no faster, and would be lost if more was expected
CLOSE_WAIT: Final = 5.0  # seconds that callbacks, and then output, may take at a pool's close
CANCEL_WAIT: Final = 0.4  # the same if everything is cancelled: a program that ends so exits within two seconds
LEAST_FRAME: Final = 64 * 2**20  # bytes: headers, code and batches of small calls pass however small `max_payload` is


def frame_limit(max_payload: int) -> int:
    """Return how many bytes a node with this ``max_payload`` takes in one frame."""
    return max(2 * max_payload, LEAST_FRAME)


def code_limit(max_payload: int) -> int:
    """Return how many bytes the code of a function, or a module, may have; less than any node refuses."""
    return max(max_payload, LEAST_FRAME)


def available_memory() -> int:
    """Return the bytes of memory that can still be used: what the system has free, cgroup limit considered."""
    import os

    free = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        with open("/proc/meminfo", encoding="utf-8") as meminfo:
            for line in meminfo:
                if line.startswith("MemAvailable:"):
                    free = int(line.split()[1]) * 1024
                    break
    except OSError:
        pass
    for limit_file, used_file in (
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ):
        try:
            with open(limit_file, encoding="utf-8") as limit, open(used_file, encoding="utf-8") as used:
                free = min(free, int(limit.read()) - int(used.read()))
        except (OSError, ValueError):
            continue
    return max(free, 64 * 2**20)


_set: Final = object.__setattr__  # of a frozen value that is made


def check_number(name: str, value: object) -> float:
    """Return a number, be it NumPy's, as one of Python's own; raises `TypeError`."""
    if isinstance(value, float):
        return float(value)
    if (number := as_whole(value)) is not None:
        return number
    from numbers import Real

    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a number, got {value!r}")
    return float(value)


def _positive(name: str, number: object, *, zero: bool = False, most: float = LONGEST, hint: str = "") -> float:
    value = check_number(name, number)
    if value > most:  # first: an integer may be too large to be made a float
        raise ConfigError(f"{name} must be at most {most:g}, got {value}{hint}")
    if value < 0 or (value == 0 and not zero) or math.isnan(value):
        raise ConfigError(f"{name} must be {'0 or more' if zero else 'more than 0'}, got {value}")
    return value


def _optional(name: str, value: object) -> float | None:
    return None if value is None else _positive(name, value, hint="; None means no limit")


def _require(name: str, value: object, kind: type, what: str) -> None:
    # A bool is an int to Python, and a mistake to us.
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise TypeError(f"{name} must be {what}, got {value!r}")


def check_flag(name: str, value: object) -> None:
    """Raise `TypeError` unless ``value`` is a bool: "no" would be true."""
    _require(name, value, bool, "True or False")


def check_whole(name: str, value: object, least: int, most: int) -> int:
    """Return an integer within these bounds; raise for anything else."""
    number = whole(name, value)
    if not least <= number <= most:
        raise ConfigError(f"{name} must be between {least} and {most}, got {number}")
    return number


class Worker(Frozen, kw_only=True):
    """How each node runs tasks.

    ``concurrency``: tasks a node runs at once (default 1: one node per CPU is the local default).
    ``executor``: ``"process"`` (default) isolates tasks and can stop them; ``"thread"`` shares one process,
    cannot stop a running task, and suits tasks that wait or that release the GIL.
    ``reuse_processes``: run one task after the other in a process (default); False starts a fresh
    one for each task, for code that leaks or that changes global state.
    """

    concurrency: int = 1
    executor: Executor = "process"
    reuse_processes: bool = True

    def __post_init__(self) -> None:
        _set(self, "concurrency", check_whole("concurrency", self.concurrency, 1, 4096))
        if self.executor not in ("process", "thread"):
            raise ConfigError(f"executor must be 'process' or 'thread', got {self.executor!r}")
        check_flag("reuse_processes", self.reuse_processes)


class Options(Frozen, kw_only=True):
    """Settings of a pool. All times are seconds, all sizes bytes.

    ``worker``: how nodes run tasks, see `Worker`.
    ``retries``: how often a task runs again after its node was lost (default 3: survives a bad hour on
    spot machines; a task that must not run twice says ``retries=0``). After a crash of its worker process,
    which is mostly the task's own doing, it runs again once, if this is not 0. Exceptions are never retried.
    ``timeout``: time limit of each task from its start (default None: none).
    ``console``: show the output of tasks, and how the pool stands while it works (default True).
    ``heartbeat``: interval of heartbeats (default 0.25: a silent node is noticed within a second;
    take 1 for distant machines, 5 for very lossy links); 0.01 at least.
    ``lease``: silence of the client after which a node stops its tasks (default 30: long enough for
    a suspended laptop lid, short enough not to pay for nothing); three heartbeats at least.
    ``cancel_grace``: from interrupt to kill of a cancelled task (default 1: time for ``finally``).
    ``node_wait``: how long calls wait when no node is left (default 60: a machine's boot).
    ``start_timeout``: how long a node may take to get ready (default None: 60, and 300 on EC2, where a machine boots
    first).
    ``max_payload``: one argument set or result (default None: half of available memory).
    ``window``: bytes of arguments in flight (default None: an eighth of available memory, at most
    1 GiB); dispatch waits when it is full.
    ``idle_timeout``: how long a node of an elastic pool may have nothing to do before it is let go (default 60:
    more than the pauses of most programs, and what clouds bill at least; take the time a node needs to start, or more).
    ``drain_timeout``: reserved; a node that is let go finishes what it has, however long that takes (default 30).
    """

    worker: Worker = field(default_factory=Worker)
    retries: int = 3
    timeout: float | None = None
    console: bool = True
    heartbeat: float = 0.25
    lease: float = 30.0
    cancel_grace: float = 1.0
    node_wait: float = 60.0
    start_timeout: float | None = None
    max_payload: int | None = None
    window: int | None = None
    idle_timeout: float = 60.0
    drain_timeout: float = 30.0

    def __post_init__(self) -> None:
        _require("worker", self.worker, Worker, "a sky.Worker(...)")
        check_flag("console", self.console)
        _set(self, "retries", check_retries(self.retries))
        _set(self, "timeout", check_timeout(self.timeout))
        for name in ("heartbeat", "lease", "node_wait", "idle_timeout", "drain_timeout"):
            _set(self, name, _positive(name, getattr(self, name)))
        if self.heartbeat < FASTEST:
            raise ConfigError(f"heartbeat must be at least {FASTEST:g}, got {self.heartbeat}: nodes beat no faster")
        _set(self, "start_timeout", _optional("start_timeout", self.start_timeout))
        _set(self, "cancel_grace", _positive("cancel_grace", self.cancel_grace, zero=True))
        for name in ("max_payload", "window"):
            if getattr(self, name) is not None:
                _set(self, name, whole(name, getattr(self, name)))
                _positive(name, getattr(self, name), most=LARGEST)

    def lease_time(self) -> float:
        """Return ``lease``, or three heartbeats if they are more: a shorter one would end between two."""
        return max(self.lease, 3 * self.heartbeat)

    def payload_limit(self) -> int:
        """Return ``max_payload``, or half of the memory that is available now."""
        return self.max_payload if self.max_payload is not None else available_memory() // 2

    def window_size(self) -> int:
        """Return ``window``, or an eighth of the memory that is available now but at most 1 GiB."""
        return self.window if self.window is not None else min(available_memory() // 8, 2**30)


def check_timeout(value: object) -> float | None:
    """Return a positive number of seconds, or None; raise for anything else."""
    return _optional("timeout", value)


def said_timeout(value: object) -> float:
    """Return a time limit as a call or function says it: None, for no limit, is 0, which beats the pool's."""
    return check_timeout(value) or 0.0


def check_retries(value: object) -> int:
    """Return an integer of 0 or more; raise for anything else."""
    return check_whole("retries", value, 0, 10_000)


if TYPE_CHECKING:  # to whom a name that is no option of `sky.Compute(...)`, or a value of another type, is an error
    from typing import TypedDict

    class Settings(TypedDict, total=False):
        """The options that `sky.Compute` takes one by one: those of `Options`, and of its `Worker`."""

        worker: Worker
        retries: int
        timeout: float | None
        console: bool
        heartbeat: float
        lease: float
        cancel_grace: float
        node_wait: float
        start_timeout: float | None
        max_payload: int | None
        window: int | None
        idle_timeout: float
        drain_timeout: float
        concurrency: int
        executor: Executor
        reuse_processes: bool


_OPTIONS = {*Options.defaults} - {"worker"}
_WORKER = {*Worker.defaults}
_PLACES = {"provider", "nodes", "image", "mesh"}  # the other arguments of sky.Compute
# What other pools call the number of tasks that run at once.
_ELSEWHERE = {"max_workers", "workers", "n_workers", "num_workers", "n_jobs", "processes", "threads", "num_cpus"}


def merge_options(options: Options | None, spec: dict[str, Any]) -> Options:
    """Return ``options`` with the keyword shortcuts of ``sky.Compute(**spec)`` applied.

    Raises `TypeError` for a name that is no option, with the nearest one that is.
    """
    base = Options() if options is None else options
    _require("options", base, Options, "a sky.Options(...)")
    known = _OPTIONS | _WORKER | {"worker"}
    for name in spec:
        if name not in known:
            import difflib

            near = difflib.get_close_matches(name, known | _PLACES, n=1)
            if name in _ELSEWHERE:
                raise TypeError(
                    f"unknown option {name!r} of sky.Compute; how many tasks run at once is "
                    "nodes=..., how many nodes, times concurrency=..., how many tasks each of them runs at once"
                )
            if name in _PLACES:
                raise TypeError(f"{name!r} is no option: it stands beside the options")
            hint = f"; did you mean {near[0]!r}?" if near else f"; options are {', '.join(sorted(known))}"
            raise TypeError(f"unknown option {name!r} of sky.Compute{hint}")
    worker = {name: value for name, value in spec.items() if name in _WORKER}
    rest = {name: value for name, value in spec.items() if name not in _WORKER}
    if worker:
        rest["worker"] = rest.get("worker", base.worker).but(**worker)
    return base.but(**rest)
