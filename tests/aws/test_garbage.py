"""Whose resources nobody wants any more."""

from __future__ import annotations

from datetime import UTC, datetime

from skyward.providers.aws.garbage import IDLE, Belongings, count_objects, sort
from skyward.providers.aws.tags import Owner, filters, read

NOW = 1_000_000.0


def marks(pool: str = "p1", at: float = NOW) -> dict[str, str]:
    """Return the tags of a resource."""
    return read(Owner(pool=pool, bucket="mine").tags(at))


def test_resources_are_sorted_by_pool() -> None:
    """Tags alone say what belongs together, and where its objects are."""
    found = sort({"instances": [("i-1", marks()), ("i-2", marks("p2")), ("i-3", {})], "groups": [("sg-1", marks())]})
    assert found["p1"] == Belongings("p1", alive=NOW, buckets={"mine"}, instances=["i-1"], groups=["sg-1"])
    assert found["p2"].instances == ["i-2"]
    assert set(found) == {"p1", "p2"}


def test_pool_whose_client_is_silent_is_garbage() -> None:
    """The youngest sign of life counts, of whichever resource."""
    pool = sort({"instances": [("i-1", marks(at=NOW - 5000))], "groups": [("sg-1", marks(at=NOW))]})["p1"]
    assert not pool.is_garbage(NOW + IDLE - 1)
    assert pool.is_garbage(NOW + IDLE)


def test_mesh_is_never_garbage_by_itself() -> None:
    """What persists has no client most of the time."""
    pool = sort({"instances": [("i-1", marks() | {"skyward:persist": "yes"})]})["p1"]
    assert not pool.is_garbage(NOW * 10)


def test_objects_tell_of_pools_that_have_nothing_else() -> None:
    """A client that died before it had an instance has left an object; its age is the sign of life."""
    found: dict[str, Belongings] = {}
    written = datetime.fromtimestamp(NOW, UTC)
    count_objects(found, "mine", [{"Key": "skyward/p9/bundle.tar", "LastModified": written}])
    assert found["p9"] == Belongings("p9", alive=NOW, buckets={"mine"}, objects=1)
    assert found["p9"].lines() == ["1 object in s3://mine/skyward/p9/"]


def test_filter_names_what_is_meant() -> None:
    """One pool, one mesh, one launch, or all that is ours."""
    assert filters(pool="p1") == [{"Name": "tag:skyward:pool", "Values": ["p1"]}]
    assert filters(mesh="m") == [{"Name": "tag:skyward:mesh", "Values": ["m"]}]
    assert filters() == [{"Name": "tag-key", "Values": ["skyward:pool"]}]
