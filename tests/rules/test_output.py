"""What tasks print (R28)."""

from __future__ import annotations

import ctypes
import logging
import os
import resource
import subprocess
import sys
import threading
import time
import warnings
from typing import TYPE_CHECKING, Any

import pytest

import skyward as sky
from tests.rules.work import LONG, on_head_only

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

KINDS: Any = [{}, {"executor": "thread", "concurrency": 2}]


class Lines:
    """Takes lines, and wakes whoever waits for one."""

    def __init__(self) -> None:
        self.all: list[sky.OutputLine] = []
        self._changed = threading.Condition()

    def __call__(self, line: sky.OutputLine) -> None:
        """Take a line."""
        with self._changed:
            self.all.append(line)
            self._changed.notify_all()

    def wait_for(self, text: str) -> None:
        """Wait until the line has come."""
        with self._changed:
            assert self._changed.wait_for(lambda: text in self.all, LONG)

    def of(self, stream: str) -> list[str]:
        """Return the lines of a stream."""
        return [str(line) for line in self.all if line.stream == stream]


@sky.function
def speak() -> str:
    """Print in every way there is."""
    print("python")
    sys.stdout.flush()
    subprocess.run(["/bin/echo", "child"], check=True)
    libc = ctypes.CDLL(None)
    libc.puts(b"C")
    libc.fflush(None)
    os.write(1, b"descriptor\n")
    print("error", file=sys.stderr)
    logging.getLogger("mine").warning("logged")
    warnings.warn("warned", stacklevel=1)
    subprocess.run(["/bin/sh", "-c", "echo child >&2"], check=True)
    print("no end", end="")
    return "done"


@pytest.mark.rule("R28")
def test_all_output_comes_home_in_order(pool: sky.Compute) -> None:
    """Python's, C's and that of children, logging and warnings: in order, with the node, before the result."""
    with sky.redirect_output(Lines()) as redirection:
        lines: Any = redirection.take
        assert speak().on(1) >> pool == "done"
        assert lines.of("stdout") == ["python", "child", "C", "descriptor", "no end"]
        err = lines.of("stderr")
    assert err[:2] == ["error", "logged"]
    assert err[2].endswith("UserWarning: warned")
    assert err[-1] == "child"
    assert {line.node for line in lines.all} == {1}


@pytest.mark.rule("R28")
def test_lines_of_threads_belong_to_their_tasks(threads: sky.Compute) -> None:
    """Python's output is told apart by task; what goes to the descriptors names the node alone."""

    @sky.function
    def both(word: str) -> None:
        for number in range(20):
            print(word, end="")
            print(number)
        os.write(1, f"raw {word}\n".encode())

    with sky.redirect_output(Lines()) as redirection:
        lines: Any = redirection.take
        (both("a") & both("b")) >> threads
    by_task: dict[int, list[str]] = {}
    for line in lines.all:
        by_task.setdefault(line.task, []).append(line)
    assert set(by_task.pop(0)) == {"raw a", "raw b"}
    assert sorted(by_task.values()) == [[f"{word}{number}" for number in range(20)] for word in "ab"]


@pytest.mark.rule("R28")
@pytest.mark.parametrize("kind", KINDS)
def test_line_that_has_begun_is_seen_while_the_task_runs(kind: dict[str, Any], tmp_path: Path) -> None:
    """A prompt without a newline comes live."""
    answer = tmp_path / "answer"

    @sky.function
    def ask(path: str) -> None:
        print("one")
        print("name? ", end="")
        while not os.path.exists(path):
            time.sleep(0.01)
        print("\nthanks", end="")

    with sky.Compute(nodes=1, **kind) as pool, sky.redirect_output(Lines()) as redirection:
        lines: Any = redirection.take
        future = ask(str(answer)) > pool
        lines.wait_for("name? ")
        assert not future.done()
        answer.touch()
        future.result()
        assert lines.of("stdout") == ["one", "name? ", "thanks"]


SIZE = 102_400_000  # bytes
# A full page of a pipe holds no such line by half, which would be shown in two parts if the rest were late.
LINE = "x" * 127 + "\n"


