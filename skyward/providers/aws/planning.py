"""What all launches of a pool share, looked up once: the machine, its image, where it may be. Nothing is made here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from skyward.errors import ConfigError, ProvisionError
from skyward.providers.aws.attempts import Subnet
from skyward.providers.aws.choosing import Machine, choose
from skyward.providers.aws.failures import CallFailed, Kind
from skyward.providers.platforms import Platform

if TYPE_CHECKING:
    from collections.abc import Iterable

    from skyward.image import Image
    from skyward.providers.aws.api import Api
    from skyward.providers.aws.settings import Settings

# Public parameters of AWS and Canonical: the newest image of a kind, in every region.
AMAZON: Final = "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-{arch}"
UBUNTU: Final = "/aws/service/canonical/ubuntu/server/24.04/stable/current/{debian}/hvm/ebs-gp3/ami-id"
DEEP_LEARNING: Final = "/aws/service/deeplearning/ami/{arch}/base-oss-nvidia-driver-gpu-amazon-linux-2023/latest/ami-id"
DEBIAN: Final[dict[str, str]] = {"x86_64": "amd64", "arm64": "arm64"}  # what Debian calls architectures
MACHINES: Final = {"x86_64": "x86_64", "arm64": "aarch64"}  # what `uname -m` calls the architectures of EC2
BOOTED_GLIBC: Final = (2, 34)  # of Amazon Linux 2023; Ubuntu has a newer one


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is the same for all nodes."""

    machine: Machine
    architecture: str
    image: str
    root_device: str
    disk_gb: int
    subnets: tuple[Subnet, ...]

    @property
    def vpc(self) -> str:
        """Return the network that the nodes are in."""
        return self.subnets[0].vpc


def look_up(api: Api, settings: Settings, image: Image) -> Plan:
    """Return the plan; raises `ConfigError`, `ProvisionError`, `CallFailed`."""
    machine = find_machine(api, settings)
    architecture = machine.architecture(settings.architecture)
    name = find_image(api, settings, architecture, image)
    said = describe_image(api, name, architecture, machine)
    root, size = _root_of(said)
    return Plan(
        machine=machine,
        architecture=architecture,
        image=name,
        root_device=root,
        disk_gb=max(settings.disk_gb, size),
        subnets=find_subnets(api, settings, machine),
    )


def platform(architecture: str) -> Platform:
    """Return what is packed for: nodes of this architecture, and the client's Python."""
    return Platform(machine=MACHINES[architecture], libc_version=BOOTED_GLIBC)


def find_machine(api: Api, settings: Settings) -> Machine:
    """Return the instance type that was named, or the one to take; raises `ConfigError`, `CallFailed`."""
    name = settings.named_type
    if name is not None:
        found = api.read("ec2", "describe_instance_types", InstanceTypes=[name])["InstanceTypes"]
        if not found:  # AWS itself says InvalidInstanceType
            raise CallFailed("ec2:DescribeInstanceTypes", Kind.TYPE, "InvalidInstanceType", f"there is no {name!r}")
        return Machine.of(found[0])
    wanted = [{"Name": "processor-info.supported-architecture", "Values": [settings.architecture or "x86_64"]}]
    said = api.pages("ec2", "describe_instance_types", "InstanceTypes", Filters=wanted)
    return choose(map(Machine.of, said), settings)


def find_image(api: Api, settings: Settings, architecture: str, image: Image) -> str:
    """Return the id of the image: the user's, or the newest of the usual kind; raises `CallFailed`."""
    if settings.ami is not None and settings.ami.startswith("ami-"):
        return settings.ami
    parameter = settings.ami or _parameter(settings, image)
    name = parameter.format(arch=architecture, debian=DEBIAN[architecture])
    try:
        return str(api.read("ssm", "get_parameter", Name=name)["Parameter"]["Value"])
    except CallFailed as failure:
        if failure.kind is not Kind.ABSENT:
            raise
        raise ProvisionError(
            f"ssm:GetParameter: there is no public parameter {name!r} in region {api.region}: say which image to take, "
            "sky.AWS(ami='ami-…')"
        ) from failure


def _parameter(settings: Settings, image: Image) -> str:
    if settings.accelerator is not None:
        return DEEP_LEARNING
    return UBUNTU if image.apt else AMAZON  # Debian packages need a Debian


def describe_image(api: Api, name: str, architecture: str, machine: Machine) -> dict[str, Any]:
    """Return what EC2 says about an image that the machine can run; raises `ConfigError`, `CallFailed`."""
    found = api.read("ec2", "describe_images", ImageIds=[name])["Images"]
    if not found:
        raise CallFailed("ec2:DescribeImages", Kind.ABSENT, "InvalidAMIID.NotFound", f"there is no image {name}")
    said: dict[str, Any] = found[0]
    built = said.get("Architecture", architecture)
    if built != architecture:
        raise ConfigError(
            f"ec2:DescribeImages: image {name} is for {built}, and instance type {machine.name} runs {architecture}: "
            "take another ami, or another instance_type or architecture"
        )
    return said


def _root_of(said: dict[str, Any]) -> tuple[str, int]:
    root = str(said.get("RootDeviceName") or "/dev/xvda")
    disks: Iterable[dict[str, Any]] = said.get("BlockDeviceMappings", ())
    sizes = [int(disk.get("Ebs", {}).get("VolumeSize", 0)) for disk in disks if disk.get("DeviceName") == root]
    return root, max(sizes, default=0)


def find_subnets(api: Api, settings: Settings, machine: Machine) -> tuple[Subnet, ...]:
    """Return the subnets to try, in order; raises `ConfigError`, `ProvisionError`, `CallFailed`."""
    wanted: dict[str, Any] = (
        {"SubnetIds": list(settings.subnet)}
        if settings.subnet
        else {"Filters": [{"Name": "default-for-az", "Values": ["true"]}]}
    )
    said = api.pages("ec2", "describe_subnets", "Subnets", **wanted)
    found = [Subnet(str(each["SubnetId"]), str(each["AvailabilityZone"]), str(each["VpcId"])) for each in said]
    if not found:
        raise ProvisionError(
            f"ec2:DescribeSubnets: the account has no default network in region {api.region}: say sky.AWS(subnet=...), "
            "or make one with `aws ec2 create-default-vpc`"
        )
    if len({subnet.vpc for subnet in found}) > 1:
        raise ConfigError("the subnets belong to different networks: nodes could not reach each other")
    order = {name: place for place, name in enumerate(settings.subnet)}
    found.sort(key=lambda subnet: (order.get(subnet.id, 0), subnet.zone))
    zones = _zones_with(api, machine)
    offered = tuple(subnet for subnet in found if subnet.zone in zones)
    if not offered:
        here = ", ".join(sorted({subnet.zone for subnet in found}))
        raise ConfigError(
            f"ec2:DescribeInstanceTypeOfferings: {machine.name} is not offered in {here}; it is in "
            f"{', '.join(sorted(zones)) or 'no zone'}: take another instance_type, or subnets there"
        )
    return offered


def _zones_with(api: Api, machine: Machine) -> set[str]:
    said = api.pages(
        "ec2", "describe_instance_type_offerings", "InstanceTypeOfferings",
        LocationType="availability-zone", Filters=[{"Name": "instance-type", "Values": [machine.name]}],
    )  # fmt: skip
    return {str(each["Location"]) for each in said}
