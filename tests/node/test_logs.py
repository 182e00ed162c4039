"""The daemon's log."""

from __future__ import annotations

import errno
import json
import os
import select
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

from skyward_node import logs
from skyward_node.logs import Logger, Sink

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """Return the ends of a pipe."""
    ends = os.pipe()
    yield ends
    for fd in ends:
        os.close(fd)


def lines(fd: int) -> list[dict[str, object]]:
    """Return the lines in a pipe."""
    data = b""
    while select.select([fd], [], [], 0)[0]:
        data += os.read(fd, 65_536)
    return [json.loads(line) for line in data.splitlines()]


def test_every_line_has_event_level_time_node_and_task(pipe: tuple[int, int]) -> None:
    """Whoever greps for a node or a task finds its lines."""
    logger = Logger("info", "json", Sink(pipe[1]), node="host:1")
    logger.log("warning", "a worker died", {"task": 7, "signal": 9})
    logger.log("info", "serving", {})
    logger.close(10)
    first, second = lines(pipe[0])
    assert first.pop("timestamp")
    assert first == {"event": "a worker died", "level": "warning", "node": "host:1", "task": 7, "signal": 9}
    assert second["task"] is None


def test_unimportant_events_are_left_out(pipe: tuple[int, int]) -> None:
    """What is below the level costs nothing."""
    Logger("warning", "json", Sink(pipe[1])).log("info", "serving", {})
    assert lines(pipe[0]) == []


def test_console_format_is_for_people(pipe: tuple[int, int]) -> None:
    """A line reads as a line."""
    logger = Logger("info", "console", Sink(pipe[1]), node="host:1")
    logger.log("info", "serving", {"slots": 2})
    logger.close(10)
    text = os.read(pipe[0], 4096).decode()
    assert "serving" in text
    assert "slots=2" in text


def test_blocked_pipe_costs_lines_and_no_time(pipe: tuple[int, int]) -> None:
    """With a reader that does not read, lines are dropped and counted, and the count is told (F58)."""
    logger = Logger("info", "json", Sink(pipe[1]), node="host:1")
    logger.log("info", "first", {})
    logger.close(10)
    (first,) = lines(pipe[0])
    assert first["event"] == "first"
    for number in range(5_000):
        logger.log("info", "event", {"number": number})
    written = len(lines(pipe[0]))
    assert 0 < written < 5_000
    logger.log("info", "after", {})
    notice, after = lines(pipe[0])
    assert (notice["event"], notice["count"], after["event"]) == ("log lines were dropped", 5_000 - written, "after")


def test_first_event_does_not_wait_for_structlog(pipe: tuple[int, int]) -> None:
    """The daemon's loop goes on while structlog is imported; events wait, in their order."""
    logger = Logger("info", "json", Sink(pipe[1]), node="host:1")
    gate = threading.Event()
    with pytest.MonkeyPatch.context() as patch:
        renderer = logs._renderer
        patch.setattr(logs, "_renderer", lambda form: (gate.wait(60), renderer(form))[1])
        for number in range(3):
            logger.log("info", "event", {"number": number})
        assert lines(pipe[0]) == []
        gate.set()
        logger.close(60)
    assert [line["number"] for line in lines(pipe[0])] == [0, 1, 2]


@pytest.mark.rule("F61")
@pytest.mark.parametrize("error", [OSError(errno.EMFILE, "Too many open files"), ImportError("cannot open it")])
def test_first_event_waits_until_structlog_can_be_read(pipe: tuple[int, int], error: Exception) -> None:
    """Where there is no descriptor for that now there will be one later; nothing is lost."""
    logger = Logger("info", "json", Sink(pipe[1]), node="host:1")
    failures = [error]
    with pytest.MonkeyPatch.context() as patch:
        renderer = logs._renderer

        def fail_once(form: Any) -> Any:
            if failures:
                raise failures.pop()
            return renderer(form)

        patch.setattr(logs, "_renderer", fail_once)
        logger.log("info", "event", {"number": 1})
        logger.close(60)
    assert [line["number"] for line in lines(pipe[0])] == [1]


def test_log_does_not_wait_for_what_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """That is an error, which whoever starts the node has to see."""
    monkeypatch.setitem(sys.modules, "structlog", None)
    with pytest.raises(ModuleNotFoundError):
        logs._renderer_or_none("json")


def test_closed_reader_is_no_error() -> None:
    """A daemon survives the end of whoever reads its log."""
    read, write = os.pipe()
    os.close(read)
    sink = Sink(write)
    assert not sink.write("hello")
    os.close(write)
    assert not sink.write("hello")
    assert sink.dropped == 2


def test_journal_format_has_a_priority_and_no_time(pipe: tuple[int, int]) -> None:
    """The journal knows when it was and who has said it; structlog is not imported for it."""
    logger = Logger("info", "journal", Sink(pipe[1]), node="host:1")
    logger.log("warning", "a worker died", {"signal": 9, "exitcode": None})
    logger.close(10)
    assert os.read(pipe[0], 4096) == b"<4>a worker died signal=9\n"


FILE = """
import os, sys
from skyward_node.logs import FileSink
sink = FileSink(sys.argv[1], kept=100)
print("printed", flush=True)
os.write(2, b"and this\\n")
for number in range(30):
    assert sink.write(f"line {number}")
"""


def test_log_file_takes_all_that_is_printed_and_is_bounded(tmp_path: Path) -> None:
    """When it is full it becomes the one before; none but its owner may read it."""
    path = tmp_path / "log"
    path.write_text("from before\n")
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", FILE, path], capture_output=True, check=True, env=env)
    assert (done.stdout, done.stderr) == (b"", b"")
    old, new = (tmp_path / "log.1").read_text(), path.read_text()
    assert sorted(os.listdir(tmp_path)) == ["log", "log.1"]
    assert max(len(old), len(new)) < 150
    assert new.endswith("line 29\n")
    last = int(old.splitlines()[-1].split()[1])
    assert new.startswith(f"line {last + 1}\n")


def test_log_file_that_is_gone_is_no_error(tmp_path: Path) -> None:
    """A daemon survives the end of its directory."""
    place = tmp_path / "place"
    place.mkdir()
    code = FILE.replace("for number", f"import shutil; shutil.rmtree({str(place)!r})\nfor number")
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", code, place / "log"], check=True, env=env)
