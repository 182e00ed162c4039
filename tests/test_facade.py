"""The public names: a change of the API is a change of this file."""

from __future__ import annotations

import ast
import importlib.metadata
import inspect
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

import skyward
from skyward import errors

PUBLIC = {
    "AWS",
    "AbsentRankError",
    "AccessError",
    "ArchitectureError",
    "AuthError",
    "BootstrapError",
    "BroadcastError",
    "CapacityError",
    "Compute",
    "ConfigError",
    "DeadlockError",
    "DiskFullError",
    "ForkedPoolError",
    "Future",
    "Host",
    "HostKeyError",
    "HostUnreachableError",
    "Image",
    "InstanceInfo",
    "Local",
    "LoginRefusedError",
    "MeshError",
    "MeshExistsError",
    "MisuseError",
    "NoNodesError",
    "NoPoolError",
    "NoPythonError",
    "NodeLostError",
    "Nodes",
    "Options",
    "OutputLine",
    "PackageError",
    "Peer",
    "PendingFunction",
    "PendingFunctionGroup",
    "PoolClosedError",
    "PortInUseError",
    "ProtocolError",
    "ProvisionError",
    "QuotaError",
    "RemoteError",
    "RemoteImportError",
    "ResultStream",
    "ResultTooLargeError",
    "SSH",
    "SerializationError",
    "SetupError",
    "SkywardError",
    "Static",
    "TaskError",
    "TaskTimeoutError",
    "UnknownMeshError",
    "ValueStream",
    "VersionMismatchError",
    "Worker",
    "WorkerCrashedError",
    "__version__",
    "function",
    "gather",
    "instance_info",
    "redirect_output",
    "shard",
    "silent",
    "sky",
    "stderr",
    "stdout",
}

HEAVY = ("boto3", "click", "cloudpickle", "msgspec", "numpy", "rich", "structlog", "zmq", "skyward_node")


def python(code: str) -> str:
    """Return what a fresh interpreter prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_public_names_are_these() -> None:
    """`__all__` is sorted and has the names of this list, no more and no fewer."""
    assert set(skyward.__all__) == PUBLIC
    assert skyward.__all__ == sorted(skyward.__all__, key=lambda name: (not name.isupper(), name))


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_public_name_resolves(name: str) -> None:
    """Every public name can be had, and is listed by `dir`."""
    assert getattr(skyward, name) is not None
    assert name in dir(skyward)


def test_dir_lists_public_names_alone() -> None:
    """Beside those every module has: no helper of the facade, and no module that happens to be loaded."""
    assert {name for name in dir(skyward) if not name.startswith("__")} == PUBLIC - {"__version__"}
    assert {"__all__", "__file__", "__version__"} <= set(dir(skyward))
    assert dir(skyward) == sorted(dir(skyward))


def test_every_error_is_public() -> None:
    """What can be raised can be caught by its name here."""
    names = {name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, Exception)}
    assert names <= PUBLIC
    assert all(getattr(skyward, name) is getattr(errors, name) for name in names)


def test_type_checkers_see_what_runs() -> None:
    """The names imported for type checkers are the lazy ones, each from the module it really comes from."""
    tree = ast.parse(Path(skyward.__file__).read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    seen = {alias.name: node.module for node in imports for alias in node.names}
    assert set(seen) == PUBLIC - {"__version__"}
    for name, module in seen.items():
        assert module is not None
        assert getattr(skyward, name) is getattr(importlib.import_module(module), name)


def test_unknown_name_is_an_attribute_error() -> None:
    """A name that is not public, such as a module's own, is not found by accident."""
    for name in ("Computer", "SkywardErr", "import_module_", "Any_"):
        with pytest.raises(AttributeError, match=f"module 'skyward' has no attribute '{name}'"):
            getattr(skyward, name)


def test_star_import_gives_the_public_names() -> None:
    """`from skyward import *` works with lazy names."""
    code = "from skyward import *; print(function.__name__, Options.__name__, SkywardError.__name__)"
    assert python(code) == "function Options SkywardError"


def test_version_is_that_of_the_distribution() -> None:
    """`__version__` says what is installed."""
    assert skyward.__version__ == "0.1.0"
    try:
        installed = version("skyward")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("skyward is on the path, but not installed")
    assert skyward.__version__ == installed


def test_import_is_light() -> None:
    """Neither the import nor marking functions and describing calls loads a heavy third party or the node."""
    code = f"""
import sys
import skyward as sky
f = sky.function(lambda x: x)
sky.gather(f(1), f(2) if len(sys.argv) else f(3)).with_timeout(3)
sky.Options(worker=sky.Worker(concurrency=2)), sky.Nodes(2), sky.instance_info(), sky.NoPoolError
print(sorted(set({HEAVY!r}) & set(sys.modules)))
"""
    assert python(code) == "[]"


def test_import_loads_only_the_facade() -> None:
    """Before a name is used, no module of the library but the facade is loaded: it costs next to nothing."""
    assert python("import sys, skyward; print([m for m in sys.modules if m.startswith('skyward.')])") == "[]"


def test_public_objects_are_documented() -> None:
    """Every public class and function has a docstring of its own."""
    for name in PUBLIC - {"__version__", "sky"}:
        assert inspect.getdoc(getattr(skyward, name)), name