@pytest.mark.rule("R28")
def test_flood_of_output_holds_up_nothing() -> None:
    """Of 100 MB every line is shown or counted; nodes stay alive, others' results come, and memory stays bounded."""

    @sky.function
    def flood() -> int:
        for _ in range(SIZE // len(LINE) // 1000):
            sys.stdout.write(LINE * 1000)
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    @sky.function
    def quick(number: int) -> int:
        return number

    counts = {"shown": 0, "dropped": 0}

    def take(line: sky.OutputLine) -> None:
        words = line.split()
        counts["shown" if line.stream == "stdout" else "dropped"] += 1 if line.stream == "stdout" else int(words[1])

    with sky.Compute(nodes=2) as pool:
        quick(0) >> pool
        epochs = [node.pid for node in pool.snapshot().nodes]
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with sky.redirect_output(take):
            future = flood().on(0) > pool
            others = 0
            while not future.done():
                assert quick(others).on(1) >> pool == others
                others += 1
            future.result()
            print("the end", quick(1).on(0) >> pool)
        assert [node.pid for node in pool.snapshot().nodes] == epochs
        assert pool.snapshot().rerun == 0
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024  # KiB
    assert counts["shown"] > 0
    assert counts["shown"] + counts["dropped"] == SIZE // len(LINE)


@pytest.mark.rule("R28")
@pytest.mark.parametrize("kind", KINDS)
def test_decorators_choose_nodes(kind: dict[str, Any]) -> None:
    """The head, those that a predicate chooses, none; above or below, for values, streams and coroutines."""
    wanted = 1

    @sky.stdout(only=lambda info: info.node == wanted)
    @sky.function
    def chosen() -> None:
        print("chosen")
        print("error", file=sys.stderr)

    @sky.function
    @sky.silent
    async def quiet() -> int:
        print("quiet")
        return 7

    @sky.stderr(only="head")
    @sky.function
    def yields() -> Any:
        yield 1
        print("yielded", file=sys.stderr)

    @sky.function
    def loud() -> None:
        print("loud")

    with sky.Compute(nodes=2, **kind) as pool, sky.redirect_output(Lines()) as redirection:
        lines: Any = redirection.take
        chosen() @ pool
        assert quiet() @ pool == [7, 7]
        assert [list(values) for values in yields() @ pool] == [[1], [1]]
        on_head_only() @ pool
        loud() @ pool
    found = sorted((str(line), line.node) for line in lines.all)
    shown = [("chosen", 1), ("error", 0), ("error", 1), ("head", 0), ("loud", 0), ("loud", 1), ("yielded", 0)]
    assert found == shown


@pytest.mark.rule("R28")
def test_silent_task_has_silent_children(pool: sky.Compute) -> None:
    """In a process all of it is silent; the stack of its crash is told all the same."""

    @sky.silent
    @sky.function
    def quiet(crash: bool) -> None:
        print("python")
        subprocess.run(["/bin/sh", "-c", "echo child; echo child >&2"], check=True)
        if crash:
            ctypes.string_at(0)

    with sky.redirect_output(Lines()) as redirection:
        lines: Any = redirection.take
        quiet(False) >> pool
        assert lines.all == []
        with pytest.raises(sky.WorkerCrashedError, match="string_at"):
            quiet(True).with_retries(0) >> pool
        assert "child" not in lines.all


@pytest.mark.rule("R28")
def test_predicate_that_fails_fails_the_task(pool: sky.Compute) -> None:
    """With its own error, as the function's would."""

    def bad(info: sky.InstanceInfo) -> bool:
        raise LookupError(f"node {info.node}")

    @sky.stdout(only=bad)
    @sky.function
    def task() -> None:
        raise AssertionError

    with pytest.raises(LookupError, match="node 1"):
        task().on(1) >> pool


PROGRAM = """
import skyward as sky, sys, time
class Slow:  # so that a result that does not wait for its lines is sure to overtake them
    def __init__(self, stream):
        self._stream = stream
    def write(self, text):
        if "[node" in text:
            time.sleep(0.005)
        return self._stream.write(text)
    def __getattr__(self, name):
        return getattr(self._stream, name)
sys.stdout = Slow(sys.stdout)
@sky.function
def f(x):
    print("out", x)
    print("err", x, file=sys.stderr)
    return x
with sky.Compute(nodes=1{options}) as pool:
    for x in range(20):
        print("result", f(x) >> pool, flush=True)
"""


def run(options: str = "") -> subprocess.CompletedProcess[str]:
    """Run the program with pipes."""
    code = PROGRAM.format(options=options)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=LONG)


@pytest.mark.rule("R28")
def test_lines_come_before_results_in_a_pipe() -> None:
    """With a plain tag; stdout to stdout, stderr to stderr."""
    done = run()
    assert done.stdout == "".join(f"[node 0] out {x}\nresult {x}\n" for x in range(20))
    assert done.stderr == "".join(f"[node 0] err {x}\n" for x in range(20))


@pytest.mark.rule("R28")
def test_console_false_is_silent() -> None:
    """Nothing of the tasks is shown."""
    done = run(", console=False")
    assert done.stdout == "".join(f"result {x}\n" for x in range(20))
    assert done.stderr == ""


@pytest.mark.rule("R28")
def test_tags_have_colours_in_a_terminal(in_terminal: Callable[[str], str]) -> None:
    """Each node its own."""
    shown = in_terminal(PROGRAM.format(options=", console=True"))
    assert -1 < shown.find("\x1b[36m[node 0]\x1b[0m out 3\r\n") < shown.find("result 3\r\n")


@pytest.mark.rule("R28")
@pytest.mark.rule("F18")
def test_task_that_closes_its_output_closes_no_other(pool: sky.Compute) -> None:
    """Those after it in the same worker print as ever."""

    @sky.function
    def close() -> int:
        sys.stdout.close()
        sys.stderr.close()
        return os.getpid()

    @sky.function
    def speak() -> int:
        print("words")
        print("words", file=sys.stderr)
        return os.getpid()

    assert close().on(0) >> pool == speak().on(0) >> pool
