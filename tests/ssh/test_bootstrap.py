"""The text of a bootstrap, and what is made of what it says."""

from __future__ import annotations

import subprocess

import pytest

from skyward.errors import (
    ArchitectureError,
    BootstrapError,
    DiskFullError,
    NoPythonError,
    PackageError,
    PortInUseError,
    SetupError,
)
from skyward.image import Image
from skyward.providers import bootstrap
from skyward.providers.bootstrap import Said
from skyward.providers.platforms import Platform

HERE = Platform(machine="x86_64", libc_version=(2, 36), python="3.11")


def shell(script: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a script."""
    return subprocess.run(
        ["sh", "-s"], input=script, capture_output=True, text=True, check=False, env={"PATH": "/usr/bin:/bin", **env}
    )


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("skyward: step making an environment", Said("step", "making an environment")),
        ("skyward: error disk-full no room", Said("error", "no room", "disk-full")),
        ("skyward: error nonsense what", Said("error", "what", "bootstrap")),
        ("Collecting numpy", Said("", "Collecting numpy")),
    ],
)
def test_line_is_understood(line: str, said: Said) -> None:
    """Steps and errors are ours, everything else is output of what runs."""
    assert bootstrap.understand(line) == said


@pytest.mark.parametrize(
    ("word", "kind"),
    [
        ("setup", SetupError),
        ("no-python", NoPythonError),
        ("architecture", ArchitectureError),
        ("disk-full", DiskFullError),
        ("port-in-use", PortInUseError),
        ("package", PackageError),
        ("bootstrap", BootstrapError),
    ],
)
def test_failure_is_told_by_its_kind(word: str, kind: type[Exception]) -> None:
    """The error names the host, the step, and has the last 50 lines of output."""
    output = [f"line {number}" for number in range(80)]
    error = bootstrap.failure("h1", ["skyward: step doing it", *output, f"skyward: error {word} because"])
    assert type(error) is kind
    advice = f"; {bootstrap.ADVICE[word]}" if word != "bootstrap" else ""
    assert error.message == f"h1: because, while doing it{advice}"
    assert error.log == tuple(output[-50:])


def test_end_without_a_word_is_told() -> None:
    """What is known is said."""
    error = bootstrap.failure("h1", ["skyward: step doing it", "Killed"], why="it ended with code 137")
    assert str(error) == "h1: it ended with code 137, while doing it\nlast lines of its log:\n  Killed"


@pytest.mark.parametrize("image", [Image(), Image(apt=["ffmpeg", "libx11-6=2:1.8"], python="3.11.2")])
def test_script_is_one(image: Image) -> None:
    """Every shell of Debian and its like reads it."""
    script = bootstrap.render(image, HERE)
    assert subprocess.run(["sh", "-n"], input=script, text=True, check=False).returncode == 0
    assert "@" not in script.replace('"$@"', "")


@pytest.mark.rule("R34")
def test_script_depends_on_the_image_alone() -> None:
    """The same image makes the same script, and values of variables stand in none."""
    image = Image(env={"TOKEN": "canary-1"}, apt=["ffmpeg"])
    assert bootstrap.render(image, HERE) == bootstrap.render(Image(apt=["ffmpeg"]), HERE)


@pytest.mark.parametrize(("given", "code"), [("", 0), ("/usr/bin/python3", 0), ("/nonexistent", 1), ("/bin/ls", 1)])
def test_python_is_found(given: str, code: int) -> None:
    """The one that is named counts, and no other; what was found and will not do is said."""
    script = bootstrap.enter("print('here')", version="3.11", python=given or None, setup=None)
    done = shell(script)
    assert done.returncode == code, done.stderr
    assert code == 0 or bootstrap.understand(done.stderr.splitlines()[-1]).error == "no-python"
    assert code == 1 or done.stdout == "here\n"


def test_other_version_is_no_python() -> None:
    """The error says which version is there."""
    done = shell(bootstrap.enter("", version="3.99", python=None, setup=None))
    said = bootstrap.understand(done.stderr.splitlines()[-1])
    assert said.error == "no-python"
    assert said.text.startswith("there is no Python 3.99: ")
    assert "python3 is 3." in said.text
    assert not said.text.endswith((";", " "))


@pytest.mark.rule("F54")
def test_python_that_is_not_there_is_told_in_a_sentence() -> None:
    """What to do comes once, from here."""
    done = shell(bootstrap.enter("", version="3.11", python="/nonexistent/python", setup=None))
    said = bootstrap.understand(done.stderr.splitlines()[-1])
    assert said.text == "there is no Python 3.11: no /nonexistent/python is there"


def test_setup_is_there_for_what_follows() -> None:
    """What it exports stays, what it prints is for people, and it cannot take what comes on stdin."""
    setup = "echo loading\nexport WORD='a b'\ncat\n"
    script = bootstrap.enter("import os; print(os.environ['WORD'])", version="3.11", python=None, setup=setup)
    done = shell(script)
    assert done.stdout == "a b\n"
    assert "loading" in done.stderr.splitlines()


@pytest.mark.parametrize("setup", ["echo why; exit 3", "echo why; false", "echo why; nonsense-command", "if"])
def test_setup_that_fails_is_told(setup: str) -> None:
    """Whichever way it fails, the error has the command and its code."""
    done = shell(bootstrap.enter("print('run')", version="3.11", python=None, setup=setup))
    said = bootstrap.understand(done.stderr.splitlines()[-1])
    assert done.returncode == 1
    assert done.stdout == ""
    assert said.error == "setup"
    assert setup in said.text


def test_wrong_machine_is_told() -> None:
    """A bundle for another kind of machine does not start."""
    done = shell(bootstrap.render(Image(), Platform(machine="sparc64")))
    assert bootstrap.understand(done.stderr.splitlines()[-1]).error == "architecture"
    assert "sparc64" in done.stderr
