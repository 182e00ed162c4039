"""Who a node says it is."""

from __future__ import annotations

import importlib.metadata
import sys

from skyward.model import NodeConfig
from skyward_node.identity import accelerators, make_identity, package_versions


def test_versions_are_those_of_the_metadata() -> None:
    """The cheap way to find versions says what the standard one says."""
    versions = package_versions(sys.path)
    assert versions["msgspec"] == importlib.metadata.version("msgspec")
    assert versions["numpy"] == importlib.metadata.version("numpy")


def test_each_life_has_its_own_epoch() -> None:
    """Two daemons are never taken for one another."""
    epochs = {make_identity(NodeConfig(bind="")).epoch for _ in range(100)}
    assert len(epochs) == 100
    assert all(0 < epoch < 2**63 for epoch in epochs)


def test_visible_devices_are_respected() -> None:
    """A node uses the GPUs it was given."""
    assert accelerators("1,3") == ["1", "3"]
    assert accelerators("") == accelerators("-1") == []
