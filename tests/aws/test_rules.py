"""Who may reach the nodes."""

from __future__ import annotations

from typing import Any

import pytest

from skyward.providers.aws.rules import MESH_PORT, ingress, opens_to_the_world

PEERS = {"IpProtocol": "-1", "UserIdGroupPairs": [{"GroupId": "sg-1", "Description": "nodes of this pool"}]}


def test_nodes_and_client_alone_come_in() -> None:
    """The group lets in itself, and one port from one network."""
    client = {"CidrIp": "203.0.113.7/32", "Description": "skyward client"}
    assert ingress("sg-1", "203.0.113.7/32") == [
        PEERS,
        {"IpProtocol": "tcp", "FromPort": 7700, "ToPort": 7700, "IpRanges": [client]},
    ]


def test_ipv6_has_its_own_kind_of_range() -> None:
    """A network of IPv6 is let in as well."""
    peers, mesh = ingress("sg-1", "2001:db8::/64")
    assert (peers, mesh["FromPort"]) == (PEERS, MESH_PORT)
    assert mesh["Ipv6Ranges"][0]["CidrIpv6"] == "2001:db8::/64"


@pytest.mark.parametrize(
    ("rule", "open_"),
    [
        ({"IpProtocol": "tcp", "FromPort": 7700, "ToPort": 7700, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}, True),
        ({"IpProtocol": "tcp", "FromPort": 7000, "ToPort": 8000, "Ipv6Ranges": [{"CidrIpv6": "::/0"}]}, True),
        ({"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}, True),
        ({"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}, False),
        ({"IpProtocol": "udp", "FromPort": 7700, "ToPort": 7700, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}, False),
        ({"IpProtocol": "tcp", "FromPort": 7700, "ToPort": 7700, "IpRanges": [{"CidrIp": "10.0.0.0/8"}]}, False),
        (PEERS, False),
    ],
)
def test_open_door_is_seen(rule: dict[str, Any], open_: bool) -> None:
    """An existing group that lets everyone reach the port is told from others."""
    assert opens_to_the_world([rule], MESH_PORT) == open_
