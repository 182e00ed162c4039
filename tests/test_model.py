"""Values that several parts share."""

from __future__ import annotations

import pytest

import skyward as sky
from skyward.model import NodeConfig
from skyward.providers.base import LaunchSpec


@pytest.mark.parametrize(
    "config",
    [
        NodeConfig(bind="ipc:///run/x/s"),
        NodeConfig(
            bind="tcp://127.0.0.1:0",
            keys="/etc/keys",
            client_keys=("a" * 40, "b" * 40),
            alone=60.0,
            sys_path=("/lib", ""),
            env={"A": "b"},
        ),
    ],
)
def test_configuration_of_a_node_survives_its_way(config: NodeConfig) -> None:
    """What a launcher writes to the pipe is what the daemon reads."""
    assert NodeConfig.from_json(config.to_json()) == config


@pytest.mark.rule("T19")
def test_nodes_are_told_public_keys_alone() -> None:
    """The pool's key is part of what it wants of its nodes; its secret is not."""
    spec = LaunchSpec.of(sky.Options(lease=5.0), 3, client_key="a" * 40)
    assert (spec.client_key, spec.lease, spec.nodes) == ("a" * 40, 5.0, 3)
    assert not [name for name in (*LaunchSpec.__slots__, *NodeConfig.__slots__) if "secret" in name]
