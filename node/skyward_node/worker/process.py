"""What makes a fresh fork of the template a decent Python process for user code.

No trace of the daemon is left: stdin reads nothing, stdout and stderr are the pipes to the daemon, and
``__main__`` is an empty module, never the user's script; it has no ``__file__``, or the children that multiprocessing
spawns would run that script. Classes of the script are found in it once they have come.
"""

from __future__ import annotations

import faulthandler
import gc
import importlib
import io
import os
import signal
import sys
import time
import traceback
import types
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from skyward_node import processes
from skyward_node.worker.printing import Stream

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from skyward.model import NodeConfig

# When memory runs out the kernel shall take a worker, which is replaced, before the daemon or the client.
OOM_SCORE: Final = 300
_OURS: Final = ("skyward", "skyward_node", "cloudpickle", "msgspec")


def prepare(config: NodeConfig, env: Mapping[str, str]) -> None:
    """Set up environment, directory, import path, standard streams and signals."""
    processes.set_name("skyward-worker")
    os.environ.update(config.env)
    os.environ.update(env)
    time.tzset()
    if config.umask >= 0:
        os.umask(config.umask)
    _open_streams()
    if config.cwd:
        try:
            os.chdir(config.cwd)
        except OSError as error:
            sys.stderr.write(f"skyward: the worker cannot enter {config.cwd}: {error.strerror}\n")
    if config.sys_path is not None:
        _set_path(config.sys_path)
    sys.argv = ["skyward-worker"]
    sys.modules["__main__"] = main = types.ModuleType("__main__")
    vars(main)["__getattr__"] = _class_of_main
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # until there is a task to interrupt
    faulthandler.enable(file=2, all_threads=False)
    with suppress(OSError), open("/proc/self/oom_score_adj", "r+", encoding="utf-8") as score:
        score.write(str(min(1000, int(score.read()) + OOM_SCORE)))
    gc.enable()  # the template runs without


def _class_of_main(name: str) -> type[Any]:
    """Return a class of the user's script, which plain pickle looks for under its name."""
    if name.startswith("__"):  # what libraries ask every module for
        raise AttributeError(f"module '__main__' has no attribute {name!r}")
    from skyward.wire import pickler  # the template has it

    return pickler.class_of_main(name)


def _open_streams() -> None:
    sys.stdin = sys.__stdin__ = io.TextIOWrapper(io.FileIO(0, closefd=False), encoding="utf-8")  # type: ignore[misc]  # __stdin__ is Final in typeshed, not in Python
    sys.stdout = sys.__stdout__ = Stream(1, "strict")  # type: ignore[misc]  # as above
    sys.stderr = sys.__stderr__ = Stream(2, "backslashreplace")  # type: ignore[misc]  # as above


def flush_streams() -> None:
    """Flush the real stdout and stderr, whatever the user's code has done to them."""
    out, err = sys.__stdout__, sys.__stderr__
    try:
        if out is not None:
            out.flush()
        if err is not None:
            err.flush()
    except (OSError, ValueError):  # closed by the user's code
        for stream in (out, err):
            with suppress(OSError, ValueError, AttributeError):
                stream.flush()  # type: ignore[union-attr]  # as above


def or_die(run: Callable[[], None]) -> None:
    """Be a thread without which the worker is worse than crashed: an error of ours ends the process."""
    try:
        run()
    except BaseException:
        traceback.print_exc()
        flush_streams()
        os._exit(1)


def _set_path(path: tuple[str, ...]) -> None:
    """Search modules where the client does, and ours where the daemon found them."""
    roots = [os.path.dirname(os.path.dirname(os.path.abspath(sys.modules[name].__file__ or ""))) for name in _OURS]
    sys.path[:] = [*path, *(root for root in dict.fromkeys(roots) if root not in path)]
    importlib.invalidate_caches()
