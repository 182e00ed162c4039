"""Every exception skyward raises; the class says who caused the failure.

    SkywardError
    ├── MisuseError                      the caller asked for something that cannot be
    │   ├── ConfigError          (ValueError)    a bad option or setting
    │   ├── NoPoolError          (RuntimeError)  no active pool in this context
    │   ├── PoolClosedError      (RuntimeError)  closed by us: the pool is no longer open
    │   ├── ForkedPoolError      (RuntimeError)  a pool used in a forked child
    │   ├── AbsentRankError      (LookupError)   `.on(rank)` names no node of the pool
    │   ├── UnknownMeshError     (LookupError)   no mesh has this name
    │   ├── MeshExistsError      (RuntimeError)  a mesh of this name is there already
    │   └── SerializationError   (TypeError)     an argument or function cannot travel
    ├── TaskError                        the user's function, or its process, failed
    │   ├── RemoteError          (RuntimeError)  an exception that cannot be raised as itself
    │   ├── RemoteImportError    (ImportError)   a module the task needs is missing on the node
    │   ├── ResultTooLargeError  (ValueError)    the result exceeds `max_payload`
    │   ├── TaskTimeoutError     (TimeoutError)  the task ran longer than its time limit
    │   ├── WorkerCrashedError   (RuntimeError)  the worker process died under the task
    │   └── DeadlockError        (RuntimeError)  too many tasks wait for one another
    ├── MeshError                        lost or refused by the outside
    │   ├── NodeLostError        (ConnectionError)  the node died or fell silent
    │   ├── NoNodesError         (ConnectionError)  no node left, and none came back in time
    │   ├── BroadcastError       (RuntimeError)     some nodes failed; carries every outcome
    │   ├── ProvisionError       (RuntimeError)     nodes could not be started
    │   │   ├── AccessError                         our credentials, or what they may do, will not do
    │   │   ├── CapacityError                       fewer nodes than wanted could be had
    │   │   │   └── QuotaError                      the account may not have more
    │   │   ├── HostUnreachableError                an SSH host does not answer
    │   │   ├── HostKeyError                        an SSH host key is unknown or changed
    │   │   ├── LoginRefusedError                   an SSH host does not let us in
    │   │   └── BootstrapError                      a machine could not be made a node
    │   │       ├── SetupError                      the user's set-up command failed there
    │   │       ├── NoPythonError                   it has no Python that will do
    │   │       ├── ArchitectureError               it is a kind of machine that nothing is there for
    │   │       ├── DiskFullError                   it has no room left
    │   │       ├── PortInUseError                  its port is taken
    │   │       └── PackageError                    a package could not be installed
    │   ├── AuthError            (PermissionError)  a key was refused
    │   └── VersionMismatchError (RuntimeError)     protocol or Python versions differ
    └── ProtocolError            (RuntimeError)  our bug, or a hostile peer

Errors carry fields and build their text in ``__str__``. All survive pickling with their fields.
"""

from __future__ import annotations

from typing import Any

from skyward.failure import SkywardError, told
from skyward.task_errors import (
    DeadlockError,
    RemoteError,
    RemoteImportError,
    ResultTooLargeError,
    TaskError,
    TaskTimeoutError,
    WorkerCrashedError,
)

__all__ = [
    "AbsentRankError",
    "AccessError",
    "ArchitectureError",
    "AuthError",
    "BootstrapError",
    "BroadcastError",
    "CapacityError",
    "ConfigError",
    "DeadlockError",
    "DiskFullError",
    "ForkedPoolError",
    "HostKeyError",
    "HostUnreachableError",
    "LoginRefusedError",
    "MeshError",
    "MeshExistsError",
    "MisuseError",
    "NoNodesError",
    "NoPoolError",
    "NoPythonError",
    "NodeLostError",
    "PackageError",
    "PoolClosedError",
    "PortInUseError",
    "ProtocolError",
    "ProvisionError",
    "QuotaError",
    "RemoteError",
    "RemoteImportError",
    "ResultTooLargeError",
    "SerializationError",
    "SetupError",
    "SkywardError",
    "TaskError",
    "TaskTimeoutError",
    "UnknownMeshError",
    "VersionMismatchError",
    "WorkerCrashedError",
]

