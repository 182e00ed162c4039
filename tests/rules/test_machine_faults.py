"""What a machine can do to a node and to its client: no room on its disk, and a clock that jumps (F56, F59)."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

import skyward as sky
from tests.rules.byhand import client_pair, environment
from tests.rules.processes import daemons, family, script
from tests.rules.work import BUSY, add, die_by, echo, place, until
from tests.security.nodes import Node
from tests.system import install

if TYPE_CHECKING:
    from collections.abc import Iterator

    Patch = pytest.MonkeyPatch

ROOM: Final = 2**20  # bytes of the small disk
BEAT: Final = 0.25  # seconds
LEASE: Final = 2.0  # seconds
NAP: Final = 1.0  # seconds that a task takes, longer than makes a silent node dead
JUMPS: Final = (1, -1)  # days


@pytest.fixture
def small_disk(short_path: Path) -> Iterator[Path]:
    """Return a directory on a disk of a megabyte."""
    place = short_path / "d"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={ROOM},mode=0700", "tmpfs", str(place)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"nobody but root may mount: {mounted.stderr.decode()}")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


@sky.function(retries=0)
def fill(directory: str) -> int:
    """Write until there is no room."""
    with open(os.path.join(directory or tempfile.gettempdir(), "full"), "wb", buffering=0) as file:
        while True:
            file.write(bytes(65_536))


@pytest.mark.rule("F56")
def test_full_disk_is_the_error_of_the_task(small_disk: Path, monkeypatch: Patch) -> None:
    """Not of its node, which does all it did before: also start other workers, and print."""
    monkeypatch.setenv("TMPDIR", str(small_disk))
    monkeypatch.setattr(tempfile, "tempdir", None)
    with contextlib.chdir(small_disk), sky.Compute(nodes=2) as pool:
        before = [process.pid for process in daemons(pool)]
        for directory in ("", "."):
            with pytest.raises(OSError, match="No space left") as caught:
                fill(directory) >> pool
            assert caught.value.errno == errno.ENOSPC
            assert type(caught.value) is OSError
        assert os.statvfs(small_disk).f_bavail == 0
        workers = {pid for _, pid, _ in place() @ pool}
        for rank in range(2):
            with pytest.raises(sky.WorkerCrashedError, match="last words"):
                die_by(9).on(rank).with_retries(0) >> pool
        assert len(workers | {pid for _, pid, _ in place() @ pool}) == 4
        assert echo(bytes(2**22)) @ pool == [bytes(2**22)] * 2
        assert [process.pid for process in daemons(pool)] == before
        until(lambda: len(family(pool)) == 6)
    assert sorted(os.listdir(small_disk)) == ["full"]


@pytest.mark.rule("F56")
def test_node_whose_log_finds_no_room_goes_on(small_disk: Path, short_path: Path, monkeypatch: Patch) -> None:
    """Lines are lost, and nothing else."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(short_path))
    (small_disk / "full").write_bytes(bytes(ROOM - 8_192))
    log = small_disk / "log"
    node = Node(client_pair(), log_file=str(log), log_level="debug")
    try:
        node.wait_ready()
        with sky.Compute(sky.Static([node.address])) as pool:
            with pytest.raises(OSError, match="No space left"):
                fill(str(small_disk)) >> pool
            with log.open("ab", buffering=0) as file, contextlib.suppress(OSError):
                while True:  # to the end of its last page, which is on the disk already
                    file.write(b"\n")
            written = log.stat().st_size
            for i in range(3):
                with pytest.raises(sky.WorkerCrashedError):
                    die_by(9).with_retries(0) >> pool
                assert add(i, 1) >> pool == i + 1
            (small_disk / "full").unlink()
            with pytest.raises(sky.WorkerCrashedError):
                die_by(9).with_retries(0) >> pool
            until(lambda: log.stat().st_size > written)
        assert node.process.poll() is None
    finally:
        node.close()


def clock_script(directory: Path) -> str:
    """Return a program whose clock, and that of its nodes, jumps while they work."""
    return f"""
import json, select, sys, time
sys.path[:0] = {environment()["PYTHONPATH"].split(os.pathsep)!r}
import skyward as sky

@sky.function
def nap(seconds):
    select.select([], [], [], seconds)  # libfaketime breaks time.sleep
    return time.time()

def jump(days):
    with open({str(directory / "clock")!r}, "w") as file:
        file.write(f"{{days:+d}}d")

def seconds(what):
    began = time.monotonic()
    try:
        what()
    except TimeoutError:
        return time.monotonic() - began
    return 0.0

with sky.Compute(sky.Local("tcp"), nodes=2, retries=0, heartbeat={BEAT}, lease={LEASE}) as pool:
    before = {{node.pid for node in pool.snapshot().nodes}}
    started = time.time()
    for days in {JUMPS!r}:
        running = [nap({NAP}).with_timeout(20).on(rank) > pool for rank in range(2)]
        select.select([], [], [], 0.3)
        jump(days)
        clocks = [time.time(), *[future.result(20) for future in running]]
        held = nap(60) > pool
        waits = [seconds(lambda: held.result(0.3)), seconds(lambda: nap(60).with_timeout(0.5) >> pool)]
        held.cancel()
        print(json.dumps([days, [(clock - started) / 86_400 for clock in clocks], waits]), flush=True)
    snapshot = pool.snapshot()
    print(json.dumps([{{node.pid for node in snapshot.nodes}} == before, snapshot.rerun]))
"""


@pytest.mark.rule("F59")
@pytest.mark.rule("R36")
def test_wall_clock_that_jumps_has_no_effect(tmp_path: Path) -> None:
    """A day ahead and two back, on both sides: no node is lost, no lease ends, limits are as long as they are."""
    install({"faketime": "faketime"})
    (library,) = Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")
    (tmp_path / "clock").write_text("+0d")
    client = script(
        clock_script(tmp_path),
        cwd=tmp_path,
        env={
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(tmp_path / "clock"),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        },
    )
    out, err = client.communicate(timeout=90)
    assert client.returncode == 0, err
    *rounds, last = map(json.loads, out.splitlines())
    assert last == [True, 0], err
    assert [days for days, _, _ in rounds] == list(JUMPS)
    for days, clocks, (wait, limit) in rounds:
        assert [round(clock) for clock in clocks] == [days] * 3, "the clock did not jump"
        assert 0.3 <= wait < 0.3 + BUSY
        assert 0.5 <= limit < 0.5 + BUSY
