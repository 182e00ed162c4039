"""Frozen values that several parts share. No behaviour beyond checking themselves."""

from __future__ import annotations

import operator
from enum import Enum
from typing import Final, Literal, cast

from skyward.errors import ConfigError
from skyward.frozen import Frozen, field

Executor = Literal["process", "thread"]


_MOST: Final = 10_000  # nodes: as many as one client was simulated with


def counted(count: int, thing: str) -> str:
    """Return a number of things, as a text has it."""
    return f"{count} {thing}{'' if count == 1 else 's'}"


def whole(name: str, value: object) -> int:
    """Return an integer, be it NumPy's, as one of Python's own; raises `TypeError`."""
    if (number := as_whole(value)) is None:
        raise TypeError(f"{name} must be an int, got {value!r}")
    return number


def as_whole(value: object) -> int | None:
    """Return whatever stands for an integer as one of Python's own, which alone travel; else None."""
    if isinstance(value, bool):  # an int to Python, and a mistake to us
        return None
    try:
        return operator.index(value)  # type: ignore[arg-type]  # whatever is no integer raises
    except TypeError:
        return None


def _count(name: str, value: object, least: int) -> int:
    number = whole(name, value)
    if number < least:
        raise ConfigError(f"{name} must be at least {least}, got {number}")
    if number > _MOST:
        raise ConfigError(f"{name} must be at most {_MOST}, got {number}")
    return number


class Nodes(Frozen):
    """How many nodes a pool has: ``min`` ≤ ``desired`` ≤ ``max``.

    The pool opens when ``min`` nodes are ready and aims at ``desired``. ``min`` defaults to
    ``desired``, and ``max`` to ``desired``: a pool of fixed size. ``min=0`` is allowed when
    ``max`` is at least 1: such a pool starts nodes when the first call comes.
    """

    desired: int
    min: int | None = None
    max: int | None = None

    def __post_init__(self) -> None:
        desired = _count("nodes", self.desired, 0)
        low = desired if self.min is None else _count("nodes min", self.min, 0)
        high = desired if self.max is None else _count("nodes max", self.max, 0)
        if high < 1:
            raise ConfigError("a pool needs room for at least one node: set nodes (or its max) to 1 or more")
        if not low <= desired <= high:
            raise ConfigError(f"nodes must satisfy min ≤ desired ≤ max, got min={low}, desired={desired}, max={high}")
        object.__setattr__(self, "desired", desired)
        object.__setattr__(self, "min", low)
        object.__setattr__(self, "max", high)

    @property
    def least(self) -> int:
        """Return ``min`` as an int."""
        assert self.min is not None
        return self.min

    @property
    def most(self) -> int:
        """Return ``max`` as an int."""
        assert self.max is not None
        return self.max

    @property
    def are_elastic(self) -> bool:
        """Return whether such a pool grows and shrinks by itself."""
        return self.most > self.desired

    @classmethod
    def parse(cls, value: object) -> Nodes:
        """Return ``4``, ``(2, 8)`` or a `Nodes` as a `Nodes`."""
        if isinstance(value, Nodes):
            return value
        if (number := as_whole(value)) is not None:
            return cls(number)
        if isinstance(value, tuple) and len(pair := cast("tuple[object, ...]", value)) == 2:
            low = _count("nodes min", pair[0], 0)
            return cls(low, low, _count("nodes max", pair[1], 0))
        raise TypeError(f"nodes must be an int, a (min, max) tuple or sky.Nodes(desired, min, max), got {value!r}")


class NodeState(Enum):
    """Where a node is in its life, as the client sees it."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"


class NodeSnapshot(Frozen):
    """One node in a `PoolSnapshot`."""

    rank: int
    state: NodeState
    endpoint: str
    pid: int | None  # None: it is starting, or no process of this machine
    slots: int
    in_flight: int
    known_for: float  # seconds since it became ready


class PoolSnapshot(Frozen):
    """What a pool looks like at one moment; for logs, tests and curious users."""

    nodes: tuple[NodeSnapshot, ...]
    queued: int
    in_flight: int
    done: int
    failed: int
    rerun: int  # because a node was lost; what is run again after a crash the node does by itself
    active: bool


class NodeConfig(Frozen):
    """What a launcher tells a daemon it starts, as JSON on an inherited pipe (never argv).

    The daemon answers on ``ready_fd`` with one JSON line: ``{"endpoint", "pid", "public_key"}``
    when it serves, or ``{"error"}`` when it cannot.
    """

    bind: str  # "ipc:///…/sock" or "tcp://host:port" (port 0: any)
    keys: str = ""  # directory of the node's key and of those it admits; "": a key for this life only
    client_keys: tuple[str, ...] = ()  # public keys of clients that are admitted on TCP, beside those in `keys`
    clients: tuple[tuple[str, str], ...] = ()  # public keys and labels that the list in `keys` begins with
    concurrency: int = 1
    executor: Executor = "process"
    reuse_processes: bool = True
    lease: float = 30.0  # seconds of client silence after which its tasks are stopped
    max_payload: int = 0  # bytes of one result; 0: half of available memory
    ready_fd: int = -1
    alone: float = 0.0  # seconds without any client after which the daemon ends; 0: it does not
    lifeline_fd: int = -1  # the daemon ends when this pipe reads EOF; -1: none
    seat: int = 0  # which of the nodes of this machine it is: they share its accelerators
    seats: int = 1  # how many these are
    parent: int = 0  # pid that must stay the parent; 0: not watched
    log_format: Literal["console", "json", "journal"] = "json"
    log_level: str = "warning"
    log_file: str = ""  # where lines go, and what the daemon prints; "": to stderr
    metrics: int = -1  # port of the loopback interface for health and metrics; 0: any; -1: none
    cwd: str = ""  # of the workers; "": the daemon's
    umask: int = -1  # of the workers; -1: the daemon's
    sys_path: tuple[str, ...] | None = None  # of the workers; None: the daemon's
    env: dict[str, str] = field(default_factory=dict[str, str], repr=False)  # added to the workers' environment

    def to_json(self) -> bytes:
        """Return the JSON form."""
        import json  # by then a launcher has started what it takes

        return json.dumps(self.as_dict()).encode()

    @classmethod
    def from_json(cls, data: bytes) -> NodeConfig:
        """Return the config that `to_json` wrote."""
        import json

        fields = json.loads(data)
        for name in ("sys_path", "client_keys"):
            if fields.get(name) is not None:
                fields[name] = tuple(fields[name])
        fields["clients"] = tuple((key, label) for key, label in fields.get("clients", ()))
        return cls(**fields)
