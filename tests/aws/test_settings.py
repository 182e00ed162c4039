"""What may be said about machines, and what is refused before anything is paid for."""

from __future__ import annotations

from typing import Any

import pytest

import skyward as sky
from skyward.config import merge_options
from skyward.providers.aws.settings import Settings, subnets
from skyward.providers.base import LaunchSpec


def test_nothing_said_is_the_usual_machine() -> None:
    """Without a wish the machine is one of two CPUs, for the architecture that was named."""
    assert Settings().named_type == "m6i.large"
    assert Settings(architecture="arm64").named_type == "m6g.large"
    assert Settings(instance_type="c7i.xlarge").named_type == "c7i.xlarge"
    assert Settings(vcpus=8).named_type is None


@pytest.mark.rule("R32")
@pytest.mark.parametrize(("said", "meant"), [({}, 300.0), ({"start_timeout": 60}, 60.0), ({"start_timeout": 90}, 90.0)])
def test_machine_has_the_time_that_was_given(said: dict[str, Any], meant: float) -> None:
    """Five minutes if nobody has said anything; what was said is honoured, also if it is what other nodes have."""
    assert LaunchSpec.of(merge_options(None, said), 1, provider=sky.AWS()).start_timeout == meant
    assert LaunchSpec.of(merge_options(None, {}), 1, provider=sky.Local()).start_timeout == 60.0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"region": "Frankfurt"}, "region must be the name of an AWS region"),
        ({"instance_type": "large"}, 'such as "m6i.large"'),
        ({"instance_type": "m6i.large", "vcpus": 2}, "leave out vcpus, or instance_type"),
        ({"vcpus": 0}, "vcpus must be between 1 and 1024"),
        ({"memory_gb": -1}, "memory_gb must be between"),
        ({"accelerator": "T4:0"}, 'a name such as "T4"'),
        ({"allocation": "spots"}, "did you mean 'spot'?"),
        ({"architecture": "aarch64"}, "'x86_64', 'arm64'"),
        ({"bucket": "s3://my-bucket/x"}, "without s3://"),
        ({"disk_gb": 1}, "disk_gb must be between 8"),
        ({"max_life": 5}, "max_life must be between 600"),
        ({"allow": "my-house"}, 'such as "203.0.113.7/32"'),
        ({"allow": "0.0.0.0/0"}, "say allow='the whole world'"),
        ({"allow": "::/0"}, "say allow='the whole world'"),
    ],
)
def test_nonsense_is_refused(arguments: dict[str, Any], words: str) -> None:
    """Every argument says what it takes, and names what it got."""
    with pytest.raises(sky.ConfigError) as caught:
        sky.AWS(**arguments)
    assert words in str(caught.value)


@pytest.mark.parametrize("arguments", [{"vcpus": "2"}, {"vcpus": True}, {"bucket": 5}, {"ami": ""}])
def test_wrong_types_are_refused(arguments: dict[str, Any]) -> None:
    """What is no number or no string is a TypeError."""
    with pytest.raises(TypeError):
        sky.AWS(**arguments)


def test_the_world_is_let_in_by_words_alone() -> None:
    """Nobody opens a port to everyone by a slip."""
    assert Settings(allow="the whole world").allow == "0.0.0.0/0"
    assert Settings(allow="203.0.113.7").allow == "203.0.113.7/32"
    assert Settings().allow is None


def test_subnets_are_one_or_several() -> None:
    """A subnet may be a string; what is no subnet is named."""
    assert subnets("subnet-1") == ("subnet-1",)
    assert subnets(["subnet-2", "subnet-1"]) == ("subnet-2", "subnet-1")
    assert subnets(None) == ()
    with pytest.raises(sky.ConfigError, match="vpc-1"):
        subnets(["vpc-1"])
    with pytest.raises(sky.ConfigError, match=r"subnet must be an id .*, or a list of them, got 5"):
        subnets(5)


def test_repr_says_what_was_said() -> None:
    """A log line with a provider shows its settings, and no more."""
    made = sky.AWS("eu-central-1", vcpus=4, bucket="mine", session=object())
    assert repr(made) == "sky.AWS(region='eu-central-1', vcpus=4, bucket='mine')"
    assert repr(made.for_pool()) == repr(made)
