"""Every setting of a pool: its default, its bounds, and that it is documented."""

from __future__ import annotations

import ast
import dataclasses
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from skyward import config
from skyward.config import FASTEST, LARGEST, LONGEST, Options, Worker, available_memory, merge_options
from skyward.errors import ConfigError
from skyward_node.core.sessions import BEATS

TIMES = ("heartbeat", "lease", "node_wait", "start_timeout", "idle_timeout", "drain_timeout", "timeout")
SIZES = ("max_payload", "window")
NAN = float("nan")
INFINITY = float("inf")


def options(name: str, value: object) -> Options:
    """Return options with one set."""
    changed: dict[str, Any] = {name: value}
    return Options(**changed)


# --- documentation -------------------------------------------------------------------------


@pytest.mark.rule("R32")
def test_type_checkers_know_every_option() -> None:
    """Each keyword of `sky.Compute` that is an option, with the type that it has there."""
    tree = ast.parse(Path(config.__file__).read_text())
    (settings,) = (node for node in ast.walk(tree) if isinstance(node, ast.ClassDef) and node.name == "Settings")
    told = {
        ast.unparse(each.target): ast.unparse(each.annotation)
        for each in settings.body[1:]
        if isinstance(each, ast.AnnAssign)
    }
    assert told == {field.name: field.type for kind in (Options, Worker) for field in fields(kind)}


@pytest.mark.rule("R32")
@pytest.mark.parametrize("kind", [Options, Worker])
def test_every_option_is_documented(kind: type) -> None:
    """The docstring names each field, in order, and nothing else."""
    assert kind.__doc__ is not None
    documented = re.findall(r"^ *``(\w+)``:", kind.__doc__, re.MULTILINE)
    assert documented == [field.name for field in fields(kind)]


@pytest.mark.rule("R32")
def test_documented_defaults_are_the_defaults() -> None:
    """What the docstring calls the default is it."""
    assert Options.__doc__ is not None
    assert Worker.__doc__ is not None
    for kind in (Options, Worker):
        made = kind()
        for name, said in re.findall(r"``(\w+)``:[^`]*?\(default ([\w.]+)", kind.__doc__ or ""):
            assert str(getattr(made, name)).removesuffix(".0") == said, name
    assert len(re.findall(r"\(default", Options.__doc__)) == len(fields(Options)) - 1, "worker has a docstring"


# --- bounds --------------------------------------------------------------------------------


@pytest.mark.rule("R32")
@pytest.mark.parametrize("name", TIMES)
def test_times_have_bounds(name: str) -> None:
    """More than nothing, and finite: a node refuses what does not fit the protocol."""
    for fine in (FASTEST if name == "heartbeat" else 0.001, 1, LONGEST):
        assert getattr(options(name, fine), name) == fine
    for bad in (0, -1, NAN):
        with pytest.raises(ConfigError, match=f"{name} must be more than 0, got"):
            options(name, bad)
    for bad in (LONGEST * 1.01, INFINITY, 10**400):
        with pytest.raises(ConfigError, match=f"{name} must be at most 1e[+]09, got"):
            options(name, bad)
    wrong: tuple[Any, ...] = ("1", True, [1])
    for kind in wrong:
        with pytest.raises(TypeError, match=f"{name} must be a number, got"):
            options(name, kind)


@pytest.mark.rule("R32")
def test_heartbeat_is_none_that_nodes_refuse() -> None:
    """They beat no faster than the bound, and would be taken for lost."""
    assert BEATS[0] == FASTEST
    with pytest.raises(ConfigError, match=r"heartbeat must be at least 0\.01, got 0\.005"):
        Options(heartbeat=0.005)


def test_unlimited_timeout_is_none() -> None:
    """Who means no limit is told how to say it."""
    assert Options(timeout=None).timeout is None
    with pytest.raises(ConfigError, match="None means no limit"):
        Options(timeout=INFINITY)
    with pytest.raises(TypeError):
        options("heartbeat", None)


