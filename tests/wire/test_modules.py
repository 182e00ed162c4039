"""Which modules are the user's, which of them a function needs, and when they are new."""

from __future__ import annotations

import importlib.util
import json
import os
import site
import subprocess
import sys
import sysconfig
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from msgspec.structs import replace

from skyward.wire.modules import Closure, imports_of, locate, users
from skyward.wire.sources import Source, pack, unpack

if TYPE_CHECKING:
    from tests.wire.conftest import Project


def names(*roots: str) -> list[str]:
    """Return the names of the modules that go with these."""
    return [module.name for module in Closure(roots).modules]


@pytest.mark.rule("R4")
def test_library_and_our_own_modules_are_not_the_users(project: Project) -> None:
    """The standard library, installed packages and skyward are none of the user's modules."""
    project.load("mod_mine", "x = 1\n")
    others = (
        "json",
        "json.decoder",
        "sys",
        "zipimport",
        "numpy",
        "numpy.linalg",
        "skyward",
        "skyward.calls",
        "skyward_node",
    )
    assert users((*others, "mod_mine", "no_such_module", "__main__")) == {"mod_mine"}
    assert np.__file__.startswith(tuple(site.getsitepackages()))
    assert json.__file__.startswith(sysconfig.get_path("stdlib"))


@pytest.mark.rule("R4")
def test_directory_that_packages_were_installed_into_is_a_library(project: Project) -> None:
    """What ``pip install --target`` has put somewhere is installed, as is what lies in site-packages anywhere."""
    project.write("mod_target.py", "x = 1\n")
    (project.directory / "thing-1.0.dist-info").mkdir()
    other = project.directory / "lib" / "site-packages"
    project.write("lib/site-packages/mod_site.py", "x = 1\n")
    sys.path.insert(0, str(other))
    try:
        assert users(("mod_target", "mod_site")) == set()
    finally:
        sys.path.remove(str(other))


@pytest.mark.rule("R4")
def test_editable_install_is_the_users(project: Project) -> None:
    """A package that a finder of an editable install leads to is the user's, wherever the finder stands."""
    project.write("src/mod_editable/__init__.py", "from mod_editable import part\n")
    project.write("src/mod_editable/part.py", "x = 1\n")

    class Finder:
        @staticmethod
        def find_spec(name: str, path: Any = None, target: Any = None) -> Any:
            if name != "mod_editable":
                return None
            where = project.directory / "src" / "mod_editable"
            return importlib.util.spec_from_file_location(
                name, where / "__init__.py", submodule_search_locations=[str(where)]
            )

    sys.meta_path.append(Finder)
    try:
        assert names("mod_editable") == ["mod_editable", "mod_editable.part"]
    finally:
        sys.meta_path.remove(Finder)


@pytest.mark.rule("R4")
def test_closure_follows_imports_without_importing(project: Project) -> None:
    """Imports are followed from source to source, nothing is executed, and cycles end."""
    project.write("mod_a.py", "import mod_b\nimport numpy, json\nraise SystemError\n")
    project.write("mod_b.py", "def f():\n    from mod_c import thing\n")
    project.write("mod_c.py", "try:\n    import mod_missing\nexcept ImportError:\n    import mod_d\nelse:\n    pass\n")
    project.write("mod_d.py", "import mod_a\n")
    project.write("mod_e.py", "x = 1\n")
    assert names("mod_a") == ["mod_a", "mod_b", "mod_c", "mod_d"]
    assert not {"mod_a", "mod_b", "mod_c", "mod_d"} & set(sys.modules)


@pytest.mark.rule("R4")
def test_closure_knows_packages_and_relative_imports(project: Project) -> None:
    """Parents come along, relative imports of any level are resolved, and submodules named in ``from`` imports."""
    project.write("mod_p/__init__.py", "from .one import x\n")
    project.write("mod_p/one.py", "x = 1\n")
    project.write("mod_p/two.py", "from . import three, nothing\n")
    project.write("mod_p/three.py", "from .deep.er import y\n")
    project.write("mod_p/deep/__init__.py", "")
    project.write("mod_p/deep/er.py", "from .. import four\nfrom ...too_far import x\ny = 1\n")
    project.write("mod_p/four.py", "")
    project.write("mod_p/unused.py", "")
    expected = ["mod_p", "mod_p.deep", "mod_p.deep.er", "mod_p.four", "mod_p.one", "mod_p.three", "mod_p.two"]
    assert names("mod_p.two") == expected


@pytest.mark.rule("R4")
def test_closure_knows_namespace_packages(project: Project) -> None:
    """A package without ``__init__`` travels as such, with the parts that are needed."""
    project.write("mod_ns/part.py", "import mod_ns.other\n")
    project.write("mod_ns/other.py", "")
    modules = {module.name: unpack(module.body) for module in Closure(["mod_ns.part"]).modules}
    assert set(modules) == {"mod_ns", "mod_ns.part", "mod_ns.other"}
    assert modules["mod_ns"].kind == "namespace"


