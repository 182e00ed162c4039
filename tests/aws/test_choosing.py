"""Which instance type is taken."""

from __future__ import annotations

import pytest

import skyward as sky
from skyward.providers.aws.choosing import Machine, choose
from skyward.providers.aws.settings import Settings

X86 = ("x86_64",)
ARM = ("arm64",)
MACHINES = [
    Machine("t3.medium", 2, 4096, X86, burstable=True),
    Machine("c5.large", 2, 4096, X86),
    Machine("c7i.large", 2, 4096, X86),
    Machine("m6i.large", 2, 8192, X86),
    Machine("m6i.xlarge", 4, 16_384, X86),
    Machine("m1.large", 2, 4096, X86, current=False),
    Machine("c7g.large", 2, 4096, ARM),
    Machine("c5.metal", 2, 4096, X86, bare=True),
    Machine("g4dn.xlarge", 4, 16_384, X86, (("T4", 1),)),
    Machine("g4dn.12xlarge", 48, 196_608, X86, (("T4", 4),)),
    Machine("g5.xlarge", 4, 16_384, X86, (("A10G", 1),)),
    Machine("mac.large", 1, 1024, X86, markets=("on-demand",)),
]


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        (Settings(vcpus=2), "c7i.large"),  # the newest of the smallest; its CPUs are its own
        (Settings(memory_gb=8), "m6i.large"),
        (Settings(vcpus=3), "m6i.xlarge"),
        (Settings(vcpus=2, architecture="arm64"), "c7g.large"),
        (Settings(accelerator="t4"), "g4dn.xlarge"),
        (Settings(accelerator="T4:2"), "g4dn.12xlarge"),
        (Settings(accelerator="A10G", vcpus=4), "g5.xlarge"),
        (Settings(memory_gb=1), "mac.large"),
        (Settings(memory_gb=1, allocation="spot"), "c7i.large"),
    ],
)
def test_smallest_machine_that_will_do_is_taken(settings: Settings, name: str) -> None:
    """Of those that have what was asked for, the one with the least of it; accelerators only if asked for."""
    assert choose(MACHINES, settings).name == name
    assert choose(reversed(MACHINES), settings).name == name


def test_wish_that_nothing_fulfils_names_what_comes_near() -> None:
    """The error says what was asked for, and the largest there is."""
    with pytest.raises(sky.ConfigError, match=r"vcpus=64, .*the largest are .*m6i.xlarge \(4 vcpus, 16 GB\)"):
        choose(MACHINES, Settings(vcpus=64))
    with pytest.raises(sky.ConfigError, match="accelerators here are A10G, T4"):
        choose(MACHINES, Settings(accelerator="H100"))


def test_wrong_architecture_is_refused() -> None:
    """A type that was named has an architecture of its own."""
    assert MACHINES[0].architecture(None) == "x86_64"
    with pytest.raises(sky.ConfigError, match=r"t3\.medium is x86_64, and architecture='arm64' was asked for"):
        MACHINES[0].architecture("arm64")


def test_answer_of_ec2_is_understood() -> None:
    """What DescribeInstanceTypes says becomes a machine."""
    said = {
        "InstanceType": "g4dn.xlarge",
        "VCpuInfo": {"DefaultVCpus": 4},
        "MemoryInfo": {"SizeInMiB": 16384},
        "ProcessorInfo": {"SupportedArchitectures": ["x86_64"]},
        "GpuInfo": {"Gpus": [{"Name": "T4", "Count": 1}]},
        "SupportedUsageClasses": ["on-demand", "spot"],
        "CurrentGeneration": True,
    }
    assert Machine.of(said) == MACHINES[8]