# --- misused by the caller -----------------------------------------------------------------


class MisuseError(SkywardError):
    """The caller asked for something that cannot be done; nothing was sent."""


class ConfigError(MisuseError, ValueError):
    """An option has a value it cannot have."""


class NoPoolError(MisuseError, RuntimeError):
    """There is no active pool where one is needed."""


class PoolClosedError(MisuseError, RuntimeError):
    """The pool was closed, or was never opened."""


class ForkedPoolError(MisuseError, RuntimeError):
    """A pool was used in a child process that was forked after it opened."""


class AbsentRankError(MisuseError, LookupError):
    """``.on(rank)`` names a node that the pool does not have."""

    def __init__(self, rank: int, present: tuple[int, ...]) -> None:
        super().__init__()
        self.rank = rank
        self.present = present

    def __str__(self) -> str:
        ranks = ", ".join(map(str, self.present)) or "none"
        advice = "use .on(rank) with one of these" if self.present else "call again when one is ready"
        head = ", or .on('head')" if 0 in self.present else ""
        return f"no node with rank {self.rank} in this pool (ready ranks: {ranks}); {advice}{head}"


class UnknownMeshError(MisuseError, LookupError):
    """No mesh has this name, or with "" none was named. ``known`` are those there are, ``advice`` says what to do."""

    def __init__(self, name: str, known: tuple[str, ...] = (), advice: str = "") -> None:
        super().__init__()
        self.name = name
        self.known = known
        self.advice = advice

    def __str__(self) -> str:
        text = f"there is no mesh {self.name!r}" if self.name else "no mesh was named"
        if self.known:
            text += f"; there are {', '.join(self.known)}"
        elif self.name:
            text += ", nor any other"
        return text + (f"; {self.advice}" if self.advice else "")


class MeshExistsError(MisuseError, RuntimeError):
    """A mesh of this name is there already; nothing was started."""

    def __init__(self, name: str, advice: str = "") -> None:
        super().__init__()
        self.name = name
        self.advice = advice

    def __str__(self) -> str:
        return f"a mesh {self.name!r} is there already" + (f"; {self.advice}" if self.advice else "")


class SerializationError(MisuseError, TypeError):
    """A function, an argument or a value cannot be serialized.

    ``path`` leads from the call to the culprit, ``reason`` is pickle's own complaint.
    """

    def __init__(self, what: str, path: tuple[str, ...] = (), reason: str = "") -> None:
        super().__init__()
        self.what = what
        self.path = path
        self.reason = reason

    @property
    def complaint(self) -> str:
        """Return path and reason alone, for a text that says itself what cannot be serialized."""
        return ": ".join(filter(None, (_shown(self.path), self.reason)))

    def __str__(self) -> str:
        where = _shown(self.path)
        text = f"cannot serialize {self.what}"
        if where:
            text += f": {where}"
        if self.reason:
            text += f" ({self.reason})"
        return text


_ENDS = 4  # steps of a path that are told from either end: what lies between in a deep value is more of the same


def _shown(path: tuple[str, ...]) -> str:
    steps = (*path[:_ENDS], "…", *path[-_ENDS:]) if len(path) > 2 * _ENDS + 1 else path
    return " → ".join(steps)


# --- lost or refused by the outside --------------------------------------------------------


class MeshError(SkywardError):
    """A node, a link or a provider failed."""


class NodeLostError(MeshError, ConnectionError):
    """The node that held the task died or fell silent, and the task may not run again."""

    def __init__(self, node: int | None, reason: str, attempts: int = 1, task: int | None = None) -> None:
        super().__init__()
        self.node = node
        self.reason = reason
        self.attempts = attempts
        self.task = task

    def __str__(self) -> str:
        text = f"node {self.node} was lost: {self.reason}"
        if self.attempts > 1:
            text += f" (the task was lost {self.attempts} times)"
        return text


