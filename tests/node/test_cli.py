"""The options of ``skyward-node``."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from skyward.model import NodeConfig
from skyward_node import cli

if TYPE_CHECKING:
    from pathlib import Path

COMMAND = [sys.executable, "-m", "skyward_node"]
ENV = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[NodeConfig]:
    """Return the configurations that the command serves, instead of serving them."""
    configs: list[NodeConfig] = []

    def serve(config: NodeConfig, *, interactive: bool) -> int:
        assert interactive
        configs.append(config)
        return 0

    monkeypatch.setattr(cli, "serve", serve)
    return configs


def test_help_explains_every_option() -> None:
    """No option is without a word about it."""
    result = CliRunner().invoke(cli.command, ["--help"])
    assert result.exit_code == 0
    for parameter in cli.command.params:
        assert getattr(parameter, "help", None), parameter.name
        assert parameter.opts[0] in result.output
    assert "mode 0700" in " ".join(result.output.split())


def test_options_make_the_configuration(served: list[NodeConfig]) -> None:
    """Each option reaches the field it names."""
    arguments = (
        "--bind ipc:///run/x/s --keys /etc/keys --concurrency 4 --executor thread --fresh-processes --lease 5 "
        "--max-payload 99 --log-format json --log-level error --log-file /x/log --metrics 9464"
    )
    result = CliRunner().invoke(cli.command, arguments.split())
    assert result.exit_code == 0, result.output
    assert served == [
        NodeConfig(
            bind="ipc:///run/x/s", keys="/etc/keys", concurrency=4, executor="thread", reuse_processes=False, lease=5.0,
            max_payload=99, log_format="json", log_level="error", log_file="/x/log", metrics=9464,
        )
    ]  # fmt: skip


def test_defaults_are_those_of_the_model(served: list[NodeConfig], monkeypatch: pytest.MonkeyPatch) -> None:
    """Without options the configuration is the default, but for the log, which a person reads, and lasting keys."""
    monkeypatch.setenv("XDG_CONFIG_HOME", "/home/me/.config")
    CliRunner().invoke(cli.command, ["--bind", "ipc:///run/x/s"])
    keys = "/home/me/.config/skyward/node"
    assert served == [NodeConfig(bind="ipc:///run/x/s", keys=keys, log_format="console", log_level="info")]


@pytest.mark.rule("R40")
@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "say where to listen, such as --bind tcp://127.0.0.1:7700"),
        (["--bind", "x", "--concurrency", "0"], "0 is not in the range 1<=x<=4096"),
        (["--bind", "x", "--executor", "fork"], "'fork' is not one of 'process', 'thread'"),
        (["--bind", "x", "--lease", "soon"], "'soon' is not a valid float"),
        (["--bind", "x", "--lease", "nan"], "'nan' is no time"),
        (["--bind", "x", "--lease", "inf"], "inf is not in the range"),
        (["--bind", "x", "--lease", "0"], "0.0 is not in the range"),
        (["--bin", "x"], "Did you mean '--bind'?"),
    ],
)
def test_wrong_usage_is_explained(arguments: list[str], complaint: str) -> None:
    """A wrong option ends with 2 and says what is wrong."""
    result = CliRunner().invoke(cli.command, arguments)
    assert result.exit_code == 2
    assert complaint in result.output


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["keys", "--help"], ["keys", "show"]], ids=" ".join)
def test_output_that_cannot_be_written_is_told(directory: Path, arguments: list[str]) -> None:
    """In one line; nobody is told if nobody reads, and the exit code is a shell's."""
    command = [*COMMAND, *arguments, *(["--dir", str(directory)] if "show" in arguments else [])]
    script = '"$@" {}; exit "${{PIPESTATUS[0]}}"'
    for where, code, said in (
        ("> /dev/full", 1, "Error: cannot write the output: No space left on device\n"),
        ("| true", 141, ""),
    ):
        whole = ["bash", "-c", script.format(where), "bash", *command]
        done = subprocess.run(whole, env=ENV, stderr=subprocess.PIPE, text=True, check=False)
        assert (done.returncode, done.stderr) == (code, said)


def test_version_is_told() -> None:
    """``--version`` names the program."""
    result = CliRunner().invoke(cli.command, ["--version"])
    assert result.exit_code == 0
    assert result.output.startswith("skyward-node, version ")


@pytest.mark.parametrize("arguments", [["--config-fd"], ["--config-fd", "x"], ["--config-fd", "999"]])
def test_missing_configuration_is_explained(arguments: list[str]) -> None:
    """A launcher that passes no descriptor gets usage, not a traceback."""
    result = subprocess.run([*COMMAND, *arguments], env=ENV, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert result.stderr.startswith("skyward-node: --config-fd needs a descriptor with a configuration")


def test_wrong_configuration_is_explained() -> None:
    """So does one that writes something else."""
    result = subprocess.run(
        [*COMMAND, "--config-fd", "0"], input=b'{"bind": 1, "x": 2}', env=ENV, capture_output=True, check=False
    )
    assert result.returncode == 2


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
def test_person_ends_the_daemon(directory: Path, number: signal.Signals, code: int) -> None:
    """Ctrl-C and SIGTERM end an idle daemon at once, and its socket is gone."""
    path = directory / "s"
    with subprocess.Popen(
        [*COMMAND, "--bind", f"ipc://{path}", "--log-format", "json"], env=ENV, stderr=subprocess.PIPE
    ) as process:
        assert process.stderr is not None
        assert select.select([process.stderr], [], [], 20)[0]
        line: dict[str, Any] = json.loads(process.stderr.readline())
        assert (line["event"], line["endpoint"], line["level"]) == ("serving", f"ipc://{path}", "info")
        process.send_signal(number)
        process.communicate(timeout=20)
    assert process.returncode == code
    assert not path.exists()


def test_error_is_told_to_a_person(directory: Path) -> None:
    """What a launcher gets as a line of JSON, a person gets as a sentence."""
    bind = f"ipc://{directory}/" + "x" * 200
    result = subprocess.run([*COMMAND, "--bind", bind], env=ENV, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert result.stderr.startswith("skyward-node: cannot bind")


def test_launched_daemon_imports_neither_click_nor_structlog(directory: Path) -> None:
    """A daemon serves before it has paid for either."""
    code = (
        "import sys, os\n"
        "from skyward_node import server\n"
        "def run(self):\n"
        "    print(sorted({'click', 'structlog', 'numpy', 'asyncio', 'logging'} & set(sys.modules)), flush=True)\n"
        "    return 0\n"
        "server.Server.run = run\n"
        "import skyward_node.__main__ as main\n"
        "sys.argv = ['skyward-node', '--config-fd', '0']\n"
        "sys.exit(main.main())\n"
    )
    config = NodeConfig(bind=f"ipc://{directory}/s").to_json()
    result = subprocess.run([sys.executable, "-c", code], input=config, env=ENV, capture_output=True, check=False)
    assert (result.returncode, result.stdout) == (0, b"[]\n"), result.stderr
