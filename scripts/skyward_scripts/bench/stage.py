"""The files that contestants' processes find.

These are this package, the functions they call, as a user's own modules, and the scripts they start with: copies
in a directory of the run. It is on every contestant's path, and nothing else of ours is: what stands beside this
package where it is installed must not reach the environments of peers.
"""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from skyward_scripts.bench.catalogue import Origin

PACKAGE: Final = "skyward_scripts"
ABOVE: Final = ("__init__.py", "ideal.py")  # what the measures use of it, beside `bench`
MODULES: Final = {"plain_tasks": "tasks.py", "marked_tasks": "marked.py"}  # the user's own modules
SERVE, FIRST, IMPORT = "runner", "first", "importing"  # what a contestant's process is started for

_FROM_MODULE: Final = """\
\"\"\"Measure functions that are in a module.\"\"\"
import {module}
from skyward_scripts.bench.{purpose} import main

if __name__ == "__main__":
    main({module})
"""
_FROM_SCRIPT: Final = """

if __name__ == "__main__":
    import sys

    from skyward_scripts.bench.{purpose} import main

    main(sys.modules["__main__"])
"""


class Stage:
    """The directory of a run: what contestants find, and a place of its own for each."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.path = os.path.join(root, "stage")
        self._count = 0
        here = os.path.dirname(os.path.abspath(__file__))
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(here, os.path.join(self.path, PACKAGE, "bench"), ignore=ignored)
        for file in ABOVE:
            shutil.copy(os.path.join(os.path.dirname(here), file), os.path.join(self.path, PACKAGE))
        for module, file in MODULES.items():
            shutil.copy(os.path.join(here, file), os.path.join(self.path, f"{module}.py"))

    def script(self, origin: Origin, purpose: str) -> str:
        """Return the path of the script that a contestant starts with."""
        kind, _, place = origin.partition(" ")
        path = os.path.join(self.path, f"{purpose}_{kind}_{place}.py")
        if not os.path.exists(path):
            with open(path, "w", encoding="utf-8") as file:
                file.write(self._text(f"{kind}_tasks", place, purpose))
        return path

    def _text(self, module: str, place: str, purpose: str) -> str:
        if place == "module":
            return _FROM_MODULE.format(module=module, purpose=purpose)
        with open(os.path.join(self.path, f"{module}.py"), encoding="utf-8") as file:
            return file.read() + _FROM_SCRIPT.format(purpose=purpose)

    def scratch(self) -> str:
        """Return an empty directory; its path is short, because paths of sockets begin with it."""
        self._count += 1
        path = os.path.join(self.root, str(self._count))
        os.mkdir(path)
        return path
