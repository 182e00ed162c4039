"""Names that modules find among their globals when a pool opens."""

from __future__ import annotations

import gc
import subprocess
import sys
import weakref
from typing import TYPE_CHECKING

import pytest

from skyward import later

if TYPE_CHECKING:
    from collections.abc import Iterator


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


def test_pool_opens_without_openssl_or_socket() -> None:
    """Of both the C modules below are enough, while nodes start and for the first call."""
    code = """
import sys, operator, skyward
with skyward.Compute(nodes=1) as pool:
    assert skyward.function(operator.neg)(1) >> pool == -1
    print({"_hashlib", "socket", "asyncio", "rich"} & set(sys.modules))
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "set()\n"


class Loop:
    """An object that only the collector can free."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture
def collector() -> Iterator[None]:
    """Leave the collector as it was, with nothing frozen but what the suite has frozen."""
    frozen = gc.get_freeze_count()
    gc.unfreeze()
    yield
    gc.unfreeze()
    if frozen:
        gc.freeze()
    gc.enable()


@pytest.mark.usefixtures("collector")
def test_collector_rests_in_a_block_and_works_afterwards() -> None:
    """It frees what has become garbage meanwhile when it looks at what is old, and does not look at all right away."""
    gc.collect()
    with later.CollectorRests():
        assert not gc.isenabled()
        loop = weakref.ref(Loop())
        many: list[list[int]] = [[] for _ in range(10 * gc.get_threshold()[0])]
    assert gc.isenabled()
    assert gc.get_count()[0] < len(many) // 10
    assert gc.get_freeze_count() == 0
    assert loop() is not None
    gc.collect()
    assert loop() is None


@pytest.mark.usefixtures("collector")
def test_collector_stays_as_the_program_has_it() -> None:
    """Off if it was off; and what the program has frozen does not thaw."""
    gc.disable()
    with later.CollectorRests():
        pass
    assert not gc.isenabled()
    gc.enable()
    gc.freeze()
    frozen = gc.get_freeze_count()
    with later.CollectorRests():
        pass
    assert gc.isenabled()
    assert gc.get_freeze_count() == frozen > 0