@pytest.mark.rule("R32")
def test_cancel_grace_may_be_nothing() -> None:
    """Whoever wants tasks killed at once says 0."""
    assert Options(cancel_grace=0).cancel_grace == 0
    for bad in (-0.1, NAN):
        with pytest.raises(ConfigError, match="cancel_grace must be 0 or more"):
            Options(cancel_grace=bad)


@pytest.mark.rule("R32")
@pytest.mark.parametrize("name", SIZES)
def test_sizes_are_whole_bytes(name: str) -> None:
    """An int of 1 or more, or None for what memory allows."""
    for fine in (1, LARGEST, None):
        assert getattr(options(name, fine), name) == fine
    for bad in (0, -1):
        with pytest.raises(ConfigError, match=f"{name} must be more than 0"):
            options(name, bad)
    with pytest.raises(ConfigError, match=f"{name} must be at most"):
        options(name, LARGEST + 1)
    for wrong in (1e9, "1", True):
        with pytest.raises(TypeError, match=f"{name} must be an int"):
            options(name, wrong)


@pytest.mark.rule("R32")
def test_retries_have_bounds() -> None:
    """An int from 0 to 10000."""
    for fine in (0, 10_000):
        assert Options(retries=fine).retries == fine
    for bad in (-1, 10_001):
        with pytest.raises(ConfigError, match="retries must be between 0 and 10000"):
            Options(retries=bad)
    for wrong in (1.0, True, None, "1"):
        with pytest.raises(TypeError, match="retries must be an int"):
            options("retries", wrong)


@pytest.mark.rule("R32")
def test_console_and_worker_have_types() -> None:
    """A flag is a flag, a worker a `Worker`."""
    with pytest.raises(TypeError, match="console must be True or False, got 1"):
        options("console", 1)
    with pytest.raises(TypeError, match=r"worker must be a sky.Worker\(...\), got 4"):
        options("worker", 4)


@pytest.mark.rule("R32")
def test_worker_has_bounds() -> None:
    """Each field by itself."""
    for fine in (1, 4096):
        assert Worker(concurrency=fine).concurrency == fine
    for bad in (0, -1, 4097):
        with pytest.raises(ConfigError, match="concurrency must be between 1 and 4096"):
            Worker(concurrency=bad)
    wrong: Any
    for wrong in (1.0, True, "1", None):
        with pytest.raises(TypeError, match="concurrency must be an int"):
            Worker(concurrency=wrong)
    for wrong in ("fork", "", None, 1):
        with pytest.raises(ConfigError, match="executor must be 'process' or 'thread'"):
            Worker(executor=wrong)
    for wrong in (1, None, "yes"):
        with pytest.raises(TypeError, match="reuse_processes must be True or False"):
            Worker(reuse_processes=wrong)


