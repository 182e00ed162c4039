"""Functions from the client to another machine: by reference, by value, and in versions."""

from __future__ import annotations

import gc
import importlib
import math
import subprocess
import sys
import textwrap
import threading
import traceback
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from skyward.calls import function as mark
from skyward.errors import ProtocolError, RemoteImportError, SerializationError
from skyward.wire.functions import FunctionLoader, FunctionStore
from skyward.wire.modules import Source, pack
from tests.wire.elsewhere import run_as_main

if TYPE_CHECKING:
    from tests.wire.conftest import Project
    from tests.wire.elsewhere import Elsewhere

# --- modules of the user's -----------------------------------------------------------------


@pytest.mark.rule("R4")
def test_module_function_travels_as_hash_and_name(project: Project, elsewhere: Elsewhere) -> None:
    """A marked function of a user's module is sent as module and name, never by value."""
    module = project.load(
        "fun_ref",
        """
        import skyward as sky
        SECRET = "only in the module's source"
        @sky.function
        def f(x):
            return [x, SECRET, __name__, __file__]
        class Tools:
            @staticmethod
            @sky.function
            def g(x):
                return x + 1
            @sky.function
            def h(self, x):
                return x + 2
        def plain(x):
            return x + 3
        renamed = sky.function(plain)
        """,
    )
    store = FunctionStore()
    blob = store.resolve(module.f)
    assert blob.body == b'r["fun_ref", "f"]'
    assert [m.name for m in blob.modules] == ["fun_ref"]
    assert elsewhere.call(module.f, 1) == [1, module.SECRET, "fun_ref", module.__file__]
    for function, body in ((module.Tools.g, "Tools.g"), (module.Tools.h, "Tools.h"), (module.renamed, "plain")):
        assert store.resolve(function).body == f'r["fun_ref", "{body}"]'.encode()
    assert elsewhere.call(module.Tools.g, 1) == 2
    assert elsewhere.call(module.Tools.h, None, 1) == 3
    assert elsewhere.call(module.renamed, 1) == 4


@pytest.mark.rule("R4")
def test_namesakes_of_a_function_are_told_apart(project: Project, elsewhere: Elsewhere) -> None:
    """A function whose name now belongs to another one is not mistaken for it."""
    module = project.load(
        "fun_names",
        """
        import skyward as sky
        @sky.function
        def f(): return "first"
        first = f
        @sky.function
        def f(): return "second"
        table = [sky.function(lambda: "third")]
        def g(): return "hidden"
        hidden = [g]
        def g(): return "shown"
        """,
    )
    calls = (module.first, module.f, module.table[0], module.hidden[0], module.g)
    assert [elsewhere.call(f) for f in calls] == ["first", "second", "third", "hidden", "shown"]


@pytest.mark.rule("R4")
def test_decorated_functions_run_with_their_decorators(project: Project, elsewhere: Elsewhere) -> None:
    """What stands below ``@sky.function`` is applied on the worker too."""
    module = project.load(
        "fun_deco",
        """
        import functools
        import skyward as sky
        def shout(f):
            @functools.wraps(f)
            def wrapper(*args):
                return f(*args).upper()
            return wrapper
        @sky.function
        @shout
        def f(x):
            return x
        @shout
        def g(x):
            return x
        """,
    )
    assert FunctionStore().resolve(module.f).body.startswith(b"r")
    assert elsewhere.call(module.f, "a") == "A"
    assert elsewhere.call(module.g, "b") == "B"


@pytest.mark.rule("R4")
def test_packages_arrive_whole(project: Project, elsewhere: Elsewhere) -> None:
    """Packages, submodules, relative imports, namespace packages and lazy imports work as at home."""
    project.write("fun_pkg/__init__.py", "from .base import BASE\nfrom . import sub\n")
    project.write("fun_pkg/base.py", "BASE = 10\n")
    project.write("fun_pkg/sub/__init__.py", "from ..base import BASE\nHERE = __package__\n")
    project.write("fun_pkg/lazy.py", "import fun_space.part\nvalue = fun_space.part.value\n")
    project.write("fun_space/part.py", "value = 5\n")
    module = project.load(
        "fun_pkg.main",
        """
        import skyward as sky
        import fun_pkg
        from fun_pkg import BASE, sub
        @sky.function
        def f(x):
            from . import lazy
            import fun_pkg.base as b
            return [x + BASE + b.BASE + lazy.value, sub.HERE, fun_pkg.sub is sub, fun_pkg.__path__[0]]
        """,
    )
    where = str(project.directory / "fun_pkg")
    assert elsewhere.call(module.f, 1) == [26, "fun_pkg.sub", True, where]


