"""What a launch does and says, call by call, when AWS refuses."""

from __future__ import annotations

import json
import sys
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import boto3
import pytest

import skyward as sky
from skyward.providers.aws import instances
from skyward.providers.aws.rules import MESH_PORT
from skyward.providers.aws.sweeping import sweep
from tests.aws import clouds, scenario
from tests.aws.faults import Faults

if TYPE_CHECKING:
    from pathlib import Path

    from tests.aws.clouds import Cloud

ONCE = threading.Event()


def refusing(**codes: str) -> Faults:
    """Return hooks that refuse these operations with these codes."""
    faults = Faults()
    faults.refuse = lambda operation, arguments: codes.get(operation, "")
    return faults


def request_of(faults: Faults, operation: str = "RunInstances") -> dict[str, Any]:
    """Return the arguments of the first call of an operation."""
    return next(arguments for name, arguments in faults.arguments if name == operation)


def test_instances_are_what_was_asked_for(agents: Cloud) -> None:
    """The call carries everything at once, and EC2 has it: tags on all three, spot, metadata, disk, shutdown."""
    faults = Faults()
    made = scenario.provider(agents.session(faults), allocation="spot")
    try:
        made.prepare()
        launched = made.launch(scenario.SPEC, 0, ONCE)
        ec2 = agents.client("ec2")
        [said] = ec2.describe_instances(InstanceIds=[launched.ident])["Reservations"][0]["Instances"]
        tags = {tag["Key"]: tag["Value"] for tag in said["Tags"]}
        assert tags["skyward:pool"] == made.owner.pool
        assert tags["skyward:bucket"] == clouds.BUCKET
        assert said["InstanceLifecycle"] == "spot"
        assert said["MetadataOptions"]["HttpTokens"] == "required"
        group = said["NetworkInterfaces"][0]["Groups"][0]["GroupId"]
        [rules] = [each["IpPermissions"] for each in ec2.describe_security_groups(GroupIds=[group])["SecurityGroups"]]
        worlds = [entry["CidrIp"] for rule in rules for entry in rule["IpRanges"]]
        assert worlds == [clouds.HERE]
        assert [rule["FromPort"] for rule in rules if rule["IpRanges"]] == [MESH_PORT]
    finally:
        made.close()
    assert faults.calls.index("CreateSecurityGroup") < faults.calls.index("RunInstances")
    assert faults.calls[-1] == "DeleteSecurityGroup"  # last: its tags say where the rest is


def test_token_is_journalled_before_the_call(agents: Cloud, state: Path) -> None:
    """When RunInstances goes out its ClientToken stands on this machine's disk."""
    faults = Faults()
    seen: list[str] = []

    def look(operation: str, arguments: dict[str, Any]) -> str:
        if operation == "RunInstances":
            seen.extend(file.read_text() for file in state.glob("*.jsonl"))
        return ""

    faults.refuse = look
    scenario.live(scenario.provider(agents.session(faults)), 1)
    [text] = seen
    assert request_of(faults)["ClientToken"].startswith(json.loads(text.splitlines()[-1])["token"])
    assert not state.exists()


@pytest.mark.rule("F47")
def test_zone_without_capacity_is_followed_by_the_next(agents: Cloud) -> None:
    """The next subnet is asked at once, with a token of its own."""
    faults = Faults()
    tried: list[str] = []
    tokens: list[str] = []

    def refuse(operation: str, arguments: dict[str, Any]) -> str:
        if operation != "RunInstances":
            return ""
        body = arguments["body"]
        tried.append(body["NetworkInterface.1.SubnetId"])
        tokens.append(body["ClientToken"])
        return "InsufficientInstanceCapacity" if len(tried) == 1 else ""

    faults.refuse = refuse
    assert len(scenario.live(scenario.provider(agents.session(faults)), 1)) == 1
    assert len(set(tried)) == len(set(tokens)) == 2


