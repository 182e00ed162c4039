"""Run ordinary Python functions on a mesh of machines: ``import skyward as sky``.

    calls, work/                describing work: @sky.function, calls, groups, operators
    compute, pool/              the pool as users hold it; how calls become tasks: operations, maps, bundles
    results, answers/           how answers reach the user's thread: futures, streams, values
    runtime, task/              the active pool, and where a task runs; what a task uses: nested, sharding, output
    config, image, model, errors  every setting, what nodes have, shared values, every exception
    mesh/                       the client's side of a mesh: nodes, links and scheduler under one loop
    meshes/                     nodes that outlive a pool: described, brought up, attached to, ended
    wire/                       bytes <-> messages, shared with the node
    dispatch/                   which task goes where and when, and in which order results come
    transport/                  sockets, polling, ownership
    providers/                  where nodes come from
    machine/                    this computer: shared memory, CPUs, private files, versions

Importing this costs a millisecond or two: a name is loaded when it is first used.
"""

from __future__ import annotations

from importlib import import_module

TYPE_CHECKING = False  # type checkers know better; `typing` takes longer than all else that is imported here
if TYPE_CHECKING:
    from skyward.answers.futures import Future
    from skyward.answers.streams import ResultStream
    from skyward.answers.values import ValueStream
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
    from skyward.image import Image
    from skyward.model import Nodes
    from skyward.providers.aws.provider import AWS
    from skyward.providers.local import Local
    from skyward.providers.ssh import SSH
    from skyward.providers.ssh_hosts import Host
    from skyward.providers.static import Static
    from skyward.runtime import InstanceInfo, Peer, instance_info, sky
    from skyward.task.output import OutputLine, redirect_output, silent, stderr, stdout
    from skyward.task.sharding import shard

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
    "Future": "skyward.answers.futures",
    "Host": "skyward.providers.ssh_hosts",
    "Image": "skyward.image",
    "InstanceInfo": "skyward.runtime",
    "Local": "skyward.providers.local",
    "Nodes": "skyward.model",
    "Options": "skyward.config",
    "OutputLine": "skyward.task.output",
    "Peer": "skyward.runtime",
    "PendingFunction": "skyward.calls",
    "PendingFunctionGroup": "skyward.calls",
    "ResultStream": "skyward.answers.streams",
    "Static": "skyward.providers.static",
    "ValueStream": "skyward.answers.values",
    "Worker": "skyward.config",
    "function": "skyward.calls",
    "gather": "skyward.calls",
    "instance_info": "skyward.runtime",
    "redirect_output": "skyward.task.output",
    "shard": "skyward.task.sharding",
    "silent": "skyward.task.output",
    "sky": "skyward.runtime",
    "stderr": "skyward.task.output",
    "stdout": "skyward.task.output",
}


if not TYPE_CHECKING:  # to checkers a module with this has every name, and no misspelt one is an error

    def __getattr__(name: str) -> object:
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(_HOMES.get(name, "skyward.errors")), name)
        globals()[name] = value  # the next use finds it without us
        return value


def __dir__() -> list[str]:
    return sorted({*__all__, *(name for name in globals() if name[:2] == "__")})
