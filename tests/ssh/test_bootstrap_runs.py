"""A bundle that is unpacked and started: what it says, what it leaves, what it uses again."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

import skyward as sky
from skyward.image import Image
from skyward.providers import bootstrap
from skyward.transport.keys import make_pair
from tests.ssh.bootstraps import CONFIG, Machine, bundle_of

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """Return directories that a bootstrap takes for a machine's."""
    return Machine(tmp_path)


def steps(lines: list[str]) -> list[str]:
    """Return the steps that were said."""
    return [said.text for line in lines if (said := bootstrap.understand(line)).kind == "step"]


@pytest.mark.rule("R34")
def test_bootstrap_makes_a_node_that_runs_tasks(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The node serves the client it was made for; tasks find the files and the variables of the image."""
    root = tmp_path / "project"
    (root / "data").mkdir(parents=True)
    (root / "data" / "words.txt").write_text("some words")
    (root / "late.py").write_text("ANSWER = 42\n")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    image = Image(env={"MODE": "canary-7f3a"}, includes=["data", "late.py"])
    pair = make_pair()
    key_file = tmp_path / "config" / "client.key"
    key_file.parent.mkdir(mode=0o700)
    key_file.touch(0o600)
    key_file.write_text(f"public {pair.public}\nsecret {pair.secret}\n")

    @sky.function
    def look() -> tuple[str, str, int, bool]:
        from importlib import import_module

        with open("data/words.txt", encoding="utf-8") as file:
            return file.read(), os.environ["MODE"], import_module("late").ANSWER, "site-packages" in str(os.__file__)

    config = replace(CONFIG, client_keys=(pair.public,), env=dict(image.env))
    running = machine.bootstrap(bundle_of(image, str(root)), config)
    ready = running.ready()
    running.end(keep=True)
    node = sky.Static([(ready["endpoint"], ready["public_key"])], key=str(key_file))
    with sky.Compute(node, console=False) as pool:
        assert (look() >> pool)[:3] == ("some words", "canary-7f3a", 42)
    running.stop()
    assert machine.nodes() == []
    secret = [path for path in machine.cache.rglob("*") if path.is_file() and b"canary-7f3a" in path.read_bytes()]
    assert secret == []


@pytest.mark.rule("R34")
def test_second_bootstrap_uses_what_the_first_has_made(machine: Machine) -> None:
    """The environment is made once for all bundles that need the same."""
    first = machine.bootstrap(bundle_of())
    first.ready()
    said = steps(first.end())
    assert any("making an environment" in step for step in said)
    second = machine.bootstrap(bundle_of(Image(env={"A": "b"})))
    second.ready()
    assert "using the environment that is there" in steps(second.end())
    assert machine.nodes() == []


def test_same_content_makes_the_same_bundle() -> None:
    """Hash and name of a bundle are those of its bytes, and they are the same each time."""
    first, second = bundle_of(), bundle_of()
    assert (first.sha256, first.data) == (second.sha256, second.data)
    assert first.sha256[:16] in first.name


def test_node_that_is_not_kept_ends_with_its_launcher(machine: Machine) -> None:
    """Who does not say `keep` gets no node: nothing of it is left when the bootstrap has ended."""
    running = machine.bootstrap(bundle_of())
    running.ready()
    assert running.end()[-1].startswith("skyward: error bootstrap it was not wanted any more")
    assert running.process.returncode == 1
    assert machine.nodes() == []
    assert not os.path.exists(f"/proc/{running.keeper}")


def test_port_in_use_is_told(machine: Machine) -> None:
    """A port that is taken is an error of its own, and no node is left."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        config = replace(CONFIG, bind=f"tcp://127.0.0.1:{taken.getsockname()[1]}")
        running = machine.bootstrap(bundle_of(), config)
        said = running.end(keep=True)
    assert said[-1].startswith("skyward: error port-in-use ")
    assert machine.nodes() == []


def test_node_without_clients_ends_by_itself(machine: Machine) -> None:
    """After `alone` seconds without a client the node is gone, and so is its directory."""
    running = machine.bootstrap(bundle_of(), replace(CONFIG, alone=0.5))
    running.ready()
    watched = os.pidfd_open(running.keeper)
    running.end(keep=True)
    import select

    assert select.select([watched], [], [], 20)[0]
    os.close(watched)
    assert machine.nodes() == []
