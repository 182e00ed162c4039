"""A cloud for all tests of AWS, and what this machine has to have for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.aws import clouds
from tests.system import install

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.aws.clouds import Cloud

NEEDS = {
    "sshd": "openssh-server",
    "ssh": "openssh-client",
    "ip": "iproute2",
    "unshare": "util-linux",
    "openssl": "openssl",
    "curl": "curl",
    "awk": "mawk",
}


@pytest.fixture(scope="session", autouse=True)
def commands() -> None:
    """Install what machines are made of, or say what to do."""
    install(NEEDS)


@pytest.fixture(scope="session")
def agents_cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    """Yield a cloud whose instances only say that they serve."""
    yield from clouds.running(tmp_path_factory.mktemp("cloud"), "agents")


@pytest.fixture(scope="session")
def machines_cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    """Yield a cloud whose instances are machines; environments of nodes are made once for all of them."""
    cache = tmp_path_factory.mktemp("cache")
    yield from clouds.running(tmp_path_factory.mktemp("cloud"), "machines", str(cache))


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return where this test's journals and caches are."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state" / "skyward" / "aws"


@pytest.fixture
def agents(agents_cloud: Cloud, state: Path) -> Iterator[Cloud]:
    """Yield the cloud of agents; the test must leave nothing in it."""
    assert not agents_cloud.left()
    yield agents_cloud
    left = agents_cloud.left()
    agents_cloud.wipe()
    assert not left


@pytest.fixture
def machines(machines_cloud: Cloud, state: Path) -> Iterator[Cloud]:
    """Yield the cloud of machines; the test must leave nothing in it."""
    assert not machines_cloud.left()
    yield machines_cloud
    left = machines_cloud.left()
    machines_cloud.wipe()
    assert not left
