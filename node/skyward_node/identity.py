"""Who this node is: what a client is told when it says hello. Cheap: nothing is imported to ask its version."""

from __future__ import annotations

import os
import platform
import sys
from itertools import takewhile
from typing import TYPE_CHECKING, Final

from skyward.machine.versions import package_versions
from skyward_node.core import Identity
from skyward_node.executors.environment import ACCELERATORS, share

if TYPE_CHECKING:
    from skyward.model import NodeConfig

_DEVICE: Final = "nvidia"  # and a number


def make_identity(config: NodeConfig) -> Identity:
    """Return a new identity: every life of a daemon has its own epoch."""
    return Identity(
        epoch=int.from_bytes(os.urandom(8), "big") >> 1 or 1,
        python=platform.python_version(),
        versions=package_versions(sys.path if config.sys_path is None else config.sys_path),
        hostname=os.uname().nodename,
        address="127.0.0.1",
        pid=os.getpid(),
        accelerators=share(
            accelerators(config.env.get(ACCELERATORS, os.environ.get(ACCELERATORS))), config.seat, config.seats
        ),
    )


def accelerators(visible: str | None) -> list[str]:
    """Return the ids of the GPUs that the node may use; ``visible`` is ``CUDA_VISIBLE_DEVICES``, if set."""
    if visible is not None:
        # CUDA takes the ids up to the first that is none.
        return list(takewhile(lambda device: device not in ("", "-1"), map(str.strip, visible.split(","))))
    try:
        devices = os.listdir("/dev")
    except OSError:
        return []
    # Their ids are not the numbers of their files: a container may have /dev/nvidia3 alone, which is its device 0.
    return [
        str(id) for id in range(sum(name.startswith(_DEVICE) and name[len(_DEVICE) :].isdecimal() for name in devices))
    ]
