"""Which accelerators each worker sees (R50). No test needs one: CUDA is told by its variable alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

import skyward as sky
from tests.rules.processes import pid_of, replaced
from tests.rules.work import meet

if TYPE_CHECKING:
    from pathlib import Path

    from skyward.model import Executor

VISIBLE = "CUDA_VISIBLE_DEVICES"


@sky.function
def seen(directory: str, name: str, total: int) -> tuple[str, tuple[str, ...], str]:
    """Return what this worker, `instance_info`, and a process of the task see, once ``total`` tasks are here."""
    meet.local(directory, name, total)
    info = sky.instance_info()
    assert info is not None
    program = f"import os; print(os.environ.get({VISIBLE!r}))"
    child = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return os.environ[VISIBLE], info.accelerators, child.stdout.strip()


@pytest.mark.rule("R50")
@pytest.mark.parametrize(
    ("devices", "expected"),
    [
        ("0,1,2,3", ["0", "1", "2", "3"]),
        ("GPU-a,GPU-b,GPU-c,GPU-d,GPU-e,GPU-f", ["GPU-a", "GPU-b,GPU-c", "GPU-d", "GPU-e,GPU-f"]),
        ("5,7", ["5", "5", "7", "7"]),
        ("6", ["6"] * 4),
    ],
)
def test_each_worker_sees_its_share_of_the_devices(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, devices: str, expected: list[str]
) -> None:
    """The nodes of this machine share them, and so do the workers of each; processes of tasks see the same."""
    monkeypatch.setenv(VISIBLE, devices)
    with sky.Compute(nodes=2, concurrency=2) as pool:
        found = sky.gather(*[seen(str(tmp_path), str(i), 4) for i in range(4)]) >> pool
    assert sorted(visible for visible, _, _ in found) == expected
    for visible, told, child in found:
        assert ",".join(told) == visible == child


@pytest.mark.rule("R50")
@pytest.mark.parametrize("executor", ["process", "thread"])
def test_replacement_sees_what_its_predecessor_saw(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, executor: Executor
) -> None:
    """The devices of a node that is lost are not left unused; threads of a node see all that it may use."""
    monkeypatch.setenv(VISIBLE, "0,1,2,3")
    with sky.Compute(nodes=2, executor=executor) as pool:
        assert sorted(visible for visible, _, _ in seen(str(tmp_path), "first", 1) @ pool) == ["0,1", "2,3"]
        lost = pid_of(pool.snapshot().nodes[1])
        os.kill(lost, signal.SIGKILL)
        replaced(pool, {lost})
        assert sorted(visible for visible, _, _ in seen(str(tmp_path), "second", 1) @ pool) == ["0,1", "2,3"]


@pytest.mark.rule("R50")
@pytest.mark.parametrize("devices", ["", "-1"])
def test_devices_that_the_user_hides_stay_hidden(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, devices: str) -> None:
    """What says that there are none is left as it is."""
    monkeypatch.setenv(VISIBLE, devices)
    with sky.Compute(nodes=2) as pool:
        assert seen(str(tmp_path), "task", 1) @ pool == [(devices, (), devices)] * 2
