"""The arrows of docs/architecture.md, the homes of third parties, and purity, read from the source.

An import counts wherever it stands: at the top, in a function, under TYPE_CHECKING, as `import_module("name")`.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.sources import PACKAGES, ROOT, sources

if TYPE_CHECKING:
    from collections.abc import Iterator


pytestmark = pytest.mark.usefixtures("forget_sources")

# Who may import what, by the packages and modules of `skyward`; a package may always import from itself. A module of
# a package that has a line of its own may import no more than that says. What is not named joins the others into what
# users hold ("all of it"), and may import anything but the facade.
VALUES = {"errors", "frozen", "model"}
CALLS = {"calls", "runtime", "work"}  # describing work, from both ends
ARROWS: dict[str, set[str]] = {
    "failure": set(),
    "task_errors": {"failure"},
    "errors": {"failure", "task_errors"},  # all of them, for everybody else
    "frozen": set(),
    "moves": set(),
    "model": {"errors", "frozen"},
    "config": VALUES,
    "image": {"errors", "frozen"},
    **dict.fromkeys(CALLS, VALUES | {"config"} | CALLS),
    "wire": VALUES | CALLS,  # what is encoded is a call
    "dispatch": VALUES | {"moves"},
    "machine": {"errors", "wire.frames"},  # what a reference to memory looks like
    "results": VALUES | {"answers", "machine", "wire"},
    "answers": VALUES | {"dispatch", "results", "wire"},
    "pool": VALUES
    | CALLS
    | {"answers", "config", "dispatch", "machine.comparing", "machine.copies", "results", "wire"},
    "pool.choosing": VALUES | {"config", "image", "meshes", "providers"},
    "pool.chunks": VALUES | {"runtime", "wire"},
    "pool.feeding": VALUES | {"answers.waiting", "pool.pumping", "work.abbreviation", "work.pending"},
    "pool.later": set(),
    "task": VALUES | CALLS | {"answers", "config", "pool", "wire"},
    "task.output": VALUES | CALLS | {"config", "task.wishes"},
    "task.sharding": {"runtime"},
    "task.wishes": VALUES | CALLS | {"config"},
    "transport": VALUES | {"answers.waiting", "config", "dispatch", "machine", "wire"},
    "providers": VALUES | {"config", "image", "machine", "transport.keys", "transport.signals"},
    "mesh": VALUES
    | {"answers", "config", "dispatch", "machine", "results", "transport", "wire"}
    | {"pool.bundling", "task.output", "task.wishes"},
    "meshes": VALUES
    | {"config", "dispatch.liveness", "image", "machine", "mesh", "providers", "transport", "wire"},  # as a pool would
}

# What may be named in annotations only: operators give what the layer above makes of a call, and the scheduler
# passes on payloads that it never looks into.
NAMED: dict[str, set[str]] = {
    **{part: {"answers", "results"} for part in CALLS},
    "answers": {"mesh.view", "pool.feeding", "work.pending"},
    "dispatch": {"wire.frames"},
    "mesh": {"pool.pumping", "providers.base"},
    "pool": {"compute", "mesh.view"},
    "pool.feeding": {"answers.streams", "dispatch.tasks", "pool.groups", "results"},
    "results": {"dispatch.tasks"},
    "task": {"dispatch.assignment", "dispatch.tasks", "results"},
}

# What the daemon and its workers may use of the library.
NODE = (
    VALUES
    | CALLS
    | {"config", "dispatch.pace", "machine", "moves", "pool.chunks", "pool.later", "task.nested", "task.wishes", "wire"}
    | {"transport.keys", "transport.lanes", "transport.polling", "transport.sockets"}
)

# Third parties have one home each: (package, the files that may import it).
BENCH = "scripts/skyward_scripts/bench"
HOMES: dict[str, tuple[str, ...]] = {
    "zmq": (
        "skyward/transport/",
        *(f"node/skyward_node/{name}.py" for name in ("boot", "door", "router", "server", "zap")),
        f"{BENCH}/references/",  # plain pyzmq, to compare with
    ),
    "cloudpickle": ("skyward/wire/pickler.py",),
    "rich": ("skyward/mesh/watching.py", "scripts/skyward_scripts/meshes/showing.py"),
    "click": ("node/skyward_node/cli.py", "node/skyward_node/unwritten.py", "scripts/skyward_scripts/"),
    "boto3": ("skyward/providers/aws/api.py",),
    "botocore": ("skyward/providers/aws/api.py",),
    "structlog": ("node/skyward_node/logs.py",),
    "packaging": ("skyward/image.py", "skyward/providers/needs.py", "skyward/providers/present.py"),
    "msgspec": ("skyward/wire/", "skyward/dispatch/", "node/skyward_node/"),  # its structs are the daemon's values, too
}  # fmt: skip

# What the benchmark compares with, and what draws pictures, lives in environments of its own.
FOREIGN: dict[str, tuple[str, ...]] = {
    "distributed": (f"{BENCH}/peers/dask.py",),
    "ipyparallel": (f"{BENCH}/peers/ipyparallel.py",),
    "joblib": (f"{BENCH}/peers/joblib.py",),
    "loky": (f"{BENCH}/peers/loky.py",),
    "matplotlib": (f"{BENCH}/drawing.py", "scripts/skyward_scripts/simulation/drawing.py"),
    "mpire": (f"{BENCH}/peers/mpire.py",),
    "parsl": (f"{BENCH}/peers/parsl.py",),
    "ray": (f"{BENCH}/peers/ray.py",),
}

PURE = ("skyward/wire/", "skyward/dispatch/", "node/skyward_node/core/")
# These look at the user's program: files that change, objects that other threads use, searches that must end.
CURIOUS = {f"skyward/wire/{name}.py" for name in ("codec", "culprit", "functions", "loader", "modules")}
IMPURE = {
    "asyncio", "multiprocessing", "select", "selectors", "signal", "socket", "subprocess", "tempfile", "threading",
    "time", "zmq",
}  # fmt: skip
IMPURE_CALLS = {"fork", "forkpty", "kill", "open", "pipe", "pipe2", "popen", "posix_spawn", "read", "system", "write"}


LIGHT = ("boto3", "click", "numpy", "rich", "structlog", "zmq", "skyward_node")


class Import(NamedTuple):
    """One imported module, where it stands."""

    file: str
    line: int
    module: str
    typing: bool = False  # under TYPE_CHECKING


def imports_of(file: str, tree: ast.Module) -> Iterator[Import]:
    """Yield what a file imports; ``from a import b`` is ``a.b`` where that is a module."""
    typing = {id(node) for block in ast.walk(tree) if is_type_checking(block) for node in ast.walk(block)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (Import(file, node.lineno, name.name, id(node) in typing) for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}:{node.lineno}: imports are absolute"
            assert node.module is not None
            for name in node.names:
                deeper = f"{node.module}.{name.name}"
                module = deeper if module_exists(deeper) else node.module
                yield Import(file, node.lineno, module, id(node) in typing)
        elif isinstance(node, ast.Call) and (called := named_import(node)):
            yield Import(file, node.lineno, called)


def named_import(node: ast.Call) -> str | None:
    """Return the module that a call of `import_module` or `__import__` names, if it is one."""
    match node:
        case ast.Call(
            func=ast.Name("import_module" | "__import__") | ast.Attribute(attr="import_module"),
            args=[ast.Constant(str(name)), *_],
        ):
            return name
        case _:
            return None


def is_type_checking(node: ast.AST) -> bool:
    """Return whether this is ``if TYPE_CHECKING:``."""
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


@cache
def module_exists(name: str) -> bool:
    """Return whether the name is a module of one of our packages."""
    package = name.partition(".")[0]
    if package not in PACKAGES:
        return False
    place = PACKAGES[package].joinpath(*name.split("."))
    return place.is_dir() or place.with_suffix(".py").is_file()


@cache
def all_imports() -> list[Import]:
    """Return all imports of all sources."""
    return [found for file, (_, tree) in sources().items() for found in imports_of(file, tree)]


def part_of(file: str) -> str:
    """Return the part of ``skyward`` that a file of it belongs to: the module if it has a line of its own above."""
    package, *inner = Path(file).relative_to("skyward").with_suffix("").parts
    module = ".".join([package, *inner])
    return module if module in ARROWS else package


def within(module: str, allowed: set[str]) -> bool:
    """Return whether a module of ``skyward`` is, or lies in, one of the parts."""
    inner = module.removeprefix("skyward.")
    return any(inner == part or inner.startswith(f"{part}.") for part in allowed)


def check_arrow(found: Import) -> str | None:
    """Return what is wrong with an import by the library, if anything."""
    top = found.module.partition(".")[0]
    part = part_of(found.file)
    if top in ("skyward_node", "skyward_scripts"):
        return "the library never imports the daemon or the scripts: a provider starts them as commands"
    if top != "skyward" or part in ("__init__", "testing"):
        return None
    if found.module == "skyward":
        return "only users import the facade"
    allowed = ARROWS.get(part, set()) | {part} | (NAMED.get(part, set()) if found.typing else set())
    if part in ARROWS and not within(found.module, allowed):
        return f"{part} may import only {sorted(ARROWS[part]) or 'nothing'}"
    return None


def check_node_arrow(found: Import) -> str | None:
    """Return what is wrong with an import by the daemon, if anything."""
    top = found.module.partition(".")[0]
    if top == "skyward_scripts":
        return "the daemon does not need the scripts"
    if top == "skyward" and not within(found.module, NODE):
        return f"the daemon may import only {sorted(NODE)} of the library"
    return None


def complain(found: Import, reason: str) -> str:
    """Return a line about an import."""
    return f"{found.file}:{found.line}: imports {found.module}: {reason}"


def test_library_imports_along_the_arrows() -> None:
    """A part of the library imports only what lies below it."""
    wrong = [
        complain(found, reason)
        for found in all_imports()
        if found.file.startswith("skyward/") and (reason := check_arrow(found))
    ]
    assert not wrong, "\n".join(wrong)


def test_node_imports_along_the_arrows() -> None:
    """The daemon imports values, config, wire, machine, what describes calls, helpers of transport, and no more."""
    wrong = [
        complain(found, reason)
        for found in all_imports()
        if found.file.startswith("node/") and (reason := check_node_arrow(found))
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("package", HOMES | FOREIGN)
def test_third_party_has_one_home(package: str) -> None:
    """A library that we depend on is imported in one place, so that it can be replaced there."""
    homes = (HOMES | FOREIGN)[package]
    wrong = [
        complain(found, f"{package} lives in {', '.join(homes)}")
        for found in all_imports()
        if found.module.partition(".")[0] == package and not found.file.startswith(homes)
    ]
    assert not wrong, "\n".join(wrong)


def test_no_other_third_party_is_imported() -> None:
    """Everything that is imported is ours, the standard library's, or has a home."""
    known = sys.stdlib_module_names | set(PACKAGES) | set(HOMES) | set(FOREIGN)
    wrong = [complain(found, "has no home") for found in all_imports() if found.module.partition(".")[0] not in known]
    # What users bring along is used if it is there, never required.
    brought = {"numpy", "pandas", "torch"}
    assert not [line for line in wrong if not any(f"imports {name}" in line for name in brought)], "\n".join(wrong)


