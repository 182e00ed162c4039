"""Teardown from tags alone: by whoever holds credentials, on any machine, as often as he likes.

The order is what makes it safe to be cut off anywhere: instances first, as they cost most, then what they may have
left, then objects, and last the group, whose tags say where everything else is.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from skyward.providers.aws import failures, garbage, instances, network, storage, tags
from skyward.providers.aws.api import Api, new_session, region_of
from skyward.providers.aws.failures import CallFailed, Kind

if TYPE_CHECKING:
    from collections.abc import Collection, Generator, Iterable, Iterator

    from skyward.providers.aws.garbage import Belongings

DETACHED: Final = "available"  # state of a volume or an interface that nothing uses


@dataclass(frozen=True, slots=True)
class Swept:
    """What a sweep did. One line for each resource."""

    removed: tuple[str, ...] = ()  # with ``dry_run``: what would be
    kept: tuple[str, ...] = ()  # of pools that are alive, or of meshes that were not named
    left: tuple[str, ...] = ()  # what should be gone, and is not, with the reason


def sweep(
    session: Any = None,
    *,
    region: str | None = None,
    pool: str = "",
    mesh: str = "",
    bucket: str = "",
    idle: float = garbage.IDLE,
    gone: Collection[str] = (),
    dry_run: bool = False,
) -> Swept:
    """Remove what belongs to a pool or a mesh; without a name, what belongs to pools whose clients are dead.

    ``idle``: seconds without a sign of life after which a client counts as dead. ``gone``: pools whose clients are
    known to be dead. ``bucket``: look there, too, for objects of pools that have nothing else left. Raises
    `AccessError`, `ConfigError`, `ProvisionError`.
    """
    with _looking(session, region) as api:
        return _swept(api, pool=pool, mesh=mesh, bucket=bucket, idle=idle, gone=gone, dry_run=dry_run)


@contextmanager
def _looking(session: Any, region: str | None) -> Generator[Api]:
    """Call a region, and let nothing out but errors of ours."""
    session = new_session(session)
    api = Api(session, region_of(session, region))
    try:
        yield api
    except CallFailed as failure:
        raise failures.public(failure) from failure
    finally:
        api.close()


def _swept(api: Api, *, pool: str, mesh: str, bucket: str, idle: float, gone: Collection[str], dry_run: bool) -> Swept:
    found = belongings(api, tags.filters(pool, mesh), [bucket] if bucket else [], pool=pool)
    named = bool(pool or mesh)
    if mesh:  # objects know their pool alone
        found = {name: each for name, each in found.items() if each.mesh == mesh}
    now = time.time()
    removed: list[str] = []
    kept: list[str] = []
    left: list[str] = []
    for each in found.values():
        if not named and not each.is_garbage(now, 0.0 if each.pool in gone else idle):
            kept += each.lines()
            continue
        removed += each.lines()
        if not dry_run:
            try:
                teardown(api, each)
            except CallFailed as failure:
                left.append(f"pool {each.pool}: {failure}")
    return Swept(tuple(removed), tuple(kept), tuple(left))


def end_others(
    session: Any = None, *, region: str | None = None, mesh: str, keep: Collection[str], dry_run: bool = False
) -> tuple[str, ...]:
    """End the instances of a mesh but for some, with what goes with them; return a line for each. Raises as `sweep`."""
    with _looking(session, region) as api:
        there = [str(each["InstanceId"]) for each in instances.find(api, tags.filters("", mesh))]
        others = sorted(set(there).difference(keep))
        if not dry_run:
            instances.end(api, others)
    return tuple(f"instance {name} of mesh {mesh}" for name in others)


def belongings(
    api: Api, filters: list[dict[str, Any]], buckets: Iterable[str] = (), *, pool: str = ""
) -> dict[str, Belongings]:
    """Return what is there, by pool; raises `CallFailed`."""
    found = garbage.sort(
        {
            "instances": _tagged(instances.find(api, filters), "InstanceId"),
            "groups": _tagged(network.groups(api, filters), "GroupId"),
            **_loose(api, filters),
        }
    )
    places = {(name, f"{tags.FOLDER}/{each.pool}/") for each in found.values() for name in each.buckets}
    places |= {(name, f"{tags.FOLDER}/{pool}/" if pool else f"{tags.FOLDER}/") for name in buckets}
    for bucket, folder in sorted(places):
        if not any((bucket, wider) in places and folder.startswith(wider) and folder != wider for _, wider in places):
            garbage.count_objects(found, bucket, storage.keys(api, bucket, folder))
    return found


def _tagged(said: Iterable[dict[str, Any]], key: str) -> Iterator[tuple[str, dict[str, str]]]:
    for each in said:
        yield str(each[key]), tags.read(each.get("Tags") or each.get("TagSet"))


def _loose(api: Api, filters: list[dict[str, Any]]) -> dict[str, Iterator[tuple[str, dict[str, str]]]]:
    """Return what no instance uses any more: the rest goes with its instance."""
    wanted = [*filters, {"Name": "status", "Values": [DETACHED]}]
    volumes = api.pages("ec2", "describe_volumes", "Volumes", Filters=wanted)
    interfaces = api.pages("ec2", "describe_network_interfaces", "NetworkInterfaces", Filters=wanted)
    return {"volumes": _tagged(volumes, "VolumeId"), "interfaces": _tagged(interfaces, "NetworkInterfaceId")}


def teardown(api: Api, each: Belongings) -> None:
    """Remove all that belongs to a pool, and look whether it is gone; raises `CallFailed`."""
    instances.end(api, each.instances)
    wanted = tags.filters(each.pool)
    if left := instances.await_gone(api, wanted):
        raise CallFailed("ec2:TerminateInstances", Kind.UNSURE, "StillThere", f"{', '.join(left)} still there")
    # Looked at only now: an instance may have left some.
    for loose in garbage.sort(_loose(api, wanted)).values():
        for volume in loose.volumes:
            _remove(api, "delete_volume", VolumeId=volume)
        for interface in loose.interfaces:
            _remove(api, "delete_network_interface", NetworkInterfaceId=interface)
    for bucket in sorted(each.buckets):
        storage.remove(api, bucket, f"{tags.FOLDER}/{each.pool}/")
    for group in each.groups:
        network.remove_group(api, group)


def _remove(api: Api, method: str, **arguments: str) -> None:
    for again in (True, False):
        try:
            api.write("ec2", method, **arguments)
        except CallFailed as failure:
            if failure.kind is Kind.ABSENT:
                return
            if not again or failure.kind is not Kind.UNSURE:
                raise
