"""Run ordinary Python functions on a mesh of machines: ``import skyward as sky``.

    calls, pending, gathering   describing work: @sky.function, calls, groups, operators
    compute, operations, mapping  the pool as users hold it; nested: as a task sees it
    mesh/                       the client's side of a mesh: nodes, links and scheduler under one loop
    results, futures, streams   how answers reach the user's thread
    runtime, sharding           the active pool, where a task runs, and its node's part of some data
    output                      who sees what tasks print
    config, image, model, errors  every setting, what nodes have, shared values, every exception
    wire/                       bytes <-> messages, shared with the node
    dispatch/                   which task goes where and when
    transport/                  sockets, polling, ownership
    providers/                  where nodes come from
    meshes/                     nodes that outlive a pool: described, brought up, attached to, ended

Importing this costs a millisecond or two: a name is loaded when it is first used.
"""

from __future__ import annotations

from importlib import import_module

TYPE_CHECKING = False  # type checkers know better; `typing` takes longer than all else that is imported here
if TYPE_CHECKING:
    from skyward.calls import PendingFunction, PendingFunctionGroup, function, gather
    from skyward.compute import Compute
    from skyward.config import Options, Worker
    from skyward.errors import (
        AbsentRankError,
        AccessError,
        ArchitectureError,
        AuthError,
        BootstrapError,
        BroadcastError,
        CapacityError,
        ConfigError,
        DeadlockError,
        DiskFullError,
        ForkedPoolError,
        HostKeyError,
        HostUnreachableError,
        LoginRefusedError,
        MeshError,
        MeshExistsError,
        MisuseError,
        NodeLostError,
        NoNodesError,
        NoPoolError,
        NoPythonError,
        PackageError,
        PoolClosedError,
        PortInUseError,
        ProtocolError,
        ProvisionError,
        QuotaError,
        RemoteError,
        RemoteImportError,
        ResultTooLargeError,
        SerializationError,
        SetupError,
        SkywardError,
        TaskError,
        TaskTimeoutError,
        UnknownMeshError,
        VersionMismatchError,
        WorkerCrashedError,
    )
    from skyward.futures import Future
    from skyward.image import Image
    from skyward.model import Nodes
    from skyward.output import OutputLine, redirect_output, silent, stderr, stdout
    from skyward.providers.aws.provider import AWS
    from skyward.providers.local import Local
    from skyward.providers.ssh import SSH
    from skyward.providers.ssh_hosts import Host
    from skyward.providers.static import Static
    from skyward.runtime import InstanceInfo, Peer, instance_info, sky
    from skyward.sharding import shard
    from skyward.streams import ResultStream
    from skyward.values import ValueStream

__version__ = "0.1.0"

__all__ = [
    "AWS",
    "SSH",
    "AbsentRankError",
    "AccessError",
    "ArchitectureError",
    "AuthError",
    "BootstrapError",
    "BroadcastError",
    "CapacityError",
    "Compute",
    "ConfigError",
    "DeadlockError",
    "DiskFullError",
    "ForkedPoolError",
    "Future",
    "Host",
    "HostKeyError",
    "HostUnreachableError",
    "Image",
    "InstanceInfo",
    "Local",
    "LoginRefusedError",
    "MeshError",
    "MeshExistsError",
    "MisuseError",
    "NoNodesError",
    "NoPoolError",
    "NoPythonError",
    "NodeLostError",
    "Nodes",
    "Options",
    "OutputLine",
    "PackageError",
    "Peer",
    "PendingFunction",
    "PendingFunctionGroup",
    "PoolClosedError",
    "PortInUseError",
    "ProtocolError",
    "ProvisionError",
    "QuotaError",
    "RemoteError",
    "RemoteImportError",
    "ResultStream",
    "ResultTooLargeError",
    "SerializationError",
    "SetupError",
    "SkywardError",
    "Static",
    "TaskError",
    "TaskTimeoutError",
    "UnknownMeshError",
    "ValueStream",
    "VersionMismatchError",
    "Worker",
    "WorkerCrashedError",
    "__version__",
    "function",
    "gather",
    "instance_info",
    "redirect_output",
    "shard",
    "silent",
    "sky",
    "stderr",
    "stdout",
]

# Where a public name lives; what is not here is an error.
_HOMES = {
    "SSH": "skyward.providers.ssh",
    "AWS": "skyward.providers.aws.provider",
    "Compute": "skyward.compute",
    "Future": "skyward.futures",
    "Host": "skyward.providers.ssh_hosts",
    "Image": "skyward.image",
    "InstanceInfo": "skyward.runtime",
    "Local": "skyward.providers.local",
    "Nodes": "skyward.model",
    "Options": "skyward.config",
    "OutputLine": "skyward.output",
    "Peer": "skyward.runtime",
    "PendingFunction": "skyward.calls",
    "PendingFunctionGroup": "skyward.calls",
    "ResultStream": "skyward.streams",
    "Static": "skyward.providers.static",
    "ValueStream": "skyward.values",
    "Worker": "skyward.config",
    "function": "skyward.calls",
    "gather": "skyward.calls",
    "instance_info": "skyward.runtime",
    "redirect_output": "skyward.output",
    "shard": "skyward.sharding",
    "silent": "skyward.output",
    "sky": "skyward.runtime",
    "stderr": "skyward.output",
    "stdout": "skyward.output",
}


if not TYPE_CHECKING:  # to checkers a module with this has every name, and no misspelt one is an error

    def __getattr__(name: str) -> object:
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(_HOMES.get(name, "skyward.errors")), name)
        globals()[name] = value  # the next use finds it without us
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
