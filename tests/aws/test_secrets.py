"""No secret is where it does not belong (T19): canaries are looked for wherever something is written or can be read."""

from __future__ import annotations

import base64
import logging
import os
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import skyward as sky
from tests.aws import clouds, scenario
from tests.aws.faults import Faults
from tests.aws.work import has

if TYPE_CHECKING:
    from collections.abc import Iterator

    from skyward.transport.keys import KeyPair
    from tests.aws.clouds import Cloud

VALUE = "canary-of-the-image-7f3a"  # of a variable that workers are to have


def inside(cloud: Cloud) -> list[int]:
    """Return the processes of all machines, as this machine sees them."""
    boxes = [str(cloud.directory / each) for each in cloud.alive()]
    found: list[int] = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            mounts = Path(f"/proc/{pid}/mountinfo").read_text()
        except OSError:
            continue
        if any(f"{box}/" in mounts for box in boxes):
            found.append(int(pid))
    return found


def readable(cloud: Cloud, faults: Faults) -> Iterator[tuple[str, bytes]]:
    """Yield all that somebody could read, with a word about where it is."""
    ec2, s3 = cloud.client("ec2"), cloud.client("s3")
    for each in s3.list_objects_v2(Bucket=clouds.BUCKET).get("Contents", ()):
        yield f"object {each['Key']}", s3.get_object(Bucket=clouds.BUCKET, Key=each["Key"])["Body"].read()
    for name in cloud.alive():
        said = ec2.describe_instance_attribute(InstanceId=name, Attribute="userData")["UserData"]["Value"]
        yield f"user data of {name}", base64.b64decode(said)
        for file in (cloud.directory / name).rglob("*"):
            if file.is_file():
                yield f"file {file.name} of {name}", file.read_bytes()
    yield "descriptions", repr(ec2.describe_instances()).encode()
    for name, arguments in faults.arguments:
        yield f"arguments of {name}", repr({key: value for key, value in arguments.items() if key != "Body"}).encode()
    for pid in inside(cloud):
        try:
            yield f"argv of {pid}", Path(f"/proc/{pid}/cmdline").read_bytes()
            yield f"environment of {pid}", Path(f"/proc/{pid}/environ").read_bytes()
        except OSError:
            continue
    yield "argv of the client", Path("/proc/self/cmdline").read_bytes()


@pytest.mark.rule("T19")
def test_no_secret_is_where_it_does_not_belong(
    machines: Cloud,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """The secret half of the client's key, the account's, and values of the image are in no log, argv, object or call.

    Workers alone have the image's variables, in their environment, and whoever starts them; nobody has the others.
    """
    pairs: list[KeyPair] = []
    keys = sky.AWS.keys

    def remembered(self: sky.AWS) -> Any:
        pair = keys(self)
        assert pair is not None
        pairs.append(pair)
        return pair

    monkeypatch.setattr(sky.AWS, "keys", remembered)
    faults = Faults()
    caplog.set_level(logging.DEBUG)
    provider = scenario.provider(machines.session(faults))
    with sky.Compute(provider=provider, nodes=1, image=sky.Image(env={"CANARY": VALUE})) as pool:
        assert (has("CANARY") @ pool) == [True]
        secrets = {"client's key": pairs[0].secret, "account": clouds.SECRET, "image": VALUE}
        places = list(readable(machines, faults))
    printed = capfd.readouterr()
    places += [("printed", (printed.out + printed.err).encode()), ("logged", caplog.text.encode())]
    faults.refuse = lambda operation, _: "VcpuLimitExceeded" if operation == "RunInstances" else ""
    with pytest.raises(sky.QuotaError) as caught:
        provider = scenario.provider(machines.session(faults))
        sky.Compute(provider=provider, nodes=1, image=sky.Image(env={"CANARY": VALUE})).open()
    places.append(("traceback", "".join(traceback.format_exception(caught.value)).encode()))
    assert {place.split()[0] for place, _ in places} >= {"object", "user", "file", "argv", "environment", "traceback"}
    found = [
        f"{name} in {place}"
        for place, text in places
        for name, secret in secrets.items()
        for form in (secret.encode(), base64.b64encode(secret.encode()))
        if form in text and not (name == "image" and place.startswith("environment"))
    ]
    assert not found


def test_canary_would_be_found(machines: Cloud) -> None:
    """The search above is able to find something: what the user data does hold, the client's public key, is seen."""
    faults = Faults()
    with sky.Compute(provider=scenario.provider(machines.session(faults)), nodes=1, console=False) as pool:
        assert pool._engine is not None
        public = next(arguments for name, arguments in faults.arguments if name == "RunInstances")[
            "UserData"
        ].partition('"client_keys": ["')[2][:40]
        places = [place for place, text in readable(machines, faults) if public.encode() in text]
    assert any(place.startswith("user data") for place in places)
    assert "arguments of RunInstances" in places
