"""Without a bucket: code goes to instances by SSH, and nobody has to be believed for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import skyward as sky
from skyward.providers.aws import handover, launching, network
from skyward.providers.aws.handover import host_key
from tests.aws import clouds, scenario
from tests.aws.faults import Faults
from tests.aws.work import variable, where

if TYPE_CHECKING:
    from tests.aws.clouds import Cloud

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJmQ"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait as long as a cloud of this machine needs."""
    monkeypatch.setattr(network, "LOOK", 0.05)
    monkeypatch.setattr(launching, "QUICKLY", 0.05)
    monkeypatch.setattr(launching, "SLOWEST", 0.2)


def test_host_key_is_the_one_of_this_launch() -> None:
    """Among what others write on the console, and what an earlier boot has left there."""
    console = f"login:\r\nskyward| hostkey 0a {KEY}\r\nskyward| hostkey 0b ssh-ed25519 AAAA+/=\r\nhostkey 0c {KEY}\r\n"
    assert host_key(console, "0a") == KEY
    assert host_key(console, "0b") == "ssh-ed25519 AAAA+/="
    assert host_key(console, "0c") == host_key("", "0a") == ""


@pytest.mark.rule("T19")
def test_tasks_run_without_a_bucket(machines: Cloud) -> None:
    """No call of S3 is made; variables reach the workers, and stand neither in the user data nor in the log."""
    faults = Faults()
    provider = scenario.provider(machines.session(faults), bucket=None)
    image = sky.Image(env={"API_TOKEN": "canary-value"})
    with sky.Compute(provider=provider, nodes=2, image=image, console=False) as pool:
        assert len(set(where() @ pool)) == 2
        assert (variable("API_TOKEN") @ pool) == ["canary-value"] * 2
        for box in [machines.directory / name for name in machines.alive()]:
            for text in (box / "userdata", box / "console", *(box / "log").iterdir()):
                assert "canary-value" not in text.read_text()
            assert "PRIVATE KEY" not in (box / "userdata").read_text()
        found = machines.client("ec2").describe_security_groups()["SecurityGroups"]
        [group] = [each for each in found if each["GroupName"] != "default"]
        ports = {rule["FromPort"]: rule["IpRanges"] for rule in group["IpPermissions"] if rule["IpRanges"]}
        assert {port: [each["CidrIp"] for each in ranges] for port, ranges in ports.items()} == {
            22: [clouds.HERE], 7700: [clouds.HERE],
        }  # fmt: skip
    assert not {"PutObject", "GetObject", "HeadBucket", "ListObjectsV2"} & set(faults.calls)


@pytest.mark.slow
@pytest.mark.rule("F52")
def test_setup_that_fails_is_told_without_a_bucket(machines: Cloud) -> None:
    """The report comes by SSH, with the last lines of the log; the instance is gone."""
    provider = scenario.provider(machines.session(), bucket=None)
    image = sky.Image(pip=["no-such-package-of-anybody==1"])
    with pytest.raises(sky.ProvisionError, match=r"instance i-\w+: .*no-such-package-of-anybody") as caught:
        sky.Compute(provider=provider, nodes=1, image=image, console=False).open()
    assert caught.value.log
    assert machines.alive() == []


@pytest.mark.rule("T22")
@pytest.mark.rule("F53")
def test_instance_with_another_host_key_gets_nothing(machines: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who answers at its address and does not own the key of its console is told nothing."""
    other = " ".join(handover.Handover().public.split()[:2])
    monkeypatch.setattr(handover, "host_key", lambda console, nonce: host_key(console, nonce) and other)
    provider = scenario.provider(machines.session(), bucket=None)
    with pytest.raises(sky.HostKeyError, match=r"instance i-\w+: who answers at .* does not own the host key"):
        scenario.live(provider, 1)
    assert machines.alive() == []


def test_way_for_code_is_needed_before_anything_is_called(agents: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    """With neither a bucket nor SSH nothing is asked of AWS."""
    monkeypatch.setattr("shutil.which", lambda _: None)
    faults = Faults()
    with pytest.raises(sky.ProvisionError, match=r"an S3 bucket of yours.*OpenSSH client.*nothing was started"):
        scenario.live(sky.AWS(session=agents.session(faults)), 1)
    assert faults.calls == []
