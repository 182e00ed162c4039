"""Functions from the client to another machine: by reference, by value, and in versions."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from skyward.calls import function as mark
from skyward.wire import functions
from skyward.wire.functions import FunctionStore
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


# --- how much is kept ----------------------------------------------------------------------


@pytest.mark.rule("R21")
def test_store_keeps_a_bounded_number_of_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of functions that refer to themselves nobody can tell that they are not used any more; the newest stay."""
    monkeypatch.setattr(functions, "_KEPT_SIZE", 100_000)
    store = FunctionStore()

    def make(number: int, size: int) -> Any:
        data = number.to_bytes(4, "big") * (size // 4)

        @mark
        def f() -> Any:
            return data, f

        return f

    for number in range(100):
        store.resolve(make(number, 10_000))
    sizes = [len(version.blob.body) for version in store._versions.values()]
    assert len(sizes) == functions._NEWEST
    for number in range(100):
        store.resolve(make(number, 1_000))
    sizes = [len(version.blob.body) for version in store._versions.values()]
    assert 40 < len(sizes) < 100
    assert sum(sizes) <= 100_000
