"""What tasks find in ``__main__``, which in a worker is not the user's script (R31, R50)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.rules.processes import script

if TYPE_CHECKING:
    from pathlib import Path

HEAD = """
import concurrent.futures, enum, multiprocessing, pickle, sys
from dataclasses import dataclass
from operator import attrgetter
import skyward as sky

@dataclass
class Point:
    x: int
    class Part:
        pass

class Color(enum.Enum):
    RED = 1

def helper(point):
    return point.x
"""

PICKLE = """
@sky.function
def kept(value):
    return pickle.dumps(value)

@sky.function
def same(data):
    value = pickle.loads(data)
    return value, value in (Point(7), Color.RED) or value is Point.Part

def local():
    class Point:
        pass
    return Point()

with sky.Compute(nodes=1) as pool:
    for value in (Point(7), Color.RED, Point.Part):
        data = kept(value) >> pool
        assert pickle.loads(data) == value
        assert same(data) >> pool == (value, True)
    try:
        kept(local()) >> pool
    except Exception as error:
        print(error)
    first = Point

    @dataclass
    class Point:
        x: str

    data = kept(Point("new")) >> pool
    assert pickle.loads(data) == Point("new")
    try:
        kept(first(1)) >> pool
    except pickle.PicklingError as error:
        print(str(error).partition(":")[2])
"""

FORK = """
@sky.function
def forked():
    points = [Point(1), Point(2)]
    with multiprocessing.get_context("fork").Pool(2) as workers:
        found = workers.map(attrgetter("x"), points), workers.map(Point, [1, 2]) == points
    with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("fork")) as executor:
        return *found, executor.submit(attrgetter("x"), Point(3)).result()

with sky.Compute(nodes=1) as pool:
    print(forked() >> pool)
"""

BARE = """
@sky.function
def look():
    main = sys.modules["__main__"]
    names = ("__file__", "helper", "Point", "nope")
    try:
        main.nope
    except AttributeError as error:
        return [hasattr(main, name) for name in names], str(error)
    return Point, helper

with sky.Compute(nodes=1) as pool:
    print(look() >> pool)
"""


def printed(source: str, directory: Path) -> str:
    """Return what a script prints that has these lines after the definitions."""
    running = script(HEAD + source, cwd=directory)
    out, err = running.communicate(timeout=60)
    assert running.returncode == 0, err
    return out


@pytest.mark.rule("R50")
def test_plain_pickle_finds_classes_of_the_script(tmp_path: Path) -> None:
    """As the script itself does, both ways: the class that was defined last, and no local one."""
    lines = printed(PICKLE, tmp_path).splitlines()
    assert "Can't" in lines[0] and "local.<locals>.Point" in lines[0]
    assert lines[1] == " it's not the same object as __main__.Point"


@pytest.mark.rule("R50")
def test_processes_that_a_task_forks_take_objects_of_the_script(tmp_path: Path) -> None:
    """As arguments and as results."""
    assert printed(FORK, tmp_path) == "([1, 2], True, 3)\n"


@pytest.mark.rule("R31")
def test_main_module_of_a_worker_has_no_file(tmp_path: Path) -> None:
    """What is spawned by a task would run the script; nor has it functions, or what was never there."""
    assert printed(BARE, tmp_path) == "([False, False, True, False], \"module '__main__' has no attribute 'nope'\")\n"
