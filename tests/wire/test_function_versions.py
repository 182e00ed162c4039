"""What is new code at the next dispatch, and what is serialized again."""

from __future__ import annotations

import gc
import importlib
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from skyward.calls import function as mark
from skyward.errors import SerializationError
from skyward.wire.functions import FunctionStore
from tests.wire.elsewhere import run_as_main

if TYPE_CHECKING:
    from tests.wire.conftest import Project
    from tests.wire.elsewhere import Elsewhere


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
def test_changed_submodule_is_seen_by_a_from_import(project: Project, elsewhere: Elsewhere) -> None:
    """``from package import module`` takes no attribute that an earlier version has left on the package."""
    project.write("fun_fi/__init__.py", "from .same import same\n")
    project.write("fun_fi/same.py", "def same(): return 'a function'\n")
    project.write("fun_fi/part.py", "value = 1\n")
    project.write("fun_fi/user.py", "from . import part, same\ndef f(): return part.value, same()\n")
    module = project.load("fun_fi.user")
    old = elsewhere.send(module.f)
    assert elsewhere.call(module.f) == (1, "a function")
    project.write("fun_fi/part.py", "value = 2\n")
    assert elsewhere.call(module.f) == (2, "a function")
    assert elsewhere.call_key(old, module.f, (), {}) == (1, "a function")
    assert elsewhere.call(module.f) == (2, "a function")


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
