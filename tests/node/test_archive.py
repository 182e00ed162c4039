"""The code of a nursery's modules in one file: it is used, and only while it says what the sources say."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# Imports as a nursery does, and tells about the modules.
DRIVER = """
import inspect, json, sys, traceback
from skyward_node.archive import Archive
sys.path[:0] = sys.argv[1:]
archive = Archive(sys.argv[-1] + "/main.py")
archive.open()
import alpha, beta.inner
archive.close()
told = {}
for module in (alpha, beta, beta.inner):
    told[module.__name__] = {
        "word": module.word, "loader": type(module.__loader__).__name__, "file": module.__file__,
        "package": module.__package__, "source": inspect.getsource(module),
    }
try:
    alpha.fail()
except ValueError:
    told["line"] = traceback.format_exc().splitlines()[-2].strip()
told["finders"] = [type(finder).__name__ for finder in sys.meta_path].count("Archive")
archive.save()
print(json.dumps(told))
"""
ALPHA = "word = 'a'\ndef fail():\n    raise ValueError(word)\n"
CACHING = ("PYTHONDONTWRITEBYTECODE", "PYTHONPYCACHEPREFIX")
MODULES = {"alpha.py": ALPHA, "beta/__init__.py": "word = 'b'\n", "beta/inner.py": "from . import word\nword *= 2\n"}


class Tree:
    """A directory with modules."""

    def __init__(self, place: Path) -> None:
        self.place = place
        for name, source in MODULES.items():
            self.write(name, source)

    def write(self, name: str, source: str) -> None:
        """Write a module."""
        path = self.place / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text(source)

    def run(self, *flags: str, before: Path | None = None) -> dict[str, Any]:
        """Import the modules in a process, with this directory before that of the tree."""
        path = [str(place) for place in (before, self.place) if place is not None]
        env = {name: value for name, value in os.environ.items() if name not in CACHING}
        command = [sys.executable, *flags, "-c", DRIVER, *path]
        told: dict[str, Any] = json.loads(subprocess.run(command, env=env, check=True, capture_output=True).stdout)
        return told

    @property
    def archives(self) -> list[Path]:
        """The archives beside the caches."""
        return [*(self.place / "__pycache__").glob("main.*archive*")]


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """Return a directory with modules, some of them archived."""
    tree = Tree(tmp_path / "tree")
    assert words(tree.run()) == ("SourceFileLoader", ["a", "b", "bb"])
    assert words(tree.run()) == ("_Loader", ["a", "b", "bb"])
    return tree


def words(told: dict[str, Any]) -> tuple[str, list[str]]:
    """Return what loaded the modules, and what they say."""
    modules = [told[name] for name in ("alpha", "beta", "beta.inner")]
    (loader,) = {module["loader"] for module in modules}
    return loader, [module["word"] for module in modules]


@pytest.mark.rule("R31")
def test_archived_module_is_like_any_other(tree: Tree) -> None:
    """It knows its file, package and source, its lines are shown, and modules are found by others afterwards."""
    archived = tree.run()
    tree.archives[0].unlink()
    plain = tree.run()
    for told in (archived, plain):
        for name in ("alpha", "beta", "beta.inner"):
            told[name].pop("loader")
    assert archived == plain
    assert archived["alpha"]["source"] == ALPHA
    assert archived["line"] == "raise ValueError(word)"
    assert archived["finders"] == 0


def edit(tree: Tree) -> None:
    tree.write("alpha.py", ALPHA.replace("'a'", "'A'"))
    os.utime(tree.place / "alpha.py", ns=(0, 1))


def install_another(tree: Tree) -> None:
    """As a package's version whose files bear the same date."""
    path = tree.place / "alpha.py"
    about = path.stat()
    new = path.with_name("new")
    new.write_text(ALPHA.replace("'a'", "'A'"))
    os.utime(new, ns=(about.st_atime_ns, about.st_mtime_ns))
    new.replace(path)
    for cache in (tree.place / "__pycache__").glob("alpha.*"):  # which knows no more than date and size
        cache.unlink()