@pytest.mark.rule("R4")
def test_classes_of_user_modules_are_the_same_in_function_and_arguments(project: Project, elsewhere: Elsewhere) -> None:
    """A class of a user's module is one class there, and its instances come back as instances of the client's."""
    project.load("fun_shapes", "class Circle:\n    def __init__(self, r): self.r = r\n")
    module = project.load(
        "fun_area",
        """
        from fun_shapes import Circle
        def grow(c):
            assert isinstance(c, Circle)
            return Circle(c.r * 2)
        """,
    )
    circle = sys.modules["fun_shapes"].Circle
    got = elsewhere.call(module.grow, circle(2))
    assert type(got) is circle
    assert got.r == 4


@pytest.mark.rule("R4")
def test_arguments_bring_their_modules(project: Project, elsewhere: Elsewhere) -> None:
    """A module that only the arguments refer to is sent with the function."""
    project.write("fun_arg_helper.py", "x = 3\n")
    shapes = project.load("fun_arg", "import fun_arg_helper\nclass C:\n    def f(self): return fun_arg_helper.x\n")
    assert elsewhere.call(lambda c: c.f(), shapes.C()) == 3
    assert elsewhere.call(lambda c: c().f(), shapes.C) == 3


@pytest.mark.rule("R4")
def test_main_function_brings_the_modules_it_uses(project: Project, elsewhere: Elsewhere) -> None:
    """Modules in globals, in closures, in imports inside a function and inside its inner functions are sent."""
    for name in "abcde":
        project.write(f"fun_use_{name}.py", f"value = '{name}'\ndef get(): return value\n")
    main = run_as_main("""
import fun_use_a
from fun_use_b import get as get_b
def outer():
    import fun_use_c
    def f():
        import fun_use_d
        def inner():
            from fun_use_e import value
            return value
        return fun_use_a.value + get_b() + fun_use_c.value + fun_use_d.value + inner()
    return f
f = outer()
""")
    assert elsewhere.call(main["f"]) == "abcde"


@pytest.mark.rule("R4")
def test_traceback_shows_the_lines_of_the_users_code(project: Project, elsewhere: Elsewhere) -> None:
    """Tracebacks from elsewhere show file and source, though the files are not there."""
    module = project.load("fun_trace", "def f(x):\n    return 1 / x  # the line\n")
    script = project.directory / "script.py"
    script.write_text("# a comment\n\ndef g(x):\n    y = x\n    return 2 / y  # the other line\n")
    namespace: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(script.read_text(), str(script), "exec"), namespace)
    for function, line in ((module.f, "return 1 / x  # the line"), (namespace["g"], "return 2 / y  # the other line")):
        with pytest.raises(ZeroDivisionError) as caught:
            elsewhere.call(function, 0)
        assert line in str(caught.value.__cause__)


@pytest.mark.rule("R4")
def test_installed_functions_go_by_reference(elsewhere: Elsewhere) -> None:
    """Builtins and functions of installed packages, marked by hand, are sent by name."""
    store = FunctionStore()
    for function, args, expected in ((math.sqrt, (4,), 2), (abs, (-1,), 1), (np.linalg.norm, ([3, 4],), 5)):
        assert store.resolve(mark(function)).body.startswith(b"r")
        assert not store.resolve(mark(function)).modules
        assert elsewhere.call(function, *args) == expected


CALLABLES = """
import functools
import numpy
class Adder:
    def __init__(self, n): self.n = n
    def __call__(self, b): return self.n + b
partial = functools.partial(lambda a, b: a + b, 1)
bound = Adder(1).__call__
instance = Adder(1)
builtin_method = [5, 5, 3].__getitem__
ufunc = functools.partial(numpy.add, 1)
"""


@pytest.mark.rule("R4")
@pytest.mark.parametrize("name", ["partial", "bound", "instance", "builtin_method", "ufunc"])
def test_any_callable_can_run_elsewhere(elsewhere: Elsewhere, name: str) -> None:
    """Partials, bound methods and objects that can be called are functions too."""
    assert elsewhere.call(run_as_main(CALLABLES)[name], 2) == 3


