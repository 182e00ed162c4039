"""Who may reach the nodes: they each other, and the client their one port. Nobody else.

PURE.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

MESH_PORT: Final = 7700
WORLDS: Final = ("0.0.0.0/0", "::/0")


def ingress(group: str, allow: str, ports: Iterable[int] = (MESH_PORT,)) -> list[dict[str, Any]]:
    """Return the rules of a new group, as ``AuthorizeSecurityGroupIngress`` takes them."""
    peers = {"IpProtocol": "-1", "UserIdGroupPairs": [{"GroupId": group, "Description": "nodes of this pool"}]}
    return [peers, *(_from(allow, port) for port in ports)]


def _from(allow: str, port: int) -> dict[str, Any]:
    said = "skyward client"
    ranges: dict[str, Any] = (
        {"Ipv6Ranges": [{"CidrIpv6": allow, "Description": said}]}
        if ":" in allow
        else {"IpRanges": [{"CidrIp": allow, "Description": said}]}
    )
    return {"IpProtocol": "tcp", "FromPort": port, "ToPort": port, **ranges}


def opens_to_the_world(permissions: Iterable[Mapping[str, Any]], port: int) -> bool:
    """Return whether the rules of an existing group let everyone reach the port."""
    return any(_covers(rule, port) and any(cidr in WORLDS for cidr in _sources(rule)) for rule in permissions)


def _covers(rule: Mapping[str, Any], port: int) -> bool:
    if rule.get("IpProtocol") == "-1":
        return True
    return rule.get("IpProtocol") in ("tcp", "6") and rule.get("FromPort", 0) <= port <= rule.get("ToPort", 65_535)


def _sources(rule: Mapping[str, Any]) -> Iterator[str]:
    yield from (entry.get("CidrIp", "") for entry in rule.get("IpRanges", ()))
    yield from (entry.get("CidrIpv6", "") for entry in rule.get("Ipv6Ranges", ()))