def test_dependencies_are_those_that_are_imported() -> None:
    """What pyproject.toml requires of users has a home, and what has a home is required, if only by an extra."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [
        *project["dependencies"],
        *(name for extra in project["optional-dependencies"].values() for name in extra),
    ]
    names = {re.split(r"[<>=\[;~! ]", entry)[0] for entry in wanted}
    assert {"zmq" if name == "pyzmq" else name for name in names} == set(HOMES) - {"botocore"}  # it comes with boto3


def test_pure_parts_decide_and_do_nothing() -> None:
    """Wire, dispatch and the daemon's core import nothing that does: sockets, threads, clocks, processes."""
    wrong = [
        complain(found, "this part is pure")
        for found in all_imports()
        if found.file.startswith(PURE) and found.file not in CURIOUS and found.module.partition(".")[0] in IMPURE
    ]
    for file, (_, tree) in sources().items():
        if file.startswith(PURE):
            wrong += [
                f"{file}:{line}: calls os.{name}: this part is pure" for line, name in os_calls(tree) if acts(name)
            ]
    assert not wrong, "\n".join(wrong)


def acts(name: str) -> bool:
    """Return whether this function of ``os`` acts on the world."""
    return name in IMPURE_CALLS or name.startswith(("spawn", "exec", "wait"))