class NoNodesError(MeshError, ConnectionError):
    """No node is left, and none became ready within ``node_wait`` seconds."""

    def __init__(self, waited: float, causes: tuple[str, ...] = ()) -> None:
        super().__init__()
        self.waited = waited
        self.causes = causes

    def __str__(self) -> str:
        text = told(self.waited, "no node became ready within node_wait={:g} s")
        if self.causes:
            text += "; causes:"
        for cause in dict.fromkeys(self.causes):
            times = self.causes.count(cause)
            text += f"\n  {cause}" + (f" ({times} times)" if times > 1 else "")
        return text


class BroadcastError(MeshError, RuntimeError):
    """At least one node of a broadcast failed.

    ``results`` holds, in the order of ``ranks``, each node's value or its exception.
    """

    def __init__(self, ranks: tuple[int, ...], results: tuple[Any, ...], failed: tuple[int, ...]) -> None:
        super().__init__()
        self.ranks = ranks
        self.results = results
        self.failed = failed

    @property
    def errors(self) -> dict[int, BaseException]:
        """Return the failures by rank."""
        outcomes = dict(zip(self.ranks, self.results, strict=True))
        return {rank: outcomes[rank] for rank in self.failed}

    def __str__(self) -> str:
        lines = [f"broadcast failed on {len(self.failed)} of {len(self.ranks)} nodes:"]
        lines += [f"  node {rank}: {type(error).__name__}: {error}" for rank, error in self.errors.items()]
        return "\n".join(lines)


class ProvisionError(MeshError, RuntimeError):
    """Nodes could not be started. ``log`` holds the last lines a node printed, if any."""

    def __init__(self, message: str, log: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.log = log

    def __str__(self) -> str:
        text = super().__str__()
        if not self.log:
            return text
        return text + "\nlast lines of its log:\n" + "\n".join(f"  {line}" for line in self.log)


class CapacityError(ProvisionError):
    """The provider could not supply as many nodes as were asked for."""

    def __init__(self, got: int, wanted: int, reason: str = "") -> None:
        super().__init__("")
        self.got = got
        self.wanted = wanted
        self.reason = reason

    def __str__(self) -> str:
        return f"got {self.got} of {self.wanted} nodes" + (f": {self.reason}" if self.reason else "")


class QuotaError(CapacityError):
    """The account may not have as many nodes as were asked for."""


class AccessError(ProvisionError):
    """The provider does not know who we are, or does not allow what we asked for."""


class HostKeyError(ProvisionError):
    """An SSH host presented a key that is unknown or has changed; nothing was run there."""


class HostUnreachableError(ProvisionError):
    """An SSH host does not answer, is not known by that name, or hides its port behind a firewall."""


class LoginRefusedError(ProvisionError):
    """An SSH host does not let us in with the keys that we have; nothing was run there."""


class BootstrapError(ProvisionError):
    """A machine could not be made a node: a step failed there, or took too long. Nothing of it runs any more."""


class SetupError(BootstrapError):
    """The user's set-up command failed on the machine."""


class NoPythonError(BootstrapError):
    """The machine has no Python of the version that the node needs."""


class ArchitectureError(BootstrapError):
    """The machine is of a kind that there is nothing for."""


class DiskFullError(BootstrapError):
    """The machine's disk has no room for what the node needs."""


class PortInUseError(BootstrapError):
    """The port that the node shall listen at is taken."""


class PackageError(BootstrapError):
    """A package of the image could not be installed."""


class AuthError(MeshError, PermissionError):
    """A key was refused, by the node or by us."""


class VersionMismatchError(MeshError, RuntimeError):
    """Client and node speak different versions of the protocol or of Python."""

    def __init__(self, what: str, client: str, node: str) -> None:
        super().__init__()
        self.what = what
        self.client = client
        self.node = node

    def __str__(self) -> str:
        return f"{self.what} differs: client has {self.client}, node has {self.node}"


# --- our bug, or a hostile peer ------------------------------------------------------------


class ProtocolError(SkywardError, RuntimeError):
    """A message that no correct peer sends."""