@pytest.mark.rule("F47")
def test_no_capacity_anywhere_says_how_many_there_are(agents: Cloud) -> None:
    """The error has both numbers and what each zone said; the nodes that could be had are gone."""
    faults = Faults()
    made = scenario.provider(agents.session(faults), allocation="spot-if-available")
    spec = replace(scenario.SPEC, nodes=2)
    try:
        made.prepare()
        made.launch(spec, 0, ONCE)
        faults.refuse = lambda operation, _: "InsufficientInstanceCapacity" if operation == "RunInstances" else ""
        with pytest.raises(sky.CapacityError) as caught:
            made.launch(spec, 1, ONCE)
    finally:
        made.close()
    assert type(caught.value) is sky.CapacityError
    assert (caught.value.got, caught.value.wanted) == (1, 2)
    for part in (
        "ec2:RunInstances",
        "spot in eu-central-1a",
        "on-demand in eu-central-1b",
        "try another instance_type",
    ):
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("operation", "code", "error", "words"),
    [
        ("RunInstances", "VcpuLimitExceeded", "QuotaError", "raise the quota"),
        ("RunInstances", "UnauthorizedOperation", "AccessError", "IAM policy"),
        ("CreateSecurityGroup", "UnauthorizedOperation", "AccessError", "IAM policy"),
        ("DescribeImages", "UnauthorizedOperation", "AccessError", "IAM policy"),
        ("HeadBucket", "403", "AccessError", "IAM policy"),
        ("HeadBucket", "404", "ProvisionError", "check that it exists"),
        ("DescribeInstanceTypes", "ExpiredToken", "AccessError", "aws sso login"),
        ("DescribeInstanceTypes", "AuthFailure", "AccessError", "refresh your credentials"),
        ("GetParameter", "ParameterNotFound", "ProvisionError", "sky.AWS(ami='ami-…')"),
    ],
)
def test_refusals_are_told_apart(agents: Cloud, operation: str, code: str, error: str, words: str) -> None:
    """Quota, permission and credentials are different errors; each names the call and says what to do."""
    with pytest.raises(sky.ProvisionError) as caught:
        scenario.live(scenario.provider(agents.session(refusing(**{operation: code}))), 1)
    assert type(caught.value).__name__ == error
    assert f":{operation}" in str(caught.value)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"instance_type": "m99.huge"}, "ec2:DescribeInstanceTypes failed: InvalidInstanceType"),
        ({"region": "eu-centrall-1"}, "did you mean 'eu-central-1'?"),
        ({"instance_type": "m6g.large", "architecture": "x86_64"}, "m6g.large is arm64"),
        ({"vcpus": 2000 // 2, "memory_gb": 60_000}, "no instance type of this region has"),
    ],
)
def test_what_does_not_exist_is_refused(agents: Cloud, arguments: dict[str, Any], words: str) -> None:
    """A region, a type, an architecture: named before anything is started."""
    faults = Faults()
    with pytest.raises(sky.ConfigError) as caught:
        scenario.live(scenario.provider(agents.session(faults), **arguments), 1)
    assert words in str(caught.value)
    assert "RunInstances" not in faults.calls


def test_image_of_another_architecture_is_refused(agents: Cloud) -> None:
    """The error names the image and the type."""
    images = agents.client("ec2").describe_images(Filters=[{"Name": "architecture", "Values": ["x86_64"]}])["Images"]
    name = images[0]["ImageId"]
    with pytest.raises(sky.ConfigError, match=f"image {name} is for x86_64, and instance type m6g.large runs arm64"):
        scenario.live(scenario.provider(agents.session(), instance_type="m6g.large", ami=name), 1)


def test_group_that_is_open_to_the_world_is_refused(agents: Cloud) -> None:
    """An existing group is used as it is, but not if everyone could reach the nodes; unless somebody means it."""
    ec2 = agents.client("ec2")
    vpc = ec2.describe_vpcs()["Vpcs"][0]["VpcId"]
    group = ec2.create_security_group(GroupName="mine", Description="mine", VpcId=vpc)["GroupId"]
    world = {"IpProtocol": "tcp", "FromPort": 7700, "ToPort": 7700, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}
    ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[world])
    try:
        with pytest.raises(sky.ConfigError, match=f"{group} lets the whole world reach port 7700"):
            scenario.live(scenario.provider(agents.session(), security_group=group), 1)
        faults = Faults()
        made = scenario.provider(agents.session(faults), security_group=group, allow="the whole world")
        assert len(scenario.live(made, 1)) == 1
        assert not {"CreateSecurityGroup", "DeleteSecurityGroup"} & set(faults.calls)
    finally:
        ec2.delete_security_group(GroupId=group)


