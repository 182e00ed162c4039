"""Nothing is left in the cloud, whatever fails, and whenever (T12). The calls come from a clean run, not from a list.

The short form lets the calls fail that make or end what costs something, in the worst ways; the long form every call of
three kinds of pools, in all ways.
"""

from __future__ import annotations

import itertools
import threading
import time
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
    from pathlib import Path

    from tests.aws.clouds import Cloud

LAUNCHES: Final[dict[str, tuple[int, dict[str, Any]]]] = {
    "one": (1, {}),
    "four": (4, {}),
    "spot": (1, {"allocation": "spot"}),
    "ssh": (1, {"bucket": None}),
}
TRIES: Final = 5  # of a case whose call did not come
MISSED: Final = 0.05  # of all cases: how many may not come to their call
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
) -> tuple[bool, str]:
    """Let one call of one launch fail in one way; return whether it came to that, and what is wrong, or nothing."""
    nodes, more = LAUNCHES[launch]
    what = f"{launch}: {operation} {number} {mode}: "
    answer = clients.run(do="live", nodes=nodes, more=more, fault=[operation, number, mode])
    happened = bool(answer["signal"] == 9 if mode == "kill" else answer.get("happened"))
    if "bug" in answer:
        return happened, f"{what}{answer['bug']}"
    if mode != "kill" and (left := cloud.left()):
        cloud.wipe()
        return happened, f"{what}left {left} ({answer})"
    swept = elsewhere.run(do="sweep")
    if left := [*cloud.left(), *swept.get("left", ()), *swept.get("bug", "").splitlines()]:
        cloud.wipe()
        return happened, f"{what}gc left {left}"
    return happened, ""


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
    found = [check(agents, clients, elsewhere, "one", *case, mode) for case in cases for mode in ("after", "kill")]
    assert found == [(True, "")] * len(found)


def check_all(cloud: Cloud, clients: Clients, elsewhere: Clients, launch: str) -> None:
    """Let every call of a launch fail in every way; say how it went.

    How often something is looked for differs from run to run, so the last calls of a kind may not come to it: such a
    case is run again.
    """
    began = time.monotonic()
    cases = calls_of(clients, launch)
    missed, wrong, runs = [], [], 0
    for (operation, number), mode in itertools.product(cases, MODES):
        for _ in range(TRIES):
            happened, error = check(cloud, clients, elsewhere, launch, operation, number, mode)
            runs += 1
            wrong += [error] if error else []
            cloud.forget()
            if happened or error:
                break
        else:
            missed.append((operation, number, mode))
    print(
        f"\n{launch}: {len(cases)} calls of {len({name for name, _ in cases})} operations × {len(MODES)} modes: "
        f"{len(cases) * len(MODES) - len(missed)} failures in {runs} runs and {time.monotonic() - began:.0f} s, "
        f"{len(wrong)} left something; it did not come to {missed}"
    )
    assert not wrong
    assert all(number for _, number, _ in missed)  # each operation failed in each way
    assert len(missed) <= len(cases) * len(MODES) * MISSED


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.rule("T12")
@pytest.mark.parametrize("launch", ["one", "four", "spot"])
def test_nothing_is_left_after_any_failure(agents: Cloud, clients: Clients, elsewhere: Clients, launch: str) -> None:
    """The same for every call of launches of one node, of four, and of a spot instance."""
    check_all(agents, clients, elsewhere, launch)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.rule("T12")
def test_nothing_is_left_after_any_failure_without_a_bucket(machines: Cloud, tmp_path: Path) -> None:
    """The same for a launch whose code goes by SSH to a machine that is really started."""
    (tmp_path / "here").mkdir()
    clients, elsewhere = (
        Clients(machines.url, tmp_path / "here"),
        Clients(machines.url, tmp_path / "there", elsewhere=True),
    )
    try:
        check_all(machines, clients, elsewhere, "ssh")
    finally:
        clients.close()
        elsewhere.close()


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
