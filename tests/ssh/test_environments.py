"""Environments on a machine: what an index has is installed into them, they are made once, given up cleanly, swept."""

from __future__ import annotations

import fcntl
import os
import time
from typing import TYPE_CHECKING

import pytest

from skyward.image import Image
from skyward.providers import bootstrap
from skyward.providers.onhost.sweep import DEAD, UNUSED, sweep
from tests.ssh.bootstraps import CONFIG, Machine, bundle_of
from tests.ssh.indexes import write_wheel

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """Return directories that a bootstrap takes for a machine's."""
    return Machine(tmp_path)


@pytest.mark.rule("R34")
def test_package_that_only_the_index_has_is_installed(machine: Machine, tmp_path: Path) -> None:
    """By the machine's own installer, from its own index, with the versions that came along as they are."""
    index = tmp_path / "index"
    index.mkdir()
    write_wheel(index, "tiny_package", "1.5", "py3-none-any")
    variables = {f"{tool}_{name}": value for tool in ("UV", "PIP") for name, value in
                 {"NO_INDEX": "1", "FIND_LINKS": str(index)}.items()}  # fmt: skip
    running = machine.bootstrap(bundle_of(Image(pip=["tiny-package>=1"])), CONFIG, **variables)
    running.ready()
    running.end()
    (place,) = (machine.cache / "envs").glob("*/lib/python*/site-packages/tiny_package/__init__.py")
    assert "py3-none-any" in place.read_text(encoding="ascii")


def test_bootstraps_at_once_make_one_environment(machine: Machine) -> None:
    """The others wait for the one that makes it."""
    bundle = bundle_of()
    running = [machine.bootstrap(bundle) for _ in range(3)]
    for each in running:
        each.ready()
    said = [line for each in running for line in each.end()]
    assert sum("step making an environment" in line for line in said) == 1
    assert machine.nodes() == []


def test_installer_ends_with_its_launcher(machine: Machine, tmp_path: Path) -> None:
    """Who is gone needs no packages: what installs them is ended, and next time it begins anew."""
    tools = tmp_path / "tools"
    tools.mkdir()
    note = tmp_path / "note"
    (tools / "uv").write_text(f"#!/bin/sh\necho $$ >{note}\necho resolving >&2\nexec sleep 60\n", encoding="ascii")
    (tools / "uv").chmod(0o700)
    path = f"{tools}:{os.environ['PATH']}"
    running = machine.bootstrap(bundle_of(Image(pip=["no-such-package-of-anybody"])), PATH=path)
    assert running.process.stderr is not None
    while b"resolving" not in running.process.stderr.readline():
        pass
    said = running.end()
    assert bootstrap.understand(said[-1]).text == "it was not wanted any more"
    assert not os.path.exists(f"/proc/{int(note.read_text(encoding='ascii'))}")
    assert not list((machine.cache / "envs").glob("*/complete"))


def test_what_nobody_has_used_for_long_is_swept(machine: Machine) -> None:
    """Bundles, environments and remains of nodes go when they are old, unless somebody uses them."""
    now = time.time()
    places: dict[str, tuple[Path, float]] = {
        "new bundle": (machine.cache / "bundles" / "a", 0.0),
        "old bundle": (machine.cache / "bundles" / "b", UNUSED),
        "used bundle": (machine.cache / "bundles" / "c", UNUSED),
        "old environment": (machine.cache / "envs" / "a", UNUSED),
        "used environment": (machine.cache / "envs" / "b", UNUSED),
        "old node": (machine.run / "node-a", DEAD),
        "live node": (machine.run / "node-b", DEAD),
        "new remains": (machine.run / "node-c", 0.0),
        "something else": (machine.run / "else", UNUSED),
    }
    for path, age in places.values():
        path.mkdir(parents=True)
        if path.parent.name == "envs":
            path.with_name(f"{path.name}.lock").touch()
        os.utime(path, (now - age - 1, now - age - 1))
    used = [places["used bundle"][0], machine.cache / "envs" / "b.lock", places["live node"][0]]
    held = [os.open(path, os.O_RDONLY) for path in used]
    for fd in held:
        fcntl.flock(fd, fcntl.LOCK_SH)
    sweep(str(machine.cache), str(machine.run))
    for fd in held:
        os.close(fd)
    gone = {name for name, (path, _) in places.items() if not path.exists()}
    assert gone == {"old bundle", "old environment", "old node"}
