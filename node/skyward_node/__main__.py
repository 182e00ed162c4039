"""The command ``skyward-node``.

A launcher says ``--config-fd N`` and writes the configuration to that descriptor; a person uses the
options of `skyward_node.cli`. The first way never imports click, which costs 24 ms. A launcher of several says
``--nursery-fd N`` instead; see `skyward_node.nursery`.
"""

from __future__ import annotations

import os
import sys

USAGE = 2  # exit code for a command line that makes no sense
FLAG = "--config-fd"
NURSERY = "--nursery-fd"


def main() -> int:
    """Run the command; return its exit code."""
    if FLAG in sys.argv[1:]:
        return _launched(sys.argv[1:])
    if NURSERY in sys.argv[1:]:
        return _nursed(sys.argv[1:])
    from skyward_node.cli import command

    return int(command(standalone_mode=True) or 0)


def _launched(arguments: list[str]) -> int:
    from skyward.model import NodeConfig
    from skyward_node.boot import serve

    try:
        place = arguments.index(FLAG)
        fd = int(arguments[place + 1])
        config = NodeConfig.from_json(_read_all(fd))
    except (IndexError, ValueError, TypeError, OSError) as error:
        sys.stderr.write(f"skyward-node: {FLAG} needs a descriptor with a configuration: {error}\n")
        return USAGE
    return serve(config)


def _nursed(arguments: list[str]) -> int:
    """Fork daemons for a launcher; this returns once, and in each of them."""
    import gc

    gc.disable()  # before the greatest part is imported: nothing of that is garbage
    from skyward_node.archive import Archive

    archive = Archive(__file__)
    archive.open()
    from skyward_node import nursery

    config = nursery.serve(int(arguments[arguments.index(NURSERY) + 1]), archive)
    if config is None:
        archive.save()
        return 0
    from skyward_node.boot import serve

    return serve(config)


def _read_all(fd: int) -> bytes:
    with os.fdopen(fd, "rb") as file:
        return file.read()


if __name__ == "__main__":
    sys.exit(main())
