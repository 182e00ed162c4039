"""What all tests share: nothing may outlive a test, and the run has a temporary directory of its own."""

from __future__ import annotations

import faulthandler
import gc
import os
import shutil
import signal
import tempfile
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import zmq
from hypothesis import HealthCheck, settings

from skyward_scripts.machine import check_needs
from tests import compiled, leaks, sources, transports

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

pytest_plugins = ["pytester"]

LONG_VALUE = 31  # characters: a key has 40, its bytes 32 or, if some are missing, less
LONGEST_PARENT = 40  # bytes of the usual temporary directory's path
# How long an example takes says nothing on a machine that does much else.
settings.register_profile("skyward", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("skyward")

FAILED = pytest.StashKey[bool]()
PRIVATE = pytest.StashKey[str]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let a run choose how pools are reached."""
    transports.add_option(parser)


def pytest_configure(config: pytest.Config) -> None:
    """Give the run its name and its temporary directory, where whatever is left must be ours."""
    os.environ[leaks.MARK] = uuid.uuid4().hex
    # A shell that runs us in the background has Ctrl-C ignored, and what we start would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    _send_without_copy()
    compiled.keep(config)
    # pytest's own directories outlive the run, so that a person can look into them.
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", tempfile.gettempdir())
    # Short: it ends up in the paths of sockets, which take 107 bytes.
    usual = tempfile.gettempdir()
    private = tempfile.mkdtemp(prefix="skyt-", dir=usual if len(usual) <= LONGEST_PARENT else "/tmp")
    config.stash[PRIVATE] = private
    os.environ["TMPDIR"] = private
    tempfile.tempdir = None  # forget what was found without it


def pytest_collection_finish() -> None:
    """Spare the collector what stays anyhow, all modules of tests: it is called after every test that opened a pool."""
    gc.collect()
    gc.freeze()


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Name long values by their argument: keys differ from process to process, and the names of tests must not."""
    return argname if isinstance(val, str | bytes) and len(val) >= LONG_VALUE else None


def _send_without_copy() -> None:
    """Let pyzmq make what it keeps, from its first such message on, for the life of the process."""
    with zmq.Context() as context, context.socket(zmq.PAIR) as near, context.socket(zmq.PAIR) as far:
        near.bind("inproc://first")
        far.connect("inproc://first")
        near.send(bytes(65_536), copy=False)
        far.recv()


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove the run's temporary directory."""
    private = config.stash[PRIVATE]
    shutil.rmtree(private, ignore_errors=True)
    compiled.forget_temporary(config, os.path.dirname(private), os.environ["PYTEST_DEBUG_TEMPROOT"])


@pytest.fixture(scope="session", autouse=True)
def machine_will_do() -> None:
    """End the run, and name the remedy, if this machine lacks what the tests need: nothing beyond Linux."""
    wrong = [f"{finding.name}: {finding.text}; {finding.advice}" for finding in check_needs() if not finding.ok]
    if wrong:
        pytest.exit("this machine cannot run the tests:\n  " + "\n  ".join(wrong), returncode=1)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Note that a test has failed."""
    report = yield
    item.stash[FAILED] = item.stash.get(FAILED, False) or report.failed
    return report


@pytest.fixture(autouse=True)
def nothing_leaks(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that leaves something behind. First in line, so that every other fixture is gone by then."""
    before = leaks.take()
    yield
    if request.node.stash.get(FAILED, False):
        return  # its traceback holds what it made
    left = leaks.wait_until_clean(before)
    if left:
        pytest.fail("the test has left behind:\n  " + "\n  ".join(left), pytrace=False)


@pytest.fixture(autouse=True)
def no_stacks_of_long_tests(request: pytest.FixtureRequest) -> None:
    """Show no stacks only because a test is long: they are read while threads run, which may crash the process."""
    if request.node.get_closest_marker("slow") is not None:
        faulthandler.cancel_dump_traceback_later()


@pytest.fixture(scope="module")
def forget_sources() -> Iterator[None]:
    """Let go of the trees of all sources after the last test of a module."""
    yield
    sources.forget()


@pytest.fixture
def transport(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return how pools are reached that the test opens without saying so."""
    return transports.choose(request, monkeypatch)


@pytest.fixture
def short_path() -> Iterator[Path]:
    """Return an empty directory whose path leaves room for sockets, however long pytest's own are."""
    with tempfile.TemporaryDirectory(prefix="") as path:
        yield Path(path)
