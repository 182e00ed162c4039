"""Another machine, for tests: a process that shares nothing with this one but the installed packages.

It has no access to the modules of the test, stands in another directory, and does with code and
arguments what a worker does. Nothing reaches it but the bytes that `wire` makes.
"""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Self

from skyward.calls import function as mark
from skyward.wire import failures, payload
from skyward.wire.functions import FunctionStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_SCRIPT = """
import os, pickle, sys, warnings
sys.path[:] = [path for path in sys.path if "site-packages" in path or path.startswith(sys.base_prefix)] + [{root!r}]
os.chdir("/")
from skyward.wire import failures, payload
from skyward.wire.loader import FunctionLoader
from skyward.wire.statuses import (IMPORT_FAILED, Failure)
loader = FunctionLoader()
stdin, stdout = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
def run(key, data, buffers):
    try:
        function = loader.load(key)
        args, kwargs = payload.loads_call(data, buffers)
    except ImportError as error:
        text = failures.from_exception(error)
        return False, failures.encode(Failure(IMPORT_FAILED, type(error).__name__, str(error), text.traceback,
                                              module=error.name or "")), []
    except BaseException as error:
        return False, failures.encode(failures.from_exception(error)), []
    try:
        value = function(*args, **kwargs)
    except BaseException as error:
        return False, failures.encode(failures.from_exception(error)), []
    result = payload.dumps_value(value)
    return True, bytes(result.data), [bytes(b) for b in result.buffers]
while True:
    try:
        kind, *parts = pickle.load(stdin)
    except EOFError:
        break
    if kind == "call":
        pickle.dump(run(*parts), stdout)
        stdout.flush()
    else:
        getattr(loader, "add_" + kind)(*parts)
"""
_ROOT = str(Path(payload.__file__).parents[2])


class Elsewhere:
    """Runs functions in the other process. Use it in a ``with`` statement."""

    def __init__(self) -> None:
        command = [sys.executable, "-I", "-c", _SCRIPT.format(root=_ROOT)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._known: set[bytes] = set()
        self.store = FunctionStore()
        self.sent: list[str] = []  # names of the modules and functions sent, in order

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._process.communicate()

    def call(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Run a plain or marked function there; return its value, or raise what a pool would."""
        key = self.send(function, frozenset())
        return self.call_key(key, function, args, kwargs)

    def call_key(self, key: bytes, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run a version of a function that was sent before, unless the arguments need more modules."""
        packed, modules = payload.dumps_call(args, kwargs, function=function)
        if modules:
            key = self.send(function, modules)
        self._say("call", key, bytes(packed.data), [bytes(buffer) for buffer in packed.buffers])
        good, data, buffers = pickle.load(self._process.stdout)  # type: ignore[arg-type]  # it is a pipe
        if good:
            return payload.loads_value(data, tuple(buffers))
        raise failures.to_exception(data, function="f", node=1, task=7)

    def send(self, function: Callable[..., Any], modules: Iterable[str] = ()) -> bytes:
        """Send a function as it is now, and what of its modules is new there; return its key."""
        blob = self.store.resolve(mark(function), frozenset(modules))
        for module in blob.modules:
            if module.key not in self._known:
                self._say("module", module.key, module.body)
                self.sent.append(module.name)
        if blob.key not in self._known:
            self._say("function", blob.key, blob.name, [module.key for module in blob.modules], blob.body)
            self.sent.append(blob.name)
        self._known.update((blob.key, *(module.key for module in blob.modules)))
        return blob.key

    def _say(self, *message: object) -> None:
        assert self._process.stdin is not None
        pickle.dump(message, self._process.stdin)
        self._process.stdin.flush()


def run_as_main(source: str, **names: Any) -> dict[str, Any]:
    """Run a program as ``python program.py`` would, and return its globals."""
    namespace: dict[str, Any] = {"__name__": "__main__", "__builtins__": __builtins__, **names}
    exec(compile(source, "<program>", "exec"), namespace)
    return namespace


def forget_modules(*names: str) -> None:
    """Take modules, and what is below them, out of ``sys.modules``."""
    for name in list(sys.modules):
        if name.partition(".")[0] in names:
            del sys.modules[name]


def is_module(value: object) -> bool:
    """Return whether a value is a module."""
    return isinstance(value, ModuleType)
