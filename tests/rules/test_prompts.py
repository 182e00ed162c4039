"""The live view beside what comes to the terminal past it: prompts, what is typed, children, lines that have begun."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyte
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# The view looks a hundred times a second, and a title that is set, which is no text, says that it has looked often.
BEGIN = r"""
import os, threading
import skyward as sky
from skyward.mesh import watching
watching.TICK, watching.SOON = 0.01, 0.0
look_once, looks = watching.Watching._look, threading.Semaphore(0)
def look(self, now):
    look_once(self, now)
    looks.release()
watching.Watching._look = look
def looked():
    while looks.acquire(blocking=False):
        pass
    for _ in range(5):
        looks.acquire()
def say_so():
    while True:
        looked()
        os.write(1, b"\x1b]0;looked\x07")
def say_when_looked():
    threading.Thread(target=say_so, daemon=True).start()
@sky.function
def hold(path):
    import os, time
    while not os.path.exists(path):
        time.sleep(0.01)
"""


def program(directory: Path, before: str, middle: str) -> str:
    """Return a program that does something while the view is shown."""
    inside = "".join(f"    {line}\n" for line in middle.splitlines())
    return (
        f"{BEGIN}path = {str(directory / 'go')!r}\n{before}\nwith sky.Compute(nodes=1) as pool:\n"
        f"    future = hold(path) > pool\n{inside}    open(path, 'w').close()\n    future.result()\nprint('end')\n"
    )


def typing(*answers: tuple[bytes, bytes]) -> Callable[[bytes], bytes]:
    """Return what types each answer after its prompt, when the view has looked at it."""
    waiting = list(answers)
    seen = 0

    def keys(shown: bytes) -> bytes:
        nonlocal seen
        if waiting:
            prompt, answer = waiting[0]
            place = shown.find(prompt, seen)
            if place >= 0 and shown.count(b"looked", place) >= 2:
                seen = len(shown)
                waiting.pop(0)
                return answer
        return b""

    return keys


def at_the_end(shown: str) -> list[str]:
    """Return what stands in the terminal."""
    screen = pyte.Screen(100, 40)
    pyte.Stream(screen).feed(shown)
    return "\n".join(row.rstrip() for row in screen.display).rstrip().split("\n")


@pytest.mark.rule("R32")
@pytest.mark.parametrize("before", ["print('begin')", "pass"])
def test_view_leaves_a_prompt_alone(in_terminal: Callable[..., str], tmp_path: Path, before: str) -> None:
    """It is gone while `input` asks, also with what is typed, and comes back with the next line."""
    middle = "looked()\nsay_when_looked()\nprint('hello', input('name? '))\nlooked()"
    shown = in_terminal(program(tmp_path, before, middle), keys=typing((b"name? ", b"Bob\n")))
    asked, _, after = shown.partition("name? ")[2].partition("hello")
    assert "skyward" not in asked
    assert "1 of 1 nodes ·" in after
    begin = ["begin"] if "begin" in before else []
    assert at_the_end(shown) == [*begin, "name? Bob", "hello Bob", "end"]


@pytest.mark.rule("R32")
def test_view_leaves_a_line_that_has_begun_alone(in_terminal: Callable[..., str], tmp_path: Path) -> None:
    """Before the pool was opened, or while the view was there."""
    middle = "looked()\nfor _ in range(3):\n    print('.', end='', flush=True)\n    looked()\nprint()\nlooked()"
    shown = in_terminal(program(tmp_path, "print('dots', end='', flush=True)", middle))
    assert "1 of 1 nodes ·" in shown
    assert at_the_end(shown) == ["dots...", "end"]


@pytest.mark.rule("R32")
def test_view_leaves_what_children_print_alone(in_terminal: Callable[..., str], tmp_path: Path) -> None:
    """They know nothing of it, and it does not hear of them."""
    middle = "print('begin')\nlooked()\nos.system('echo x')\nlooked()\nos.system('printf y')\nlooked()\nprint('z')"
    shown = in_terminal(program(tmp_path, "pass", middle))
    assert "1 of 1 nodes ·" in shown
    assert at_the_end(shown) == ["begin", "x", "yz", "end"]


@pytest.mark.rule("R32")
def test_view_leaves_a_debugger_alone(in_terminal: Callable[..., str], tmp_path: Path) -> None:
    """Its prompt, its answers, and what is typed."""
    middle = "looked()\nsay_when_looked()\nbreakpoint()\nprint('on')\nlooked()"
    keys = typing((b"(Pdb) ", b"p 6 * 7\n"), (b"(Pdb) ", b"c\n"))
    shown = in_terminal(program(tmp_path, "pass", middle), keys=keys)
    assert "1 of 1 nodes ·" in shown
    assert "nodes ·" not in shown.partition("(Pdb) ")[2].partition("p 6")[0]
    rows = at_the_end(shown)
    assert [row for row in rows if row.startswith(("(Pdb)", "42"))] == ["(Pdb) p 6 * 7", "42", "(Pdb) c"]
    assert rows[-2:] == ["on", "end"]
    assert not any("nodes ·" in row for row in rows)


@pytest.mark.rule("R32")
def test_interactive_python_has_no_view(in_terminal: Callable[..., str], tmp_path: Path) -> None:
    """Its prompts are written past everything."""
    code = (
        f"{BEGIN}path = {str(tmp_path / 'go')!r}\npool = sky.Compute(nodes=1).open()\n"
        "future = hold(path) > pool\nsay_when_looked()\n"
    )
    keys = typing((b">>> ", b"6 * 7\n"), (b">>> ", b"open(path, 'w').close(); pool.close(); exit()\n"))
    shown = in_terminal(code, keys=keys, flags=("-i",))
    assert "nodes ·" not in shown
    assert at_the_end(shown) == [">>> 6 * 7", "42", ">>> open(path, 'w').close(); pool.close(); exit()"]