@pytest.mark.rule("R4")
def test_main_functions_of_all_kinds_run_elsewhere(elsewhere: Elsewhere) -> None:
    """Closures, recursion through the marked name, defaults, generators inside, nested classes and exec travel."""
    main = run_as_main("""
import skyward as sky
K = 5
@sky.function
def factorial(n): return 1 if n < 2 else n * factorial.local(n - 1)
def even(n): return n == 0 or odd(n - 1)
def odd(n): return n != 0 and even(n - 1)
def defaults(a, b=K, *, c=K + 1): return a + b + c
def nested():
    class Inner:
        k = K
        def get(self): return self.k + K
    return Inner().get()
def counter():
    n = 0
    def step():
        nonlocal n
        n += 1
        return n
    return [step(), step()]
exec("def made(x): return x * K")
""")
    assert elsewhere.call(main["factorial"], 5) == 120
    assert elsewhere.call(main["even"], 10)
    assert elsewhere.call(main["defaults"], 1, c=2) == 8
    assert elsewhere.call(main["nested"]) == 10
    assert elsewhere.call(main["counter"]) == [1, 2]
    assert elsewhere.call(main["made"], 2) == 10


@pytest.mark.rule("R4")
def test_program_of_a_user_runs_elsewhere(project: Project) -> None:
    """A real script with classes of its own and a module beside it gets its own instances back."""
    project.write(
        "fun_beside.py", "class Item:\n    def __init__(self, n): self.n = n\ndef double(i): return Item(i.n * 2)\n"
    )
    script = project.write(
        "program.py",
        """
        import dataclasses, enum, sys
        sys.path.append(ROOT)
        import skyward as sky
        import fun_beside
        from tests.wire.elsewhere import Elsewhere

        class Kind(enum.Enum):
            SMALL = 1
            BIG = 2

        @dataclasses.dataclass
        class Box:
            item: fun_beside.Item
            kind: Kind = Kind.SMALL

        @sky.function
        def work(box):
            return Box(fun_beside.double(box.item), Kind.BIG)

        if __name__ == "__main__":
            with Elsewhere() as elsewhere:
                got = elsewhere.call(work, Box(fun_beside.Item(3)))
            assert type(got) is Box and got.kind is Kind.BIG
            assert type(got.item) is fun_beside.Item and got.item.n == 6
        """.replace("ROOT", repr(str(Path(__file__).parents[2]))),
    )
    subprocess.run([sys.executable, str(script)], check=True)


# --- versions ------------------------------------------------------------------------------


@pytest.mark.rule("R48")
def test_changed_module_is_new_code_at_the_next_dispatch(project: Project, elsewhere: Elsewhere) -> None:
    """After a change of the function's file, or of one it imports, the next call runs the new code."""
    project.write("fun_helper.py", "def value(): return 1\n")
    module = project.load("fun_top", "import fun_helper\ndef f(): return fun_helper.value()\n")
    assert elsewhere.call(module.f) == 1
    project.write("fun_helper.py", "def value(): return 2\n")
    assert elsewhere.call(module.f) == 2
    project.write("fun_top.py", "import fun_helper\ndef f(): return fun_helper.value() * 10\n")
    assert elsewhere.call(module.f) == 20


@pytest.mark.rule("R48")
def test_earlier_version_goes_on_with_what_it_had(project: Project, elsewhere: Elsewhere) -> None:
    """Tasks of two versions in flight run each with its own modules, also with imports inside the function."""
    project.write("fun_v_helper.py", "value = 1\n")
    module = project.load("fun_v", "def f():\n    import fun_v_helper\n    return fun_v_helper.value\n")
    old = elsewhere.send(module.f)
    project.write("fun_v_helper.py", "value = 2\n")
    new = elsewhere.send(module.f)
    assert old != new
    values = [elsewhere.call_key(key, module.f, (), {}) for key in (old, new, old, new)]
    assert values == [1, 2, 1, 2]


@pytest.mark.rule("R48")
def test_unchanged_modules_keep_their_state(project: Project, elsewhere: Elsewhere) -> None:
    """A new version of one module leaves those alone that do not import it; those that do are imported anew."""
    project.write("fun_s_cache.py", "runs = []\n")
    project.write("fun_s_changed.py", "value = 1\n")
    project.write("fun_s_dependent.py", "from fun_s_changed import value\nruns = []\n")
    module = project.load(
        "fun_s",
        """
        def f():
            import fun_s_cache, fun_s_dependent
            fun_s_cache.runs.append(1)
            fun_s_dependent.runs.append(1)
            return len(fun_s_cache.runs), len(fun_s_dependent.runs), fun_s_dependent.value
        """,
    )
    assert [elsewhere.call(module.f) for _ in range(2)] == [(1, 1, 1), (2, 2, 1)]
    project.write("fun_s_changed.py", "value = 2\n")
    assert elsewhere.call(module.f) == (3, 1, 2)


