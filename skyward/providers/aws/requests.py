"""How an instance is asked for: all that makes it safe, private and short-lived stands in the one call.

PURE.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from skyward.providers.aws import tags

if TYPE_CHECKING:
    from skyward.providers.aws.attempts import Place

TAGGED: Final = ("instance", "volume", "network-interface")


@dataclass(frozen=True, slots=True, kw_only=True)
class Blueprint:
    """What all instances of a pool have in common."""

    image: str
    instance_type: str
    root_device: str  # name of the disk that the system is on
    disk_gb: int
    groups: tuple[str, ...]


def run_instances(
    blueprint: Blueprint, place: Place, token: str, marks: list[dict[str, str]], user_data: str
) -> dict[str, Any]:
    """Return the arguments of ``RunInstances`` for one node."""
    kinds = (*TAGGED, "spot-instances-request") if place.market == "spot" else TAGGED
    request: dict[str, Any] = {
        "ClientToken": token,  # a call that is repeated with it starts nothing twice
        "MinCount": 1,
        "MaxCount": 1,
        "ImageId": blueprint.image,
        "InstanceType": blueprint.instance_type,
        "NetworkInterfaces": [
            {
                "DeviceIndex": 0,
                "SubnetId": place.subnet.id,
                "Groups": list(blueprint.groups),
                "DeleteOnTermination": True,
            }
        ],
        "UserData": user_data,
        "InstanceInitiatedShutdownBehavior": "terminate",  # a node that shuts down costs nothing any more
        # Version 2 alone, and not from containers on the instance: nothing there reads what is meant for the host.
        "MetadataOptions": {"HttpEndpoint": "enabled", "HttpTokens": "required", "HttpPutResponseHopLimit": 1},
        "BlockDeviceMappings": [
            {
                "DeviceName": blueprint.root_device,
                "Ebs": {
                    "VolumeType": "gp3",
                    "VolumeSize": blueprint.disk_gb,
                    "Encrypted": True,
                    "DeleteOnTermination": True,
                },
            }
        ],
        "TagSpecifications": tags.specifications(kinds, marks),
    }
    if place.market == "spot":
        request["InstanceMarketOptions"] = {
            "MarketType": "spot",
            "SpotOptions": {"SpotInstanceType": "one-time", "InstanceInterruptionBehavior": "terminate"},
        }
    return request
