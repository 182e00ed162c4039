"""What a node has to have, and where it comes from: from here, as it is installed, or from an index.

The daemon's own dependencies come from here in any case, and so does whatever of an image is installed here and is
what the image wants. The rest is left to the node's package index. Nobody is ever asked for a package named like us:
that name belongs to another project there.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from typing import TYPE_CHECKING, Final

from skyward.errors import PackageError, ProvisionError
from skyward.providers import wheels

if TYPE_CHECKING:
    from collections.abc import Iterable

    from packaging.requirements import Requirement

    from skyward.providers.platforms import Platform

# Of what pyproject.toml requires all but rich, which draws on a client's terminal alone.
DAEMON: Final = ("click", "cloudpickle", "msgspec", "packaging", "pyzmq", "structlog")
US: Final = "skyward"


@dataclass(slots=True)
class Needs:
    """What was found out."""

    here: dict[str, Distribution] = field(default_factory=dict[str, Distribution])  # by normalized name
    index: list[str] = field(default_factory=list[str])  # requirements

    def pins(self) -> list[str]:
        """Return the exact versions of what comes from here."""
        return sorted(f"{name}=={found.version}" for name, found in self.here.items())


def of(pip: Iterable[str], platform: Platform) -> Needs:
    """Return what the daemon and an image with these requirements need; raises `ProvisionError`."""
    from packaging.requirements import Requirement

    needs = Needs()
    variables = {"platform_machine": platform.machine, "sys_platform": "linux", "platform_system": platform.system}
    for name in DAEMON:
        if not _take(Requirement(name), variables, needs.here):
            raise ProvisionError(f"{name} is not installed here as a package, and nodes need it: pip install {name}")
    for text in pip:
        wanted = Requirement(text)
        if wheels.normalized(wanted.name) == US:
            continue  # what is imported here travels
        more = dict(needs.here)
        if wanted.url is None and _take(wanted, variables, more):
            needs.here = more
        else:
            needs.index.append(text)
    return needs


def _take(wanted: Requirement, variables: dict[str, str], found: dict[str, Distribution]) -> bool:
    """Add what meets a requirement, and all that this needs in turn; return whether all of it is here."""
    waiting = [(wanted, frozenset(wanted.extras))]
    seen: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        requirement, extras = waiting.pop()
        name = wheels.normalized(requirement.name)
        if name == US or (name, extras) in seen:
            continue
        seen.add((name, extras))
        here = _installed(requirement)
        if here is None:
            return False
        found[name] = here
        waiting += [(each, frozenset(each.extras)) for each in _wanted_by(here, extras, variables)]
    return True


def _installed(wanted: Requirement) -> Distribution | None:
    try:
        found = distribution(wanted.name)
    except PackageNotFoundError:
        return None
    if wheels.is_own_source(found):
        # An index may have another project of that name.
        raise PackageError(
            f"{wanted.name} is installed from your own source tree and cannot be installed elsewhere by its name: "
            "leave it out of pip, as modules of your functions travel by themselves; or name it in includes"
        )
    return found if wanted.specifier.contains(found.version, prereleases=True) else None


def _wanted_by(found: Distribution, extras: Iterable[str], variables: dict[str, str]) -> list[Requirement]:
    from packaging.requirements import Requirement

    chosen: list[Requirement] = []
    for text in found.requires or ():
        each = Requirement(text)
        marker = each.marker
        if marker is None or any(marker.evaluate({**variables, "extra": extra}) for extra in ("", *extras)):
            chosen.append(each)
    return chosen
