"""The worker loads functions from what it was sent, and from nothing else."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import traceback
import weakref
from typing import TYPE_CHECKING, Any

import pytest

from skyward.calls import function as mark
from skyward.errors import ProtocolError, RemoteImportError
from skyward.wire.functions import FunctionStore
from skyward.wire.loader import GARBAGE, FunctionLoader
from skyward.wire.sources import Source, pack
from tests.wire.elsewhere import run_as_main

if TYPE_CHECKING:
    from tests.wire.conftest import Project
    from tests.wire.elsewhere import Elsewhere


def test_shipped_version_wins_over_a_file_and_over_what_is_imported(project: Project) -> None:
    """A module that was sent is the one imported, whatever lies on the worker's path or was imported before."""
    there = textwrap.dedent("""
        import sys
        from skyward.wire.loader import FunctionLoader
        sys.path.insert(0, {directory!r})
        import fun_wins, fun_wins.part
        assert fun_wins.value == fun_wins.part.value == "disk"
        loader = FunctionLoader()
        keys = []
        for key, body in {modules!r}:
            loader.add_module(key, body)
            keys.append(key)
        loader.add_function(b"k" * 16, "f", keys, {body!r})
        assert loader.load(b"k" * 16)() == ("sent", "sent")
        assert fun_wins.value == "disk"
    """)
    project.write("disk/fun_wins/__init__.py", "value = 'disk'\n")
    project.write("disk/fun_wins/part.py", "value = 'disk'\n")
    project.write("fun_wins/__init__.py", "value = 'sent'\nfrom . import part\ndef f(): return value, part.value\n")
    project.write("fun_wins/part.py", "value = 'sent'\n")
    blob = FunctionStore().resolve(mark(project.load("fun_wins").f))
    modules = [(module.key, module.body) for module in blob.modules]
    script = there.format(directory=str(project.directory / "disk"), modules=modules, body=blob.body)
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.rule("R22")
def test_worker_can_send_what_it_was_sent(project: Project) -> None:
    """A store on a worker finds the sources of modules that came over the wire, with the same keys."""
    project.write("fun_again/__init__.py", "")
    project.write("fun_again/helper.py", "value = 3\n")
    project.write("fun_again/main.py", "def f():\n    from . import helper\n    return helper.value\n")
    module = project.load("fun_again.main")
    blob = FunctionStore().resolve(mark(module.f))
    modules = [(m.key, m.name, m.body) for m in blob.modules]
    script = f"""
import sys
from skyward.calls import function as mark
from skyward.wire.functions import FunctionStore
from skyward.wire.loader import FunctionLoader
loader = FunctionLoader()
for key, name, body in {modules!r}:
    loader.add_module(key, body)
loader.add_function({blob.key!r}, "f", {[m.key for m in blob.modules]!r}, {blob.body!r})
f = loader.load({blob.key!r})
again = FunctionStore().resolve(mark(f))
assert again.key == {blob.key!r}, again
assert [(m.key, m.name, m.body) for m in again.modules] == {modules!r}
assert f() == 3
"""
    subprocess.run([sys.executable, "-c", script], check=True, cwd="/")


@pytest.mark.rule("R43")
def test_loader_refuses_what_was_never_sent() -> None:
    """A function or module that never came, or is malformed, is a `ProtocolError`."""
    loader = FunctionLoader()
    with pytest.raises(ProtocolError, match="never sent"):
        loader.load(b"x" * 16)
    loader.add_function(b"x" * 16, "f", [b"m" * 16], b'r["a", "b"]')
    with pytest.raises(ProtocolError, match="never sent"):
        loader.load(b"x" * 16)
    with pytest.raises(ProtocolError, match="malformed"):
        loader.add_module(b"m" * 16, b"rubbish\n")


@pytest.mark.rule("R29")
def test_missing_third_party_module_is_a_remote_import_error(project: Project, elsewhere: Elsewhere) -> None:
    """A module that exists on the client only, and cannot travel, is named."""
    site_packages = project.directory / "site-packages"
    project.write("site-packages/fun_third.py", "def g(): return 1\n")
    sys.path.insert(0, str(site_packages))
    try:
        main = run_as_main("import fun_third\ndef f(): return fun_third.g()\n")
        with pytest.raises(RemoteImportError, match="fun_third") as caught:
            elsewhere.call(main["f"])
        assert caught.value.module == "fun_third"
        with pytest.raises(RemoteImportError, match="fun_third"):
            elsewhere.call(main["fun_third"].g)
    finally:
        sys.path.remove(str(site_packages))


@pytest.mark.rule("R29")
def test_import_error_inside_a_function_is_an_ordinary_exception(elsewhere: Elsewhere) -> None:
    """What a running function fails to import is its own failure, with its own class."""
    main = run_as_main("def f():\n    import no_such_module_at_all\n")
    with pytest.raises(ModuleNotFoundError) as caught:
        elsewhere.call(main["f"])
    assert type(caught.value) is ModuleNotFoundError
    assert caught.value.name == "no_such_module_at_all"


