"""Nothing is left in the cloud, whatever fails, and whenever (T12). The calls come from a clean run, not from a list.

The short form lets the calls fail that make or end what costs something, in the worst ways; the long form every call of
three kinds of pools, in all ways.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Final

import pytest

import skyward as sky
from skyward.providers.aws import api, launching, network
from skyward.providers.aws.sweeping import sweep
from tests.aws import scenario
from tests.aws.clouds import BUCKET
from tests.aws.faults import MODES, Faults
from tests.aws.forked import Clients, hurry

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.aws.clouds import Cloud

LAUNCHES: Final[dict[str, tuple[int, dict[str, Any]]]] = {
    "one": (1, {}),
    "four": (4, {}),
    "spot": (1, {"allocation": "spot"}),
}
COSTLY: Final = {"RunInstances", "CreateSecurityGroup", "PutObject", "TerminateInstances"}


@pytest.fixture(scope="module")
def clients(agents_cloud: Cloud, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clients]:
    """Yield a process that makes clients to be killed."""
    made = Clients(agents_cloud.url, tmp_path_factory.mktemp("home"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def elsewhere(agents_cloud: Cloud, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clients]:
    """Yield a process in namespaces of its own, which knows nothing of those that were killed."""
    made = Clients(agents_cloud.url, tmp_path_factory.mktemp("elsewhere"), elsewhere=True)
    yield made
    made.close()


@pytest.fixture(autouse=True)
def quick() -> Iterator[None]:
    """Wait as long as a cloud of this machine needs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(api, "PAUSE", api.PAUSE)
        patch.setattr(network, "LOOK", network.LOOK)
        patch.setattr(launching, "QUICKLY", launching.QUICKLY)
        patch.setattr(launching, "SLOWEST", launching.SLOWEST)
        hurry()
        yield


def check(
    cloud: Cloud, clients: Clients, elsewhere: Clients, launch: str, operation: str, number: int, mode: str
) -> str:
    """Let one call of one launch fail in one way; return what is wrong, or nothing."""
    nodes, more = LAUNCHES[launch]
    what = f"{launch}: {operation} {number} {mode}: "
    answer = clients.run(do="live", nodes=nodes, more=more, fault=[operation, number, mode])
    if "bug" in answer:
        return f"{what}{answer['bug']}"
    if mode == "kill":
        if answer["signal"] != 9 and answer.get("happened"):
            return f"{what}was not killed"
    elif left := cloud.left():
        cloud.wipe()
        return f"{what}left {left} ({answer})"
    swept = elsewhere.run(do="sweep")
    if left := [*cloud.left(), *swept.get("left", ()), *swept.get("bug", "").splitlines()]:
        cloud.wipe()
        return f"{what}gc left {left}"
    return ""


def calls_of(clients: Clients, launch: str) -> list[tuple[str, int]]:
    """Return the calls of a clean run."""
    nodes, more = LAUNCHES[launch]
    answer = clients.run(do="live", nodes=nodes, more=more)
    assert "error" not in answer, answer
    assert "bug" not in answer, answer["bug"]
    return [(name, number) for name, number in answer["cases"]]


def test_leak_checker_sees_what_was_planted(agents: Cloud) -> None:
    """The check that everything below relies on reports each kind of thing that could be left."""
    ec2, s3 = agents.client("ec2"), agents.client("s3")
    image = ec2.describe_images(Owners=["amazon"])["Images"][0]["ImageId"]
    group = ec2.create_security_group(GroupName="planted", Description="planted")["GroupId"]
    ec2.create_volume(AvailabilityZone="eu-central-1a", Size=8)
    ec2.create_network_interface(SubnetId=ec2.describe_subnets()["Subnets"][0]["SubnetId"])
    data = "put https://127.0.0.1:1/x report 'If-None-Match: *'\nnonce=1"
    ec2.run_instances(ImageId=image, MinCount=1, MaxCount=1, SecurityGroupIds=[group], UserData=data)
    s3.put_object(Bucket=BUCKET, Key="skyward/planted/x", Body=b"x")
    kinds = {line.split()[0] for line in agents.left()}
    agents.wipe()
    assert kinds == {"instance", "volume", "interface", "group", "object"}
    assert agents.left() == []


@pytest.mark.rule("T12")
@pytest.mark.rule("F45")
@pytest.mark.rule("F46")
def test_nothing_is_left_after_a_failure(agents: Cloud, clients: Clients, elsewhere: Clients) -> None:
    """A change that fails after it was done, or whose client is killed then, leaves nothing once gc has looked."""
    cases = [(name, number) for name, number in calls_of(clients, "one") if name in COSTLY and number == 0]
    assert {name for name, _ in cases} == COSTLY
    wrong = [check(agents, clients, elsewhere, "one", *case, mode) for case in cases for mode in ("after", "kill")]
    assert not [line for line in wrong if line]


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.rule("T12")
@pytest.mark.parametrize("launch", LAUNCHES)
def test_nothing_is_left_after_any_failure(agents: Cloud, clients: Clients, elsewhere: Clients, launch: str) -> None:
    """The same for every call of launches of one node, of four, and of a spot instance."""
    cases = calls_of(clients, launch)
    wrong = [check(agents, clients, elsewhere, launch, *case, mode) for case in cases for mode in MODES]
    print(f"{launch}: {len(cases)} calls of {sorted({name for name, _ in cases})} × {len(MODES)}")
    assert not [line for line in wrong if line]


@pytest.mark.rule("F46")
def test_gc_spares_the_living(agents: Cloud) -> None:
    """What belongs to a pool whose client lives is kept, unless it is named."""
    made = scenario.provider(agents.session())
    try:
        made.prepare()
        launched = made.launch(scenario.SPEC, 0, threading.Event())
        swept = sweep(agents.session(), bucket=BUCKET)
        assert f"instance {launched.ident}" in swept.kept
        assert not swept.removed
        planned = sweep(agents.session(), pool=made.owner.pool, dry_run=True)
        assert f"instance {launched.ident}" in planned.removed
        assert any(launched.ident in line for line in agents.left())
        assert not sweep(agents.session(), pool=made.owner.pool).left
        assert agents.left() == []
    finally:
        made.close()


@pytest.mark.rule("F45")
@pytest.mark.parametrize("operation", ["RunInstances", "PutObject", "CreateSecurityGroup"])
def test_endless_throttling_is_an_error(agents: Cloud, operation: str) -> None:
    """AWS that takes no calls of a kind any more ends the launch, with the call's name and an advice."""
    faults = Faults(operation, 0, "throttle", always=True)
    with pytest.raises(sky.ProvisionError, match=rf":{operation} failed: .*try again in a minute"):
        scenario.live(scenario.provider(agents.session(faults)), 1)
