"""How an interpreter is started that runs ``skyward-node``, with this process's packages and flags."""

from __future__ import annotations

import os
import sys
from importlib.machinery import PathFinder
from typing import TYPE_CHECKING, Final

from skyward.errors import ProvisionError

if TYPE_CHECKING:
    from collections.abc import Sequence

# The two packages come from where this process has them, and every other module from where the daemon
# finds it by itself: a user's `select.py` beside his script must not run in it. Places that only this
# process knows come last.
BOOTSTRAP: Final = """\
import sys
from importlib.machinery import PathFinder
from importlib.util import module_from_spec
sys.path += [place for place in {path!r} if place not in sys.path]
for name, places in {packages!r}.items():
    spec = PathFinder.find_spec(name, places)
    sys.modules[name] = module = module_from_spec(spec)
    spec.loader.exec_module(module)
from skyward_node.__main__ import main
sys.exit(main())
"""


def command(path: tuple[str, ...], *arguments: str) -> list[str]:
    """Return the argv of ``skyward-node`` with these arguments. ``path`` is this process's ``sys.path``."""
    if not sys.executable:
        raise ProvisionError("cannot start local nodes: sys.executable does not say which Python this is")
    packages = {name: _places(name) for name in ("skyward", "skyward_node")}
    code = BOOTSTRAP.format(path=list(path), packages=packages)
    executable = os.path.abspath(sys.executable)
    return [executable, *interpreter_flags(), "-c", code, "skyward-node", *arguments]


def _places(package: str) -> list[str]:
    loaded = sys.modules.get(package)
    places = loaded.__path__ if loaded is not None else _find(package)
    if not places:
        raise ProvisionError(f"cannot start local nodes: the package {package} of skyward is not installed")
    return [os.path.abspath(os.path.dirname(place)) for place in places]


def _find(package: str) -> Sequence[str] | None:
    spec = PathFinder.find_spec(package)
    if spec is None:  # another finder's, as those of some trees that somebody works on
        from importlib.util import find_spec

        spec = find_spec(package)
    return None if spec is None else spec.submodule_search_locations


def interpreter_flags() -> list[str]:
    """Return the flags of this interpreter that change how the user's code runs; and ``-P``, see `BOOTSTRAP`."""
    flags = sys.flags
    chosen = ["-P"]
    chosen += ["-" + "O" * flags.optimize] if flags.optimize else []
    chosen += ["-I"] if flags.isolated else ["-E"] * flags.ignore_environment + ["-s"] * flags.no_user_site
    chosen += ["-S"] if flags.no_site else []
    chosen += ["-B"] if sys.dont_write_bytecode else []
    chosen += ["-X", "dev"] if flags.dev_mode else []
    chosen += ["-X", "utf8"] if flags.utf8_mode else []
    return chosen + [f"-W{option}" for option in sys.warnoptions]
