"""What errors of AWS mean."""

from __future__ import annotations

import pytest

import skyward as sky
from skyward.providers.aws.failures import ADVICE, CallFailed, Kind, kind_of, public


@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [
        ("InsufficientInstanceCapacity", 500, Kind.CAPACITY),
        ("Server.InsufficientInstanceCapacity", 0, Kind.CAPACITY),
        ("VcpuLimitExceeded", 400, Kind.QUOTA),
        ("MaxSpotInstanceCountExceeded", 400, Kind.QUOTA),
        ("UnauthorizedOperation", 403, Kind.ACCESS),
        ("AccessDenied", 403, Kind.ACCESS),
        ("SomethingNew", 403, Kind.ACCESS),
        ("ExpiredToken", 400, Kind.CREDENTIALS),
        ("AuthFailure", 401, Kind.CREDENTIALS),
        ("RequestLimitExceeded", 503, Kind.THROTTLED),
        ("InvalidInstanceID.NotFound", 400, Kind.ABSENT),
        ("InvalidGroup.NotFound", 400, Kind.ABSENT),
        ("NoSuchKey", 404, Kind.ABSENT),
        ("DependencyViolation", 400, Kind.BUSY),
        ("InvalidInstanceType", 400, Kind.TYPE),
        ("InternalError", 500, Kind.UNSURE),
        ("SomethingNew", 503, Kind.UNSURE),
        ("InvalidParameterValue", 400, Kind.OTHER),
    ],
)
def test_codes_are_told_apart(code: str, status: int, kind: Kind) -> None:
    """Capacity, quota, permission, credentials, throttling and doubt are different things."""
    assert kind_of(code, status) is kind


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        (Kind.CAPACITY, sky.CapacityError),
        (Kind.QUOTA, sky.QuotaError),
        (Kind.ACCESS, sky.AccessError),
        (Kind.CREDENTIALS, sky.AccessError),
        (Kind.TYPE, sky.ConfigError),
        (Kind.REGION, sky.ConfigError),
        (Kind.OTHER, sky.ProvisionError),
    ],
)
def test_error_names_the_call_and_says_what_to_do(kind: Kind, error: type[Exception]) -> None:
    """Each kind has its class and its advice; the call, the code and AWS's words are in the text."""
    found = public(CallFailed("ec2:RunInstances", kind, "Code", "their words"), got=1, wanted=3)
    assert type(found) is error
    for part in ("ec2:RunInstances failed", "Code: their words", ADVICE[kind]):
        assert part in str(found)


def test_capacity_says_how_many_there_were() -> None:
    """The error of a pool that is too small has both numbers."""
    found = public(CallFailed("ec2:RunInstances", Kind.CAPACITY, "Code", ""), got=1, wanted=3)
    assert isinstance(found, sky.CapacityError)
    assert (found.got, found.wanted) == (1, 3)
    assert str(found).startswith("got 1 of 3 nodes: ec2:RunInstances failed")


def test_unreadable_part_is_left_out() -> None:
    """AWS adds a kilobyte of base64 to refusals; nobody can read it."""
    said = "You are not authorized. Encoded authorization failure message: " + "abcDEF-_" * 100
    text = str(CallFailed("ec2:RunInstances", Kind.ACCESS, "UnauthorizedOperation", said))
    assert "You are not authorized." in text
    assert "Encoded" not in text