@pytest.mark.rule("R48")
def test_changed_submodule_is_seen_through_its_package(project: Project, elsewhere: Elsewhere) -> None:
    """``package.module`` gives the version of the function that asks."""
    project.write("fun_k/__init__.py", "")
    project.write("fun_k/part.py", "value = 1\n")
    module = project.load("fun_k_user", "def f():\n    import fun_k.part\n    return fun_k.part.value\n")
    old = elsewhere.send(module.f)
    assert elsewhere.call(module.f) == 1
    project.write("fun_k/part.py", "value = 2\n")
    assert elsewhere.call(module.f) == 2
    assert elsewhere.call_key(old, module.f, (), {}) == 1
    assert elsewhere.call(module.f) == 2


@pytest.mark.rule("R48")
def test_class_of_a_changed_module_is_the_new_one(project: Project, elsewhere: Elsewhere) -> None:
    """Arguments are unpickled with the classes of the function's version."""
    module = project.load("fun_cls", "class C:\n    v = 1\ndef f(c):\n    return isinstance(c, C), c.v\n")
    assert elsewhere.call(module.f, module.C()) == (True, 1)
    project.write("fun_cls.py", "class C:\n    v = 2\ndef f(c):\n    return isinstance(c, C), c.v\n")
    assert elsewhere.call(module.f, module.C()) == (True, 2)


@pytest.mark.rule("R48")
def test_function_of_before_a_reload_runs_the_new_code(project: Project, elsewhere: Elsewhere) -> None:
    """A function imported before its module was reloaded stands for its successor."""
    module = project.load("fun_reload", "def f(): return 1\n")
    held = module.f
    project.write("fun_reload.py", "def f(): return 2\n")
    importlib.reload(module)
    assert elsewhere.call(held) == 2


@pytest.mark.rule("R48")
def test_module_has_the_globals_that_its_source_makes(project: Project, elsewhere: Elsewhere) -> None:
    """What the client did to a module's globals does not travel."""
    module = project.load("fun_globals", "X = 1\ndef f(): return X\n")
    module.X = 2
    assert elsewhere.call(module.f) == 1


@pytest.mark.rule("R48")
@pytest.mark.parametrize(
    "change",
    ["K = 2", "def helper(): return K + 1", "f.__defaults__ = (1,)", "f.__kwdefaults__ = {'c': 1}", "late = 1"],
)
def test_rebound_name_of_a_main_function_is_new_code(elsewhere: Elsewhere, change: str) -> None:
    """A global, a helper's global, a default or a name bound only now makes a new version; nothing else does."""
    main = run_as_main("""
K = 1
def helper(): return K
class Tool:
    def use(self): return helper()
def f(d=0, *, c=0):
    return Tool().use() + d + c + (late if "late" in globals() else 0)
""")
    f = mark(main["f"])
    assert elsewhere.call(f) == 1
    key = elsewhere.send(f)
    main["other"] = 5
    assert elsewhere.store.resolve(f).key == key
    exec(change, main)
    assert elsewhere.call(f) == 2


@pytest.mark.rule("R48")
def test_rebound_closure_cell_is_new_code(elsewhere: Elsewhere) -> None:
    """A captured variable that is bound anew, also that of a function inside another, makes a new version."""
    n = 1

    def inner() -> int:
        return n

    @mark
    def f() -> int:
        return inner()

    assert elsewhere.call(f) == 1
    n = 2
    assert elsewhere.call(f) == 2


@pytest.mark.rule("R48")
def test_module_that_a_main_function_uses_may_change(project: Project, elsewhere: Elsewhere) -> None:
    """A function by value is a new version when a file of a module it uses has changed."""
    project.write("fun_by.py", "def value(): return 1\n")
    main = run_as_main("import fun_by\ndef f(): return fun_by.value()\n")
    f = mark(main["f"])
    assert elsewhere.call(f) == 1
    project.write("fun_by.py", "def value(): return 2\n")
    assert elsewhere.call(f) == 2


@pytest.mark.rule("R48")
def test_new_version_has_globals_of_its_own(elsewhere: Elsewhere) -> None:
    """A worker's copy of the globals lives as long as the version does."""
    main = run_as_main("n = 0\ndef f():\n    global n\n    n += 1\n    return n\n")
    f = mark(main["f"])
    assert [elsewhere.call(f), elsewhere.call(f)] == [1, 2]
    main["n"] = 10
    assert elsewhere.call(f) == 11
    assert main["n"] == 10