def make_package(tree: Tree) -> None:
    """A package goes before a module of its name."""
    tree.write("alpha/__init__.py", ALPHA.replace("'a'", "'A'"))


def replace_by_package(tree: Tree) -> None:
    make_package(tree)
    (tree.place / "alpha.py").unlink()


@pytest.mark.rule("R31")
@pytest.mark.parametrize("change", [edit, install_another, make_package, replace_by_package])
def test_change_of_a_module_is_seen(tree: Tree, change: Callable[[Tree], None]) -> None:
    """The sources count at once, and the archive is made anew of them."""
    change(tree)
    assert words(tree.run()) == ("SourceFileLoader", ["A", "b", "bb"])
    assert words(tree.run()) == ("_Loader", ["A", "b", "bb"])


@pytest.mark.rule("R31")
@pytest.mark.parametrize("name", ["alpha.py", "alpha/__init__.py"])
def test_module_that_is_found_earlier_is_taken(tree: Tree, tmp_path: Path, name: str) -> None:
    """What the path gives counts, whatever lies in the archive."""
    before = tmp_path / "before"
    path = before / name
    path.parent.mkdir(parents=True)
    path.write_text(ALPHA.replace("'a'", "'A'"))
    assert words(tree.run(before=before)) == ("SourceFileLoader", ["A", "b", "bb"])


@pytest.mark.rule("R31")
def test_other_things_on_the_path_do_not_matter(tree: Tree, tmp_path: Path) -> None:
    """No module hides behind a text, or in a directory that is no package."""
    before = tmp_path / "before"
    (before / "beta").mkdir(parents=True)
    (before / "alpha.txt").write_text("")
    (before / "gamma.py").write_text("")
    assert words(tree.run(before=before)) == ("_Loader", ["a", "b", "bb"])


@pytest.mark.rule("R31")
@pytest.mark.parametrize("damage", [lambda data: data[:-9], lambda _: b"", lambda _: b"i\x01\0\0\0", lambda _: b"?"])
def test_damaged_archive_is_made_anew(tree: Tree, damage: Callable[[bytes], bytes]) -> None:
    """Modules are imported as ever meanwhile."""
    (archive,) = tree.archives
    archive.write_bytes(damage(archive.read_bytes()))
    assert words(tree.run()) == ("SourceFileLoader", ["a", "b", "bb"])
    assert words(tree.run()) == ("_Loader", ["a", "b", "bb"])
    assert tree.archives == [archive]


@pytest.mark.rule("R31")
def test_nothing_is_written_where_no_caches_are_wanted(tree: Tree) -> None:
    """`-B` says so, as it does to Python."""
    tree.archives[0].unlink()
    tree.run("-B")
    assert not tree.archives


@pytest.mark.rule("R31")
def test_directory_that_takes_no_archive_is_no_error(tmp_path: Path) -> None:
    """Modules are imported as ever."""
    tree = Tree(tmp_path)
    (tree.place / "__pycache__").write_text("no directory")
    assert words(tree.run()) == ("SourceFileLoader", ["a", "b", "bb"])


@pytest.mark.rule("R31")
def test_each_optimization_has_its_own(tree: Tree) -> None:
    """As the caches of modules have: the code differs."""
    assert words(tree.run("-O")) == ("SourceFileLoader", ["a", "b", "bb"])
    assert len(tree.archives) == 2


POOL = """
import sys
import skyward as sky

@sky.function
def loader():
    return type(sys.modules["skyward_node.child"].__loader__).__name__, len(sys.meta_path)

if __name__ == "__main__":
    with sky.Compute(nodes=2) as pool:
        print(loader() >> pool, len(sys.meta_path))
"""


@pytest.mark.rule("R31")
def test_nodes_of_the_next_pool_come_from_the_archive(tmp_path: Path) -> None:
    """The nursery of a pool leaves it behind, that of the next one uses it, and no worker has its finder."""
    script = tmp_path / "script.py"
    script.write_text(POOL)
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    told = [
        subprocess.run([sys.executable, script], env=env, check=True, capture_output=True, text=True).stdout.split()
        for _ in range(2)
    ]
    assert told[1][0] == "('_Loader',"
    assert told[0][1:] == told[1][1:]
