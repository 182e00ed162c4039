"""What goes wrong on the way to a node on an SSH host: each an error of its own that names the host."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

import skyward as sky
from skyward.errors import (
    ArchitectureError,
    BootstrapError,
    DiskFullError,
    HostUnreachableError,
    LoginRefusedError,
    NoPythonError,
    PackageError,
    PortInUseError,
    SetupError,
)
from skyward.image import Image
from skyward.providers import ssh_launch
from skyward.providers.base import LaunchSpec
from tests.ssh import machines

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.ssh.conftest import Hosts
    from tests.ssh.machines import Machine

SOON = 10.0  # seconds, as the table of failures has it


def failure(provider: sky.SSH, image: Image | None = None, start_timeout: float = 60.0) -> sky.ProvisionError:
    """Return the error that a launch ends with, in time."""
    provider.prepare()
    start = time.monotonic()
    try:
        with pytest.raises(sky.ProvisionError) as caught:
            spec = LaunchSpec(image=image or Image(), start_timeout=start_timeout)
            provider.launch(spec, 0, threading.Event())
    finally:
        provider.close()
    assert time.monotonic() - start < 2 * SOON  # a busy machine may take twice as long
    return caught.value


def test_host_that_nobody_knows_is_unreachable(clean_hosts: Hosts) -> None:
    """A name without an address."""
    error = failure(sky.SSH(["nobody.invalid"], ssh_config="none"))
    assert type(error) is HostUnreachableError
    assert "nobody.invalid" in str(error)
    assert "check its name" in str(error)


def test_host_without_a_server_is_unreachable(clean_hosts: Hosts, host: Machine) -> None:
    """A port where nobody listens."""
    error = failure(clean_hosts.provider(host, port=23))
    assert type(error) is HostUnreachableError
    assert f"root@{host.address}:23" in str(error)
    assert "Connection refused" in str(error)


@pytest.mark.rule("F54")
def test_key_that_is_not_admitted_is_told(clean_hosts: Hosts, host: Machine) -> None:
    """The host lets nobody in with this key."""
    other = clean_hosts.place / "other"
    if not other.exists():
        machines.make_key(other)
    error = failure(clean_hosts.provider(host, identity=str(other)))
    assert type(error) is LoginRefusedError
    assert host.address in str(error)
    assert "Permission denied" in str(error)
    assert "named by identity=" in str(error)


@pytest.mark.rule("F54")
def test_python_that_is_not_there_is_told(clean_hosts: Hosts, host: Machine) -> None:
    """The interpreter that was named is no other."""
    error = failure(clean_hosts.provider(host, python="/opt/none/python3"))
    assert type(error) is NoPythonError
    assert host.address in str(error)
    assert "/opt/none/python3" in str(error)


@pytest.mark.rule("F54")
def test_host_without_python_is_told(clean_hosts: Hosts, make_host: Callable[..., Machine]) -> None:
    """A machine that has none says what it has."""
    hide = "unshare --mount sh -c 'for f in /usr/bin/python3*; do mount --bind /dev/null $f; done; exec \"$@\"' sh"
    bare = make_host(launcher=hide)
    error = failure(clean_hosts.provider(bare))
    assert type(error) is NoPythonError
    assert bare.address in str(error)
    assert "name one that is there: python=" in str(error)


@pytest.mark.rule("F54")
def test_full_disk_is_told(clean_hosts: Hosts, host: Machine) -> None:
    """There is no room for what has to be brought there."""
    host.inside("mkdir", "-p", "/tmp/small")
    host.inside("mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", "/tmp/small")
    try:
        error = failure(clean_hosts.provider(host, setup="export SKYWARD_CACHE=/tmp/small/cache"))
    finally:
        host.inside("umount", "/tmp/small")
    assert type(error) is DiskFullError
    assert host.address in str(error)
    assert "No space left on device" in str(error)
    assert "SKYWARD_CACHE" in str(error)


def test_disk_that_fills_while_unpacking_is_told(clean_hosts: Hosts, host: Machine) -> None:
    """There is room for the bundle, and not for the environment; what was begun is made anew another time."""
    host.inside("mkdir", "-p", "/tmp/small")
    host.inside("mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", "/tmp/small")
    provider = clean_hosts.provider(host, setup="export SKYWARD_CACHE=/tmp/small/cache")
    try:
        error = failure(provider)
        host.inside("mount", "-o", "remount,size=200m", "/tmp/small")
        with sky.Compute(provider, console=False) as pool:
            assert pool.current_nodes() == 1
    finally:
        host.inside("umount", "/tmp/small")
    assert type(error) is DiskFullError


def test_wrong_kind_of_machine_is_told(
    clean_hosts: Hosts, make_host: Callable[..., Machine], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine that no wheels are for: here one of 32 bits, as it says itself, and an index that has nothing."""
    for name in ("UV_NO_INDEX", "PIP_NO_INDEX"):
        monkeypatch.setenv(name, "1")
    other = make_host(launcher="setarch i686")
    error = failure(clean_hosts.provider(other))
    assert type(error) is ArchitectureError
    assert other.address in str(error)
    assert "i686" in str(error)
    assert "leave the package out" in str(error)


