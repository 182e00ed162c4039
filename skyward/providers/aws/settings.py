"""What a user says about the machines he wants: checked when it is said, before anything is paid for.

PURE: no calls, no clock.
"""

from __future__ import annotations

import difflib
import ipaddress
import re
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar, cast, get_args

from skyward.config import check_number
from skyward.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

Allocation = Literal["spot", "on-demand", "spot-if-available"]
Architecture = Literal["x86_64", "arm64"]

T = TypeVar("T")

WORLD: Final = "the whole world"  # in words, as nobody opens a port to everyone by a slip
EVERYONE: Final = "0.0.0.0/0"
USUAL_TYPE: Final[dict[str, str]] = {"x86_64": "m6i.large", "arm64": "m6g.large"}  # 2 CPUs, 8 GiB, in every region
LONGEST_LIFE: Final = 30 * 86_400.0  # seconds: longer is no limit that anybody wanted
LEAST_LIFE: Final = 600.0  # seconds: less than this a slow boot could take
_REGION: Final = re.compile(r"[a-z]{2,4}(-[a-z]+)+-\d+")
_TYPE: Final = re.compile(r"[a-z][a-z0-9-]*\.[a-z0-9-]+")
_ACCELERATOR: Final = re.compile(r"[A-Za-z0-9-]+(:[1-9]\d?)?")
_BUCKET: Final = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All arguments of `AWS` but the session; see there. Times are seconds."""

    region: str | None = None
    instance_type: str | None = None
    vcpus: int | None = None
    memory_gb: float | None = None
    accelerator: str | None = None
    architecture: Architecture | None = None
    allocation: Allocation = "on-demand"
    ami: str | None = None
    subnet: tuple[str, ...] = ()
    security_group: str | None = None
    bucket: str | None = None
    allow: str | None = None
    disk_gb: int = 20
    max_life: float = 86_400.0

    def __post_init__(self) -> None:
        for name in _TEXTS:
            value = getattr(self, name)
            if value is not None and (not isinstance(value, str) or not value.strip()):
                raise TypeError(f"{name} must be a string, got {value!r}")
        self._check_machine()
        _one_of("allocation", self.allocation, get_args(Allocation))
        if self.architecture is not None:
            _one_of("architecture", self.architecture, get_args(Architecture))
        if self.region is not None and not _REGION.fullmatch(self.region):
            raise ConfigError(f'region must be the name of an AWS region, such as "eu-central-1", got {self.region!r}')
        if self.bucket is not None and not _BUCKET.fullmatch(self.bucket):
            raise ConfigError(f"bucket must be the name of an S3 bucket, without s3:// and path, got {self.bucket!r}")
        object.__setattr__(self, "allow", _network(self.allow))
        self._check_number("disk_gb", 8, 16_384)
        self._check_number("max_life", LEAST_LIFE, LONGEST_LIFE)

    def _check_machine(self) -> None:
        wishes = [name for name in ("vcpus", "memory_gb", "accelerator") if getattr(self, name) is not None]
        if self.instance_type is not None and wishes:
            raise ConfigError(f"instance_type says it all: leave out {', '.join(wishes)}, or instance_type")
        if self.instance_type is not None and not _TYPE.fullmatch(self.instance_type):
            raise ConfigError(f'instance_type must be a name such as "m6i.large", got {self.instance_type!r}')
        if self.vcpus is not None:
            self._check_number("vcpus", 1, 1024)
        if self.memory_gb is not None:
            self._check_number("memory_gb", 0.5, 65_536)
        if self.accelerator is not None and not _ACCELERATOR.fullmatch(self.accelerator):
            raise ConfigError(f'accelerator must be a name such as "T4", or "T4:4" for four, got {self.accelerator!r}')

    def _check_number(self, name: str, least: float, most: float) -> None:
        value = check_number(name, getattr(self, name))
        if not least <= value <= most:
            raise ConfigError(f"{name} must be between {least:g} and {most:g}, got {value!r}")
        object.__setattr__(self, name, value)

    def said(self) -> dict[str, Any]:
        """Return what is not as it is by default, as it is said."""
        said = {name: getattr(self, name) for name in self.__dataclass_fields__}
        if self.allow == EVERYONE:
            said["allow"] = WORLD
        return {name: value for name, value in said.items() if value != getattr(_DEFAULT, name)}

    def maker(self, kind: Callable[..., T], session: Any) -> partial[T]:
        """Return what makes an `AWS` of these settings."""
        return partial(kind, **self.said(), session=session)

    @property
    def named_type(self) -> str | None:
        """Return the name of the instance type, if it is not to be chosen by what it has."""
        if self.instance_type is None and self.vcpus is None and self.memory_gb is None and self.accelerator is None:
            return USUAL_TYPE[self.architecture or "x86_64"]
        return self.instance_type


_TEXTS: Final = (
    "region", "instance_type", "accelerator", "architecture", "ami", "security_group", "bucket", "allow",
)  # fmt: skip


def subnets(value: object) -> tuple[str, ...]:
    """Return one subnet, or a list of them, as a tuple."""
    several = isinstance(value, list | tuple)
    found = tuple(cast("list[object]", value)) if several else () if value is None else (value,)
    for entry in found:
        if not isinstance(entry, str) or not entry.startswith("subnet-"):
            raise ConfigError(f'subnet must be an id such as "subnet-0abc", or a list of them, got {entry!r}')
    return cast("tuple[str, ...]", found)


def _network(value: str | None) -> str | None:
    """Return the network that may reach the nodes; None: the caller's own address."""
    if value is None or value == WORLD:
        return value and EVERYONE
    try:
        network = ipaddress.ip_network(value, strict=False)
    except ValueError as error:
        raise ConfigError(f'allow must be a network such as "203.0.113.7/32", got {value!r}') from error
    if network.prefixlen == 0:
        raise ConfigError(f"allow={value!r} lets everyone reach your nodes: if you mean it, say allow={WORLD!r}")
    return str(network)


def _one_of(name: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        near = difflib.get_close_matches(str(value), choices, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ConfigError(f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}{hint}")


_DEFAULT: Final = Settings()
