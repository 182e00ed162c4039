"""Names that modules find among their globals when a pool opens."""

from __future__ import annotations

import subprocess
import sys

from skyward import later


def test_names_come_when_they_are_called_for() -> None:
    """Not before, and the same objects as an import gives."""
    place: dict[str, object] = {}
    later.later(place, {"skyward.waiting": ("Waiter",), "skyward.wire": ("payload",)})
    assert place == {}
    later.arrive("skyward.hand")
    from skyward import waiting
    from skyward.wire import payload

    assert place == {"Waiter": waiting.Waiter, "payload": payload}
    assert "skyward.hand" in sys.modules
    later.arrive()
    assert not later._waiting


def test_pool_is_described_without_what_it_is_made_of() -> None:
    """What a pool needs when it is open is imported while its nodes start: neither ZeroMQ nor msgspec before.

    Nor what takes long of the standard library, for functions as most are.
    """
    code = """
import sys, skyward
skyward.function(lambda item: item)
skyward.Compute(nodes=2, retries=1)
print({"zmq", "msgspec", "cloudpickle", "dataclasses", "inspect", "socket"} & set(sys.modules))
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "set()\n"


def test_nodes_import_no_more_than_they_need_to_serve() -> None:
    """A pool waits for the nursery: what few tasks need comes later, and what only the standard library needs never."""
    code = """
import sys
from importlib import import_module
from skyward_node import nursery
for name in nursery.NEEDED:
    import_module(name)
print({"cloudpickle", "dataclasses", "logging", "socket", "skyward.nested"} & set(sys.modules))
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "set()\n"


def test_pool_opens_without_what_few_calls_need() -> None:
    """While nodes start the client imports nothing that takes long and is not used."""
    code = """
import sys, skyward
with skyward.Compute(nodes=1):
    print({"_hashlib", "socket", "asyncio", "rich"} & set(sys.modules))
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "set()\n"