def test_imports_for_type_checkers_are_not_followed() -> None:
    """What only a type checker imports is not needed."""
    source = b"from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import a\nelse:\n    import b\n"
    assert {statement.module for statement in imports_of(source)} == {"typing", "b"}


@pytest.mark.parametrize("source", [b"def (:", b"\x00", b"\xff\xfe", b"# coding: nonsense\n"])
def test_source_with_errors_has_no_imports(source: bytes) -> None:
    """A file that is being written does not stop a dispatch; importing it will say what is wrong."""
    assert imports_of(source) == ()


def test_invalid_escape_gives_no_warning_here() -> None:
    """A questionable literal in a module of the user's is between Python and him."""
    assert imports_of(b"x = '\\d'\nimport a\n")[0].module == "a"


def test_source_survives_packing() -> None:
    """Every byte of a source, and its place, arrive; equal sources have equal keys, different ones different."""
    source = Source("päckage.mod", "/tmp/\udcff/mod.py", "module", ("päckage",), b"# \xff\n\nx = 1\n")
    blob = pack(source)
    assert unpack(blob.body) == source
    assert pack(source).key == blob.key
    assert len({blob.key, pack(replace(source, code=b"")).key, pack(replace(source, name="other")).key}) == 3


@pytest.mark.rule("R48")
def test_closure_notices_a_changed_file(project: Project) -> None:
    """A closure is out of date when any of its files has changed, also to the same size in the same moment."""
    path = project.write("mod_x.py", "import mod_y\nx = 1\n")
    project.write("mod_y.py", "y = 1\n")
    closure = Closure(["mod_x"])
    assert closure.is_current()
    path.write_text("import mod_y\nx = 2\n")
    assert not closure.is_current()
    closure = Closure(["mod_x"])
    project.write("mod_y.py", "y = 2\n")
    assert not closure.is_current()
    assert closure.modules != Closure(["mod_x"]).modules


@pytest.mark.rule("R48")
def test_closure_notices_a_change_that_the_stamp_hides(project: Project) -> None:
    """A file rewritten within the tick of the file system's clock, same size, same time, is seen all the same."""
    path = project.write("mod_racy.py", "x = 1\n")
    stamp = path.stat()
    closure = Closure(["mod_racy"])
    path.write_text("x = 2\n")
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert not closure.is_current()
    assert b"x = 2" in Closure(["mod_racy"]).modules[0].body


@pytest.mark.rule("R48")
def test_closure_follows_new_imports(project: Project) -> None:
    """A file that imports more after a change brings more modules."""
    project.write("mod_grow.py", "")
    project.write("mod_more.py", "")
    assert names("mod_grow") == ["mod_grow"]
    project.write("mod_grow.py", "import mod_more\n")
    assert names("mod_grow") == ["mod_grow", "mod_more"]


@pytest.mark.rule("R48")
def test_file_that_vanishes_is_asked_for_again(project: Project) -> None:
    """While a file is gone the closure is out of date, so that it is noticed when it is back."""
    path = project.write("mod_gone.py", "x = 1\n")
    project.load("mod_gone")
    closure = Closure(["mod_gone"])
    path.unlink()
    assert not closure.is_current()
    without = Closure(["mod_gone"])
    assert not without.modules
    assert not without.is_current()
    path.write_text("x = 1\n")
    assert Closure(["mod_gone"]).modules == closure.modules


def test_imported_module_is_taken_from_where_it_was_imported(project: Project) -> None:
    """A module that is imported is not looked for again, even if the path leads elsewhere now."""
    module = project.load("mod_first", "x = 1\n")
    other = project.directory / "other"
    project.write("other/mod_first.py", "x = 2\n")
    sys.path.insert(0, str(other))
    try:
        place = locate("mod_first")
    finally:
        sys.path.remove(str(other))
    assert place is not None
    assert place.path == module.__file__


def test_broken_foreign_finder_does_not_stop_the_search(project: Project) -> None:
    """A finder that raises is passed over."""

    class Broken:
        @staticmethod
        def find_spec(*_: Any) -> Any:
            raise RuntimeError

    project.write("mod_found.py", "")
    sys.meta_path.insert(0, Broken)
    try:
        assert names("mod_found") == ["mod_found"]
    finally:
        sys.meta_path.remove(Broken)


def test_modules_need_no_cloudpickle() -> None:
    """Reading sources is light: it does not import cloudpickle."""
    script = "import sys, skyward.wire.modules; assert 'cloudpickle' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True)