@pytest.mark.parametrize("made", [Options(), Worker()])
def test_settings_are_frozen(made: Any) -> None:
    """And take no positions, which nobody remembers."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(made, fields(made)[0].name, 2)
    with pytest.raises(TypeError):
        type(made)(1)


# --- shortcuts -----------------------------------------------------------------------------


@pytest.mark.rule("R32")
def test_shortcuts_change_options_and_worker() -> None:
    """Names of either may stand beside ``options=``, and leave the rest as it was."""
    base = Options(retries=1, lease=5.0, worker=Worker(executor="thread"))
    merged = merge_options(base, {"retries": 0, "concurrency": 3})
    assert merged == Options(retries=0, lease=5.0, worker=Worker(executor="thread", concurrency=3))
    assert merge_options(None, {}) == Options()
    assert merge_options(base, {}) == base
    worker = Worker(concurrency=2)
    assert merge_options(base, {"worker": worker}).worker == worker
    assert merge_options(base, {"worker": worker, "executor": "thread"}).worker == Worker(
        concurrency=2, executor="thread"
    )


@pytest.mark.rule("R32")
def test_unknown_option_names_the_nearest() -> None:
    """A slip is pointed out; what is like nothing gets the list."""
    with pytest.raises(TypeError, match=r"unknown option 'retry' of sky.Compute; did you mean 'retries'?"):
        merge_options(None, {"retry": 1})
    with pytest.raises(TypeError, match=r"unknown option 'node' of sky.Compute; did you mean 'nodes'?"):
        merge_options(None, {"node": 1})
    with pytest.raises(TypeError, match=r"unknown option 'max_workers' .* nodes=\.\.\., .* concurrency=\.\.\."):
        merge_options(None, {"max_workers": 3})
    with pytest.raises(TypeError, match=r"unknown option 'concurency'.*'concurrency'"):
        merge_options(None, {"concurency": 1})
    with pytest.raises(TypeError, match=r"'zzz' of sky.Compute; options are cancel_grace, concurrency, "):
        merge_options(None, {"zzz": 1})


def test_shortcuts_are_checked_like_options() -> None:
    """A bad value is refused, whichever way it comes."""
    with pytest.raises(ConfigError, match="retries"):
        merge_options(None, {"retries": -1})
    with pytest.raises(ConfigError, match="concurrency"):
        merge_options(None, {"concurrency": 0})
    not_options: Any = {"retries": 1}
    with pytest.raises(TypeError, match=r"options must be a sky.Options\(...\), got {'retries': 1}"):
        merge_options(not_options, {})


# --- memory --------------------------------------------------------------------------------


@pytest.mark.rule("R21")
def test_limits_follow_the_memory_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half for one payload, an eighth but at most 1 GiB for all arguments, unless somebody says."""
    monkeypatch.setattr(config, "available_memory", lambda: 800)
    assert (Options().payload_limit(), Options().window_size()) == (400, 100)
    monkeypatch.setattr(config, "available_memory", lambda: 2**40)
    assert Options().window_size() == 2**30
    assert (Options(max_payload=7).payload_limit(), Options(window=8).window_size()) == (7, 8)


def memory(monkeypatch: pytest.MonkeyPatch, files: dict[str, str]) -> int:
    """Return the available memory as these files tell it."""
    import builtins
    import io

    def read(path: str, **_: Any) -> io.StringIO:
        if path not in files:
            raise FileNotFoundError(path)
        return io.StringIO(files[path])

    with monkeypatch.context() as patch:
        patch.setattr(builtins, "open", read)
        return available_memory()


def test_available_memory_counts_what_is_free_and_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The system's own estimate, less where a cgroup of either version allows less; never next to nothing."""
    gib = 2**30
    meminfo = {"/proc/meminfo": "MemTotal: 9 kB\nMemAvailable: 4194304 kB\n"}
    one = "/sys/fs/cgroup/memory/memory."
    two = "/sys/fs/cgroup/memory."
    assert memory(monkeypatch, meminfo) == 4 * gib
    assert memory(monkeypatch, {**meminfo, f"{two}max": "max", f"{two}current": "5"}) == 4 * gib
    assert memory(monkeypatch, {**meminfo, f"{two}max": str(3 * gib), f"{two}current": str(gib)}) == 2 * gib
    limits = {f"{one}limit_in_bytes": str(2 * gib), f"{one}usage_in_bytes": str(gib)}
    assert memory(monkeypatch, {**meminfo, **limits}) == gib
    assert memory(monkeypatch, {**meminfo, f"{two}max": "5", f"{two}current": "9"}) == 64 * 2**20
    assert memory(monkeypatch, {}) > 64 * 2**20
    assert memory(monkeypatch, {"/proc/meminfo": "MemTotal: 9 kB\n"}) > 64 * 2**20


def test_lease_is_three_heartbeats_at_least() -> None:
    """Else a node would end the session between two of them."""
    assert Options(heartbeat=20.0).lease_time() == 60.0
    assert Options(heartbeat=5.0).lease_time() == Options().lease == 30.0
