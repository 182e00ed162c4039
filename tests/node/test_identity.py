"""Who a node says it is."""

from __future__ import annotations

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
    assert accelerators("") == accelerators("-1") == []
