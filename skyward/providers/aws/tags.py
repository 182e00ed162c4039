"""What marks a resource as ours, and whose it is. Teardown needs nothing else.

Every resource carries its tags from the call that makes it: one that was made first and tagged afterwards would be
an orphan if we died in between.

PURE.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from skyward.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

POOL: Final = "skyward:pool"  # id of the pool or mesh; every resource has it
MESH: Final = "skyward:mesh"  # name of the mesh, if it has one
NODE: Final = "skyward:node"  # index of the launch
TOKEN: Final = "skyward:token"  # noqa: S105 - it names a request, and is no secret
CREATED: Final = "skyward:created"  # seconds of the epoch
ALIVE: Final = "skyward:alive"  # seconds of the epoch at which the client last said that it lives
BUCKET: Final = "skyward:bucket"  # where this pool keeps its objects
PERSIST: Final = "skyward:persist"  # "yes": it outlives its client
FOLDER: Final = "skyward"  # of all our objects in a bucket
_MESH: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """Whose resources they are. All clients of a mesh are one owner."""

    pool: str
    mesh: str = ""
    bucket: str = ""

    @property
    def folder(self) -> str:
        """Return where in the bucket the pool's objects are."""
        return f"{FOLDER}/{self.pool}/"

    def tags(self, now: float, **more: str) -> list[dict[str, str]]:
        """Return the tags of a new resource, as EC2 takes them."""
        found = {
            "Name": f"skyward {self.mesh or self.pool}",
            POOL: self.pool,
            CREATED: str(int(now)),
            ALIVE: str(int(now)),
        }
        if self.mesh:
            found |= {MESH: self.mesh, PERSIST: "yes"}
        if self.bucket:
            found[BUCKET] = self.bucket
        found |= more
        return [{"Key": key, "Value": value} for key, value in found.items()]


def specifications(kinds: Iterable[str], tags: list[dict[str, str]]) -> list[dict[str, Any]]:
    """Return ``TagSpecifications`` that give resources of these kinds the same tags."""
    return [{"ResourceType": kind, "Tags": tags} for kind in kinds]


def read(said: Iterable[Mapping[str, str]] | None) -> dict[str, str]:
    """Return EC2's list of tags as a dict."""
    return {tag["Key"]: tag["Value"] for tag in said or ()}


def seconds(tags: Mapping[str, str], name: str) -> float:
    """Return a moment that stands in a tag; 0 if it does not."""
    value = tags.get(name, "")
    return float(value) if value.isdecimal() else 0.0


def filters(pool: str = "", mesh: str = "", token: str = "") -> list[dict[str, Any]]:
    """Return EC2's filter for what belongs to a pool, a mesh or one launch; for all of ours if nothing is named."""
    named = [(f"tag:{POOL}", pool), (f"tag:{MESH}", mesh), (f"tag:{TOKEN}", token)]
    found: list[dict[str, Any]] = [{"Name": name, "Values": [value]} for name, value in named if value]
    return found or [{"Name": "tag-key", "Values": [POOL]}]


def check_mesh(name: str) -> str:
    """Return the name of a mesh if it can stand in a tag and in the name of a group; raises `ConfigError`."""
    if not _MESH.fullmatch(name):
        raise ConfigError(f"a mesh is named by letters, digits, '.', '_' and '-', 63 at most: got {name!r}")
    return name