def os_calls(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield what is used of ``os``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "os":
            yield node.lineno, node.attr


@pytest.mark.parametrize("module", ["skyward", "skyward.task.nested"])
def test_import_of_the_library_is_light(module: str) -> None:
    """``import skyward``, and what a task imports of it, bring along no heavy package and nothing of the node."""
    code = f"import sys, {module}; print([name for name in {LIGHT!r} if name in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert ran.stdout == "[]\n", ran.stdout


def test_whole_facade_loads_without_a_socket() -> None:
    """Every public name can be used before anything of ZeroMQ is imported, but for the pool itself."""
    names = "[getattr(skyward, name) for name in skyward.__all__ if name != 'Compute']"
    code = f"import sys, skyward; {names}; print([name for name in {LIGHT!r} if name in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert ran.stdout == "[]\n", ran.stdout


@pytest.mark.parametrize(
    ("file", "source", "complaint"),
    [
        ("skyward/wire/codec.py", "from skyward.transport import loop", "wire may import only"),
        ("skyward/failure.py", "def f():\n    import skyward.model", "failure may import only nothing"),
        ("skyward/work/pending.py", "from skyward.pool import operations", "work may import only"),
        ("skyward/pool/later.py", "from skyward.pool import exits", "pool.later may import only nothing"),
        ("skyward/providers/local.py", "import skyward_node.cli", "never imports the daemon"),
        ("skyward/runtime.py", "from skyward.results import Future", "runtime may import only"),
        ("skyward/results.py", "if TYPE_CHECKING:\n    import skyward", "only users import the facade"),
    ],
)
def test_checker_sees_an_arrow_against_the_grain(file: str, source: str, complaint: str) -> None:
    """The checks above are able to fail, wherever the import stands."""
    [found] = imports_of(file, ast.parse(source))
    assert complaint in (check_arrow(found) or "")


def test_checker_sees_calls_of_the_system() -> None:
    """So is the one about calls of the operating system."""
    used = os_calls(ast.parse("import os\nos.fork()\nos.path.join('a')\nos.execv('a', [])"))
    assert [(line, name) for line, name in used if acts(name)] == [(2, "fork"), (4, "execv")]


def test_checker_sees_imports_by_name() -> None:
    """And about modules that are imported by their names."""
    tree = ast.parse("import_module('zmq.green')\nimportlib.import_module('boto3')\nimport_module(name)")
    assert [found.module for found in imports_of("skyward/errors.py", tree)] == ["zmq.green", "boto3"]
