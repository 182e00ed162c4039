"""Whose resources nobody wants any more: read from tags alone.

A pool's client says every five minutes that it lives (`ALIVE`), on its group or in its folder. A pool whose client
has not for fifteen is garbage. A mesh, which outlives its clients, is garbage only when somebody says so by name.

PURE: what is there, and the time, go in.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from skyward.model import counted
from skyward.providers.aws import tags

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

BEAT: Final = 300.0  # seconds between signs of life of a client: few enough not to be noticed
IDLE: Final = 3 * BEAT  # seconds without one, after which a pool is garbage


@dataclass(slots=True)
class Belongings:
    """What belongs to one pool."""

    pool: str
    mesh: str = ""
    alive: float = 0.0  # the last sign of life, in seconds of the epoch
    persist: bool = False
    buckets: set[str] = field(default_factory=set[str])
    instances: list[str] = field(default_factory=list[str])
    volumes: list[str] = field(default_factory=list[str])
    interfaces: list[str] = field(default_factory=list[str])
    groups: list[str] = field(default_factory=list[str])
    objects: int = 0

    def note(self, marks: Mapping[str, str]) -> None:
        """Take in the tags of one resource."""
        self.mesh = self.mesh or marks.get(tags.MESH, "")
        self.alive = max(self.alive, tags.seconds(marks, tags.ALIVE), tags.seconds(marks, tags.CREATED))
        self.persist = self.persist or marks.get(tags.PERSIST) == "yes"
        if bucket := marks.get(tags.BUCKET):
            self.buckets.add(bucket)

    def is_garbage(self, now: float, idle: float = IDLE) -> bool:
        """Return whether nobody wants it any more."""
        return not self.persist and now - self.alive >= idle

    def lines(self) -> list[str]:
        """Return what there is, one line for each thing."""
        found = [
            f"{kind} {name}"
            for kind, names in (
                ("instance", self.instances),
                ("volume", self.volumes),
                ("network interface", self.interfaces),
                ("security group", self.groups),
            )
            for name in names
        ]
        if self.objects:
            objects = counted(self.objects, "object")
            found += [f"{objects} in s3://{bucket}/{tags.FOLDER}/{self.pool}/" for bucket in self.buckets]
        return found


def sort(kinds: Mapping[str, Iterable[tuple[str, Mapping[str, str]]]]) -> dict[str, Belongings]:
    """Return what belongs to each pool, by its id. ``kinds``: for each list of `Belongings`, names and their tags."""
    found: dict[str, Belongings] = {}
    for kind, resources in kinds.items():
        for name, marks in resources:
            if pool := marks.get(tags.POOL):
                belongings = found.setdefault(pool, Belongings(pool))
                belongings.note(marks)
                getattr(belongings, kind).append(name)
    return found


def count_objects(found: dict[str, Belongings], bucket: str, objects: Iterable[Mapping[str, Any]]) -> None:
    """Add the objects of a bucket to the pools in whose folders they are."""
    for entry in objects:
        pool = str(entry["Key"]).removeprefix(f"{tags.FOLDER}/").partition("/")[0]
        belongings = found.setdefault(pool, Belongings(pool))
        belongings.buckets.add(bucket)
        belongings.objects += 1
        if (written := entry.get("LastModified")) is not None:
            belongings.alive = max(belongings.alive, float(written.timestamp()))
