"""Who this node is: what a client is told when it says hello. Cheap: nothing is imported to ask its version."""

from __future__ import annotations

import os
import platform
import re
import sys
from typing import TYPE_CHECKING, Final

from skyward.versions import package_versions
from skyward_node.core import Identity

if TYPE_CHECKING:
    from skyward.model import NodeConfig

_DEVICE: Final = re.compile(r"nvidia(\d+)")


def make_identity(config: NodeConfig) -> Identity:
    """Return a new identity: every life of a daemon has its own epoch."""
    return Identity(
        epoch=int.from_bytes(os.urandom(8), "big") >> 1 or 1,
        python=platform.python_version(),
        versions=package_versions(sys.path if config.sys_path is None else config.sys_path),
        hostname=os.uname().nodename,
        address="127.0.0.1",
        pid=os.getpid(),
        accelerators=accelerators(config.env.get("CUDA_VISIBLE_DEVICES", os.environ.get("CUDA_VISIBLE_DEVICES"))),
    )


def accelerators(visible: str | None) -> list[str]:
    """Return the ids of the GPUs that the node may use; ``visible`` is ``CUDA_VISIBLE_DEVICES``, if set."""
    if visible is not None:
        return [id for id in visible.split(",") if id and id != "-1"]
    try:
        devices = os.listdir("/dev")
    except OSError:
        return []
    return sorted((match[1] for name in devices if (match := _DEVICE.fullmatch(name))), key=int)