def test_module_that_fails_to_import_says_why(project: Project, elsewhere: Elsewhere) -> None:
    """A syntax error or an exception at the top of a module is raised with its place, and mended by a new version."""
    module = project.load("fun_broken", "def f(): return 1\n")
    project.write("fun_broken.py", "def f(: return 1\n")
    with pytest.raises(SyntaxError) as caught:
        elsewhere.call(module.f)
    assert "fun_broken.py" in str(caught.value.__cause__)
    project.write("fun_broken.py", "1 / 0\n")
    with pytest.raises(ZeroDivisionError) as failed:
        elsewhere.call(module.f)
    assert "1 / 0" in "".join(traceback.format_exception(failed.value))
    project.write("fun_broken.py", "def g(): return 1\n")
    with pytest.raises(AttributeError, match="f"):
        elsewhere.call(module.f)
    project.write("fun_broken.py", "def f(): return 3\n")
    assert elsewhere.call(module.f) == 3


def test_loader_keeps_a_bounded_number_of_worlds(project: Project) -> None:
    """Hundreds of versions of a module do not pile up, and each still runs as itself."""
    script = """
import sys
from skyward.wire.loader import FunctionLoader
from skyward.wire.loader import GARBAGE
from skyward.wire.sources import Source, pack
loader = FunctionLoader()
for n in range(100):
    module = pack(Source("many", "/nowhere/many.py", "module", (), f"value = {n}\\ndef f(): return value\\n".encode()))
    loader.add_module(module.key, module.body)
    loader.add_function(bytes([n]) * 16, "f", [module.key], b'r["many", "f"]')
for n in (*range(100), 0, 50, 99):
    assert loader.load(bytes([n]) * 16)() == n
assert len(loader._worlds) <= 8
"""
    subprocess.run([sys.executable, "-c", script], check=True)


def test_function_of_memory_only_module_travels_by_value(elsewhere: Elsewhere) -> None:
    """A function and a class of a module made by hand, which nobody can import, are sent whole."""
    import types

    module = types.ModuleType("fun_memory")
    exec("X = 3\nclass C:\n    v = X\ndef f(): return C.v + X\n", module.__dict__)
    sys.modules["fun_memory"] = module
    try:
        assert elsewhere.call(module.f) == 6
    finally:
        del sys.modules["fun_memory"]


def test_key_depends_on_the_modules() -> None:
    """The same body with another version of a module is another function."""
    one, two = (pack(Source("m", "/m.py", "module", (), code)) for code in (b"x = 1\n", b"x = 2\n"))
    assert one.key != two.key


@pytest.mark.rule("R4")
def test_package_finds_the_files_beside_it(project: Project, elsewhere: Elsewhere) -> None:
    """Where the client's files are, by all the ways that Python has for it."""
    project.write("fun_files/words.txt", "hello")
    project.write(
        "fun_files/__init__.py",
        """
        import importlib.resources, os, pkgutil
        def read():
            with open(os.path.join(os.path.dirname(__file__), "words.txt")) as file:
                return [
                    file.read(),
                    importlib.resources.files(__name__).joinpath("words.txt").read_text(),
                    pkgutil.get_data(__name__, "words.txt").decode(),
                ]
        """,
    )
    assert elsewhere.call(project.load("fun_files").read) == ["hello"] * 3


# --- code that is not needed any more ------------------------------------------------------


@pytest.mark.rule("R21")
def test_forgotten_code_is_let_go() -> None:
    """Also where a function is part of what it refers to: the collector alone would wait for more objects."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    exec("class Held: pass\nheld = Held()\ndef f(): return f, held", namespace)
    blob = FunctionStore().resolve(mark(namespace["f"]))
    loader = FunctionLoader()
    loader.add_function(blob.key, "f", [], blob.body)
    gone = weakref.ref(loader.load(blob.key)()[1])
    loader.add_function(b"large", "g", [], bytes(GARBAGE + 1))
    loader.forget([blob.key, b"large", b"never came"], [b"never came"])
    assert gone() is None
    with pytest.raises(ProtocolError, match="was never sent"):
        loader.load(blob.key)
    loader.add_function(blob.key, "f", [], blob.body)
    assert type(loader.load(blob.key)()[1]).__name__ == "Held"


@pytest.mark.rule("R21")
def test_versions_of_modules_are_let_go(project: Project) -> None:
    """A few versions stay, and a function of an earlier one is loaded anew."""
    there = textwrap.dedent("""
        import gc, weakref
        from skyward.wire.loader import FunctionLoader
        loader = FunctionLoader()
        held = []
        for key, modules, body in {versions!r}:
            for module, source in modules:
                loader.add_module(module, source)
            loader.add_function(key, "f", [module for module, _ in modules], body)
            held.append(weakref.ref(loader.load(key)()))
        gc.collect()
        assert sum(ref() is not None for ref in held) <= 8, held
        assert loader.load({versions!r}[0][0])().number == 0
        loader.forget(list(loader._functions), list(loader._modules))
        gc.collect()
        assert sum(ref() is not None for ref in held) <= 8, held
    """)
    versions = []
    for number in range(20):
        project.write(
            "fun_many.py", f"class Large:\n    number = {number}\nlarge = Large()\ndef f():\n    return large\n"
        )
        blob = FunctionStore().resolve(mark(project.load("fun_many").f))
        versions.append((blob.key, [(module.key, module.body) for module in blob.modules], blob.body))
    assert len({key for key, _, _ in versions}) == 20
    subprocess.run([sys.executable, "-c", there.format(versions=versions)], check=True)
