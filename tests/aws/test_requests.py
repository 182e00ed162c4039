"""How instances are asked for."""

from __future__ import annotations

from typing import Any

import pytest

from skyward.providers.aws.attempts import Place, Subnet
from skyward.providers.aws.requests import Blueprint, run_instances

BLUEPRINT = Blueprint(image="ami-1", instance_type="m6i.large", root_device="/dev/xvda", disk_gb=20, groups=("sg-1",))
SUBNET = Subnet("subnet-a", "eu-central-1a", "vpc-1")
MARKS = [{"Key": "skyward:pool", "Value": "p1"}]


@pytest.mark.parametrize("market", ["spot", "on-demand"])
def test_request_is_safe_private_and_short_lived(market: Any) -> None:
    """Everything stands in the one call: a second one could be the one that is never made."""
    place = Place(SUBNET, market)
    request = run_instances(BLUEPRINT, place, "token-1", MARKS, "#!/bin/sh")
    assert request["ClientToken"] == "token-1"
    assert (request["MinCount"], request["MaxCount"]) == (1, 1)
    assert request["InstanceInitiatedShutdownBehavior"] == "terminate"
    assert request["MetadataOptions"] == {
        "HttpEndpoint": "enabled",
        "HttpTokens": "required",
        "HttpPutResponseHopLimit": 1,
    }
    [disk] = request["BlockDeviceMappings"]
    assert disk["DeviceName"] == "/dev/xvda"
    assert disk["Ebs"] == {"VolumeType": "gp3", "VolumeSize": 20, "Encrypted": True, "DeleteOnTermination": True}
    [interface] = request["NetworkInterfaces"]
    assert interface == {"DeviceIndex": 0, "SubnetId": "subnet-a", "Groups": ["sg-1"], "DeleteOnTermination": True}
    assert "IamInstanceProfile" not in request  # what runs there may do nothing in the account
    tagged = {each["ResourceType"]: each["Tags"] for each in request["TagSpecifications"]}
    assert {"instance", "volume", "network-interface"} <= set(tagged)
    assert all(tags == MARKS for tags in tagged.values())


def test_spot_instances_are_asked_for_once() -> None:
    """A spot instance that is taken away does not come back by itself: the pool decides."""
    request = run_instances(BLUEPRINT, Place(SUBNET, "spot"), "t", MARKS, "")
    assert request["InstanceMarketOptions"] == {
        "MarketType": "spot",
        "SpotOptions": {"SpotInstanceType": "one-time", "InstanceInterruptionBehavior": "terminate"},
    }
    assert "InstanceMarketOptions" not in run_instances(BLUEPRINT, Place(SUBNET, "on-demand"), "t", MARKS, "")
