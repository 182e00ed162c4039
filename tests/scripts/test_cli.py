"""The command ``skyward-mesh``."""

from __future__ import annotations

import json
import platform
import resource
from typing import TYPE_CHECKING

import click
from click.testing import CliRunner

from skyward.errors import ProvisionError
from skyward.providers.local import Local
from skyward.wire.messages import PROTOCOL
from skyward_scripts import machine
from skyward_scripts.cli import main

if TYPE_CHECKING:
    import pytest
    from click.testing import Result


def run(*arguments: str) -> Result:
    """Run the command with these arguments."""
    return CliRunner().invoke(main, arguments)


def test_help_explains_every_command_and_option() -> None:
    """No command or option is without a word about it."""
    assert run("--help").exit_code == 0
    for name, command in main.commands.items():
        assert command.help, name
        assert run(name, "--help").exit_code == 0
        options = [parameter for parameter in command.params if not isinstance(parameter, click.Argument)]
        assert all(getattr(option, "help", None) for option in options), name


def test_unknown_command_is_wrong_usage() -> None:
    """A mistyped command exits with 2 and says so."""
    result = run("chek")
    assert result.exit_code == 2
    assert "No such command" in result.output


def test_version_names_what_both_ends_must_agree_on() -> None:
    """Versions of skyward, the protocol and Python, one a line."""
    lines = dict(line.split(" ") for line in run("version").output.splitlines())
    assert lines["protocol"] == str(PROTOCOL)
    assert lines["python"] == platform.python_version()
    assert lines["skyward"]


def test_version_as_json_says_the_same() -> None:
    """``--json`` prints one object for programs."""
    told = json.loads(run("version", "--json").output)
    assert told == dict(line.split(" ") for line in run("version").output.splitlines())


def test_doctor_fails_with_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is missing is named with what to do about it, and the exit code is 1."""
    monkeypatch.setattr(machine, "LEAST_SHARED", 2**80)
    result = run("doctor")
    assert result.exit_code == 1
    assert "FAIL  shared memory" in result.output
    assert "mount a tmpfs at /dev/shm" in result.output
    assert result.output.endswith("not all is well\n")


def test_doctor_as_json_fails_with_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs read the same advice, and the same exit code."""
    monkeypatch.setattr(machine, "LEAST_LIBZMQ", (99, 0, 0))
    result = run("doctor", "--json")
    assert result.exit_code == 1
    [wrong] = [row for row in json.loads(result.output)["findings"] if not row["ok"]]
    assert wrong["name"] == "zeromq"
    assert "wheel" in wrong["advice"]


def test_doctor_notices_too_few_descriptors() -> None:
    """A limit that eight nodes would run into is found before they do."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (machine.LEAST_FILES - 1, hard))
    try:
        assert "FAIL  open files" in run("doctor").output
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_doctor_shows_why_no_node_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error of a node that cannot start is part of the finding."""

    def refuse(*_: object) -> None:
        raise ProvisionError("no room", ("last line",))

    monkeypatch.setattr(Local, "launch", refuse)
    result = run("doctor")
    assert result.exit_code == 1
    assert "no room" in result.output
    assert "last line" in result.output
