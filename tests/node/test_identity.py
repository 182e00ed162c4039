"""Who a node says it is."""

from __future__ import annotations

import pytest

from skyward.model import NodeConfig
from skyward_node.identity import accelerators, make_identity


def test_each_life_has_its_own_epoch() -> None:
    """Two daemons are never taken for one another."""
    epochs = {make_identity(NodeConfig(bind="")).epoch for _ in range(100)}
    assert len(epochs) == 100
    assert all(0 < epoch < 2**63 for epoch in epochs)


def test_visible_devices_are_respected() -> None:
    """A node uses the GPUs it was given."""
    assert accelerators("1,3") == ["1", "3"]
    assert accelerators("") == accelerators("-1") == accelerators("-1,0") == []
    assert accelerators("0, GPU-5f,-1,1") == ["0", "GPU-5f"]


def test_devices_are_counted_from_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container that was given the machine's fourth GPU knows it as its first."""
    monkeypatch.setattr("os.listdir", lambda _: ["null", "nvidia3", "nvidia-uvm", "nvidiactl", "nvidia11"])
    assert accelerators(None) == ["0", "1"]


@pytest.mark.rule("R50")
@pytest.mark.parametrize(("seats", "expected"), [(1, [["0", "1", "2"]]), (2, [["0"], ["1", "2"]]), (3, [*"012"])])
def test_nodes_of_a_machine_share_its_devices(seats: int, expected: list[list[str]]) -> None:
    """Each has those of its seat, also of devices that the pool's own environment names."""
    env = {"CUDA_VISIBLE_DEVICES": "0,1,2"}
    configs = [NodeConfig(bind="", env=env, seat=seat, seats=seats) for seat in range(seats)]
    assert [make_identity(config).accelerators for config in configs] == [list(devices) for devices in expected]