def test_port_that_is_taken_is_told(clean_hosts: Hosts, host: Machine) -> None:
    """The port that was chosen belongs to somebody else there: here to the SSH server."""
    error = failure(clean_hosts.provider(host, node_port=22))
    assert type(error) is PortInUseError
    assert "another node_port=" in str(error)
    assert host.address in str(error)


def test_port_that_a_firewall_hides_is_told(
    clean_hosts: Hosts, make_host: Callable[..., Machine], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The node serves, but not for us; the advice works."""
    monkeypatch.setattr(ssh_launch, "KNOCK", 1.0)  # seconds: what a firewall drops is not answered
    hidden = make_host()
    hidden.admit_only(22)
    error = failure(clean_hosts.provider(hidden))
    assert type(error) is HostUnreachableError
    assert "tunnel=True" in str(error)
    assert [line for line in hidden.processes().values() if "skyward" in line] == []
    with sky.Compute(clean_hosts.provider(hidden, tunnel=True), console=False) as pool:
        assert pool.current_nodes() == 1


@pytest.mark.rule("F52")
def test_setup_that_fails_is_told(clean_hosts: Hosts, host: Machine) -> None:
    """The error has the command and the last 50 lines it has printed."""
    error = failure(clean_hosts.provider(host, setup="seq 80; module load cuda"))
    assert type(error) is SetupError
    assert host.address in str(error)
    assert "module load cuda" in str(error)
    assert "its last lines say why" in str(error)
    assert len(error.log) == 50
    assert error.log[0] == "32"
    assert "module" in error.log[-1]


def test_package_that_cannot_be_had_is_told(clean_hosts: Hosts, host: Machine) -> None:
    """Neither the client nor any index of the host has it; what the installer said comes along."""
    error = failure(clean_hosts.provider(host), Image(pip=["no-such-package-of-anybody==1"]))
    assert type(error) is PackageError
    assert host.address in str(error)
    assert "no-such-package-of-anybody==1" in str(error)
    assert "check its name and version" in str(error)
    assert error.log


def test_debian_package_that_cannot_be_had_is_told(clean_hosts: Hosts, host: Machine) -> None:
    """apt-get has no such package; one that is installed is not asked for."""
    # Without this apt-get asks for its mirrors for a while.
    host.path("/tmp/apt.conf").write_text('Dir::Etc { sourcelist "/dev/null"; sourceparts "/dev/null"; };\n')
    provider = clean_hosts.provider(host, setup="export APT_CONFIG=/tmp/apt.conf")
    error = failure(provider, Image(apt=["coreutils", "no-such-package-of-anybody"]))
    assert type(error) is PackageError
    assert host.address in str(error)
    assert "no-such-package-of-anybody" in str(error)
    assert "coreutils" not in error.message


def test_wait_names_what_it_waits_for(clean_hosts: Hosts, host: Machine) -> None:
    """A step that takes too long is told with the option, and what it has begun is gone."""
    error = failure(clean_hosts.provider(host, setup="echo loading; sleep 60"), start_timeout=2.0)
    assert "start_timeout=2 s" in str(error)
    assert "running the set-up command" in str(error)
    assert error.log == ("loading",)


def test_progress_is_told_live(clean_hosts: Hosts, host: Machine) -> None:
    """What a host does that takes its time is told as it happens, and lines of output with it."""
    told: list[str] = []
    provider = clean_hosts.provider(host, setup="echo loading; sleep 2.5; echo loaded")
    provider.prepare()
    provider.listener = told.append
    try:
        provider.launch(LaunchSpec(), 0, threading.Event())
    finally:
        provider.close()
    text = "\n".join(told)
    assert text.index("running the set-up command") < text.index("| loading") < text.index("| loaded")
    assert all(line.startswith(str(f"root@{host.address}")) for line in text.splitlines())
    assert len(told) > 1


def test_image_for_another_python_is_refused_before_anything_is_done() -> None:
    """Functions do not travel between minor versions."""
    provider = sky.SSH(["h1"])
    with pytest.raises(sky.ConfigError, match=r"3\.99"):
        provider.accept(Image(python="3.99"))


def test_errors_are_distinct() -> None:
    """No failure of a host is told as another one."""
    kinds: list[Any] = [
        ArchitectureError, DiskFullError, NoPythonError, PackageError, PortInUseError, SetupError,
        HostUnreachableError, LoginRefusedError, sky.HostKeyError,
    ]  # fmt: skip
    assert not [(a, b) for a in kinds for b in kinds if a is not b and issubclass(a, b)]
    assert all(issubclass(kind, BootstrapError) for kind in kinds[:6])
