"""`skyward-mesh` on EC2, found as every AWS tool finds it: by the environment."""

from __future__ import annotations

import json
import os
import signal
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from skyward.meshes import files
from skyward.providers.aws import launching, network
from skyward.providers.base import Launched
from skyward.transport.keys import make_pair
from skyward_scripts.cli import main
from tests.aws import clouds
from tests.meshing import make_homes, start

if TYPE_CHECKING:
    from pathlib import Path

    from tests.aws.clouds import Cloud

MESH = f"""
[mesh.cloud]
provider = "aws"
nodes = 1
[mesh.cloud.aws]
region = "{clouds.REGION}"
bucket = "{clouds.BUCKET}"
allow = "{clouds.HERE}"
"""


def run(*arguments: str) -> str:
    """Run the command, which has to succeed; return what it prints."""
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    return result.output


def follow() -> None:
    """Follow the log of a node: what it logs of a client that comes now is there, and Ctrl-C ends it."""
    with start("logs", "-f", "-n", "50", "--node", "0", "cloud") as process:
        assert process.stdout is not None
        heard = iter(process.stdout.readline, "")
        assert any("setting up" in line for line in heard)
        run("ping", "cloud", "-c", "1")
        came = next(line for line in heard if "session opened" in line and ", asking" in line)
        assert came.startswith("[node 0] 20")
        process.send_signal(signal.SIGINT)
        process.stdout.read()
    assert process.returncode == 0


def log_in(machines: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have commands find the cloud, and be let in."""
    for name, value in {
        "AWS_ENDPOINT_URL": machines.url,
        "AWS_ACCESS_KEY_ID": clouds.ACCESS,
        "AWS_SECRET_ACCESS_KEY": clouds.SECRET,
    }.items():
        monkeypatch.setenv(name, value)


@pytest.mark.slow
@pytest.mark.rule("R30")
def test_mesh_lives_from_up_to_down(machines: Cloud, short_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its nodes run functions, let others in, also those that come later, tell how they were set up, and go."""
    log_in(machines, monkeypatch)
    monkeypatch.setattr(network, "LOOK", 0.05)
    monkeypatch.setattr(launching, "QUICKLY", 0.05)
    with make_homes(short_path, monkeypatch) as homes:
        homes.describe(MESH)
        (homes.work / "app.py").write_text("def greet(name: str):\n    return f'hello {name}'\n")
        assert "1 × m6i.large in eu-central-1" in run("up", "cloud", "--dry-run")
        assert "node 0 serves at" in run("up", "cloud", "-y")
        assert run("run", "app.py::greet", "--name", "ada") == "hello ada\n"
        run("keys", "add", "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7", "bob")
        assert "node 1 serves at" in run("resize", "cloud", "2", "-y")
        [bob] = json.loads(run("keys", "list", "--json"))
        assert (bob["label"], bob["nodes"]) == ("bob", [0, 1])
        assert "setting up" in run("logs", "cloud", "-n", "50", "--node", "1")
        follow()
        monkeypatch.chdir("/")
        assert run("down", "cloud", "-y").endswith("mesh cloud is gone\n")
        assert machines.left() == []


@pytest.mark.rule("R30")
def test_log_that_cannot_be_read_is_told(short_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without credentials, say: the reason, and exit code 6."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    node = Launched(ident="i-0123456789abcdef0", endpoint="tcp://127.0.0.1:1", public_key=make_pair().public)
    with make_homes(short_path, monkeypatch) as homes:
        monkeypatch.setenv("HOME", str(homes.root))  # where they could be
        files.claim(files.Mesh(name="cloud", kind="aws", settings={"region": clouds.REGION}, nodes=(node,)))
        result = CliRunner().invoke(main, ["logs", "cloud"])
        assert (result.exit_code, result.stdout) == (6, "")
        assert result.stderr.startswith("[node 0] its log cannot be read: there are no AWS credentials"), result.stderr


@pytest.mark.rule("R30")
def test_mistyped_bucket_keeps_no_name(machines: Cloud, short_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing was made, so nothing is looked for in a bucket that there is not."""
    log_in(machines, monkeypatch)
    with make_homes(short_path, monkeypatch) as homes:
        homes.describe(MESH.replace(clouds.BUCKET, "no-such-bucket-of-ours"))
        result = CliRunner().invoke(main, ["up", "cloud", "-y"])
        assert result.exit_code == 5, result.output
        assert "no-such-bucket-of-ours" in result.output
        assert "--force" not in result.output
        assert files.known() == ()
        assert machines.left() == []
