"""The end of ``bootstrap.sh``: reads what the node shall be, sees to an environment, and becomes its keeper there."""

from __future__ import annotations

import json
import os
import shutil
import stat
import sys
import zipfile
from typing import Any, Final

from skyward.providers.onhost.environment import Environment
from skyward.providers.onhost.receive import cache
from skyward.providers.onhost.words import Failure, Lifeline, reported, step

RANDOM: Final = 6  # bytes of a node's name

KEEPER: Final = """\
import sys
sys.path.insert(0, sys.argv[3] + "/lib")
from skyward.providers.onhost.keeper import main
main()
"""


def main() -> None:
    """Run with the directory of a bundle as argument."""
    here = sys.argv[1]
    with reported():
        lifeline = Lifeline()
        config = json.loads(lifeline.read_line())
        mesh = config.pop("mesh", "")
        unpack_library(here)
        environment = Environment(here, cache(), lifeline)
        environment.ensure()
        node = make_node(here, mesh)
        try:
            become_keeper(environment, node, here, config, kept=lifeline.kept)
        finally:
            shutil.rmtree(node, ignore_errors=True)


def unpack_library(here: str) -> None:
    """Make the directory ``lib`` of a bundle, unless it is there."""
    place = os.path.join(here, "lib")
    if os.path.isdir(place):
        return
    temporary = f"{place}.{os.getpid()}"
    with zipfile.ZipFile(os.path.join(here, "lib.zip")) as packed:
        packed.extractall(temporary)
    try:
        os.rename(temporary, place)
    except OSError:  # another bootstrap was faster
        shutil.rmtree(temporary, ignore_errors=True)
        if not os.path.isdir(place):
            raise


def make_node(here: str, mesh: str) -> str:
    """Return a new directory for a node, with the files of the image in ``work``, and the name of its mesh."""
    run = os.environ.get("SKYWARD_RUN") or f"/tmp/skyward-{os.getuid()}"  # noqa: S108 - ours alone, which is checked
    os.makedirs(run, mode=0o700, exist_ok=True)
    status = os.lstat(run)
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise Failure("bootstrap", f"the directory {run} has to be ours alone (mode 0700): set SKYWARD_RUN to another")
    node = os.path.join(run, f"node-{os.urandom(RANDOM).hex()}")
    os.mkdir(node, 0o700)
    work, files = os.path.join(node, "work"), os.path.join(here, "files")
    try:
        if os.path.isdir(files):
            step("copying files")
            shutil.copytree(files, work)
        else:
            os.mkdir(work)
        if mesh:
            with open(os.path.join(node, "mesh"), "w", encoding="utf-8") as file:
                file.write(f"{mesh}\n")
    except BaseException:
        shutil.rmtree(node, ignore_errors=True)
        raise
    return node


def become_keeper(environment: Environment, node: str, here: str, config: dict[str, Any], *, kept: bool) -> None:
    """Go on as `keeper`, in the environment; the configuration may hold secrets, and goes through a descriptor."""
    state = os.memfd_create("skyward-start", 0)  # stays open
    os.write(state, json.dumps({"config": config, "kept": kept}).encode())
    os.lseek(state, 0, os.SEEK_SET)
    os.set_inheritable(state, True)
    binaries = os.path.join(environment.place, "bin")
    path = os.pathsep.join([binaries, os.environ.get("PATH", os.defpath)])
    variables = os.environ | {"VIRTUAL_ENV": environment.place, "PATH": path}
    arguments = [environment.python, "-P", "-c", KEEPER, "skyward-keeper", node, here, str(state)]
    step("starting the node")
    os.execve(environment.python, arguments, variables)  # noqa: S606 - it becomes the keeper
