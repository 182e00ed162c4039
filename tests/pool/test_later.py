"""Names that modules find among their globals when a pool opens."""

from __future__ import annotations

import subprocess
import sys

from skyward.pool import later


def test_names_come_when_they_are_called_for() -> None:
    """Not before, and the same objects as an import gives."""
    place: dict[str, object] = {}
    later.later(place, {"skyward.answers.waiting": ("Waiter",), "skyward.wire": ("payload",)})
    assert place == {}
    later.arrive("skyward.answers.hand")
    from skyward.answers import waiting
    from skyward.wire import payload

    assert place == {"Waiter": waiting.Waiter, "payload": payload}
    assert "skyward.answers.hand" in sys.modules
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


def test_pool_opens_without_openssl_or_socket() -> None:
    """Of both the C modules below are enough, while nodes start and for the first call; ctypes is for large buffers."""
    code = """
import sys, operator, skyward
with skyward.Compute(nodes=1) as pool:
    assert skyward.function(operator.neg)(1) >> pool == -1
    print({"_hashlib", "socket", "asyncio", "rich", "ctypes"} & set(sys.modules))
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "set()\n"