@pytest.mark.rule("R48")
def test_mutation_inside_a_captured_object_is_not_noticed() -> None:
    """What changes inside an object makes no new version: identity is compared, as the docs say."""
    table = [1]
    f = mark(lambda: table)
    store = FunctionStore()
    key = store.resolve(f).key
    table.append(2)
    assert store.resolve(f).key == key


@pytest.mark.rule("R19")
def test_function_is_serialized_once_per_version(elsewhere: Elsewhere) -> None:
    """The same version resolves to the very same blob, and is sent once."""
    pickled = []

    class Counted:
        def __reduce__(self) -> Any:
            pickled.append(1)
            return int, (3,)

    value = Counted()
    f = mark(lambda x: x + value)
    assert [elsewhere.call(f, n) for n in range(5)] == [3, 4, 5, 6, 7]
    assert len(pickled) == 1
    assert len(elsewhere.sent) == 1
    assert elsewhere.store.resolve(f) is elsewhere.store.resolve(f)


def test_equal_functions_have_equal_keys() -> None:
    """Two stores, and two marks, give a function the same key, so a node that has it needs it no more."""

    def f(x: int) -> int:
        return x

    keys = {FunctionStore().resolve(mark(f)).key for _ in range(3)}
    assert len(keys) == 1
    (key,) = keys
    assert len(key) == 16


def test_store_lets_go_of_functions() -> None:
    """A function that nobody has any more, and what it captured, are freed; those in cycles are bounded in number."""
    store = FunctionStore()
    main = run_as_main("class Big: pass\nvalue = Big()\ndef f(): return value\n")
    kept = weakref.ref(main["value"])
    store.resolve(mark(main["f"]))
    main.clear()
    gc.collect()
    assert kept() is None
    for _ in range(1500):
        store.resolve(mark_recursive())
    assert len(store._versions) <= 1024


def mark_recursive() -> Any:
    """Return a marked function that has captured itself."""
    itself: Any = mark(lambda: itself)
    return itself


LOCK = threading.Lock()


def test_store_serves_threads() -> None:
    """Threads that resolve and redefine at the same time get blobs that fit."""
    store = FunctionStore()
    functions = [mark(run_as_main(f"K = {n}\ndef f(): return K\n")["f"]) for n in range(8)]
    expected = [FunctionStore().resolve(f).key for f in functions]
    with ThreadPoolExecutor(8) as pool:
        got = list(pool.map(lambda n: store.resolve(functions[n % 8]).key, range(800)))
    assert got == expected * 100


@pytest.mark.rule("R5")
@pytest.mark.parametrize(
    ("source", "path"),
    [
        ("def f(): return session", "global 'session' → _thread.lock"),
        ("def f(x=session): return x", "default of 'x' → _thread.lock"),
        ("def f(*, x=session): return x", "default of 'x' → _thread.lock"),
        ("def make(s):\n    def f(): return s\n    return f\nf = make(session)", "closure variable 's' → _thread.lock"),
        ("def g(): return {'k': deep}\ndef f(): return g()", "global 'g' → global 'deep' → [0] → _thread.lock"),
        ("class C:\n    lock = session\ndef f(): return C", "global 'C' → .lock → _thread.lock"),
    ],
)
def test_serialization_error_names_what_a_function_has_captured(source: str, path: str) -> None:
    """A function that cannot be pickled is refused with the way to the culprit."""
    main = run_as_main(source, session=LOCK, deep=[LOCK])
    with pytest.raises(SerializationError) as caught:
        FunctionStore().resolve(mark(main["f"]))
    assert " → ".join(caught.value.path) == path
    assert str(caught.value).startswith("cannot serialize function ")


# --- on the worker -------------------------------------------------------------------------


def test_shipped_version_wins_over_a_file_and_over_what_is_imported(project: Project) -> None:
    """A module that was sent is the one imported, whatever lies on the worker's path or was imported before."""
    there = textwrap.dedent("""
        import sys
        from skyward.wire.functions import FunctionLoader
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
from skyward.wire.functions import FunctionLoader, FunctionStore
loader = FunctionLoader()
for key, name, body in {modules!r}:
    loader.add_module(key, body)
loader.add_function({blob.key!r}, "f", {[m.key for m in blob.modules]!r}, {blob.body!r})
f = loader.load({blob.key!r})
again = FunctionStore().resolve(mark(f))
assert again.key == {blob.key!r}, again
assert [tuple(m) for m in again.modules] == {modules!r}
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
from skyward.wire.functions import FunctionLoader
from skyward.wire.modules import Source, pack
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