def test_missing_credentials_are_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where no AWS tool would find any, the error says how to get some."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(sky.AccessError, match="there are no AWS credentials: run `aws configure`"):
        scenario.live(sky.AWS("eu-central-1", bucket="mine", session=boto3.Session()), 1)


def test_missing_region_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The error says the three places where it could stand."""
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    with pytest.raises(sky.ConfigError, match="no region: say"):
        scenario.live(sky.AWS(bucket="mine", session=boto3.Session()), 1)


def test_missing_boto3_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error has the command that installs it."""
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(sky.ProvisionError, match="pip install boto3"):
        sky.AWS("eu-central-1", bucket="mine").prepare()


@pytest.mark.rule("F48")
def test_instance_that_is_not_visible_yet_is_waited_for(agents: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    """EC2 may not know for a while what it has just made: neither a look nor the end of it fails for that."""
    monkeypatch.setattr(instances, "LOOK", 0.02)
    left = {"DescribeInstances": 2, "TerminateInstances": 2}
    faults = Faults()

    def refuse(operation: str, arguments: dict[str, Any]) -> str:
        if (
            operation in left
            and "RunInstances" in faults.calls
            and "InstanceId.1" in arguments["body"]
            and left[operation]
        ):
            left[operation] -= 1
            return "InvalidInstanceID.NotFound"
        return ""

    faults.refuse = refuse
    made = scenario.provider(agents.session(faults))
    try:
        made.prepare()
        launched = made.launch(scenario.SPEC, 0, ONCE)
        made.terminate(launched)
        assert not [line for line in agents.left() if launched.ident in line and "running" in line]
    finally:
        made.close()
    assert left == {"DescribeInstances": 0, "TerminateInstances": 0}


@pytest.mark.rule("F49")
def test_close_with_expired_credentials_lists_what_may_be_left(agents: Cloud) -> None:
    """The error names every instance, the group and the folder, and how to get rid of them."""
    faults = Faults()
    made = scenario.provider(agents.session(faults))
    made.prepare()
    launched = made.launch(scenario.SPEC, 0, ONCE)
    faults.refuse = lambda operation, arguments: "ExpiredToken"
    with pytest.raises(sky.AccessError) as caught:
        made.close()
    for part in (launched.ident, "security group sg-", f"s3://{clouds.BUCKET}/skyward/", "skyward-mesh gc"):
        assert part in str(caught.value)
    made.close()  # doing it again does nothing
    assert not sweep(agents.session(), pool=made.owner.pool).left


def test_node_that_persists_outlives_its_launcher(agents: Cloud) -> None:
    """A mesh's instances and their group stay; another process ends them, and the last takes the group with it."""
    made = scenario.provider(agents.session()).for_mesh("m1")
    made.prepare()
    launched = made.launch(replace(scenario.SPEC, persist=True), 0, ONCE)
    made.close()
    assert any(launched.ident in line for line in agents.left())
    other = scenario.provider(agents.session())
    other.terminate(launched)
    other.close()
    assert agents.left() == []


def test_clients_of_a_mesh_share_its_group(agents: Cloud) -> None:
    """A second client of a mesh finds the group by its tag, and opens it for its own address."""
    first = scenario.provider(agents.session()).for_mesh("m1")
    second = scenario.provider(agents.session(), allow="127.0.0.2/32").for_mesh("m1")
    try:
        first.prepare()
        second.prepare()
        assert first._ground.groups == second._ground.groups
        [group] = agents.client("ec2").describe_security_groups(GroupIds=list(first._ground.groups))["SecurityGroups"]
        ranges = {entry["CidrIp"] for rule in group["IpPermissions"] for entry in rule["IpRanges"]}
        assert ranges == {"127.0.0.1/32", "127.0.0.2/32"}
    finally:
        first.close()  # there is no instance of the mesh: nothing of it has to stay
        second.close()
