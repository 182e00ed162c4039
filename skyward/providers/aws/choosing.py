"""Which instance type: by its name, or the smallest that has what was asked for.

Nothing here knows prices, which change by the hour for spot instances. Within a family they follow CPUs, memory and
accelerators, so the smallest machine that will do is the cheapest or close to it.

PURE: what EC2 says about its types goes in, one of them comes out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from skyward.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from skyward.providers.aws.settings import Architecture, Settings

MIB_PER_GB: Final = 1024  # AWS says GiB, and everybody calls them GB
NEAREST: Final = 3  # types that an error names
_GENERATION: Final = re.compile(r"[a-z-]+(\d+)")


@dataclass(frozen=True, slots=True)
class Machine:
    """An instance type."""

    name: str
    vcpus: int
    memory: int  # MiB
    architectures: tuple[str, ...]
    accelerators: tuple[tuple[str, int], ...] = ()  # name, count
    burstable: bool = False  # its CPUs are its own for a part of the time only
    current: bool = True
    markets: tuple[str, ...] = ("on-demand", "spot")
    bare: bool = False

    @classmethod
    def of(cls, said: Mapping[str, Any]) -> Machine:
        """Return what ``DescribeInstanceTypes`` says about a type."""
        chips = [
            *said.get("GpuInfo", {}).get("Gpus", []),
            *said.get("InferenceAcceleratorInfo", {}).get("Accelerators", []),
            *said.get("NeuronInfo", {}).get("NeuronDevices", []),
        ]
        return cls(
            name=said["InstanceType"],
            vcpus=int(said.get("VCpuInfo", {}).get("DefaultVCpus", 0)),
            memory=int(said.get("MemoryInfo", {}).get("SizeInMiB", 0)),
            architectures=tuple(said.get("ProcessorInfo", {}).get("SupportedArchitectures", ())),
            accelerators=tuple((str(chip.get("Name", "")), int(chip.get("Count", 1))) for chip in chips),
            burstable=bool(said.get("BurstablePerformanceSupported", False)),
            current=bool(said.get("CurrentGeneration", True)),
            markets=tuple(said.get("SupportedUsageClasses", ("on-demand", "spot"))),
            bare=bool(said.get("BareMetal", False)),
        )

    @property
    def chips(self) -> int:
        """Return how many accelerators it has."""
        return sum(count for _, count in self.accelerators)

    def architecture(self, wanted: Architecture | None) -> str:
        """Return the architecture that it will run as; raises `ConfigError`."""
        known = [name for name in ("x86_64", "arm64") if name in self.architectures]
        if wanted is None and known:
            return known[0]
        if wanted in known:
            return str(wanted)
        has = " and ".join(self.architectures) or "no known architecture"
        raise ConfigError(
            f"instance type {self.name} is {has}, and architecture={wanted or 'x86_64'!r} was asked for: "
            "leave out architecture=, or take another instance_type"
        )


def choose(machines: Iterable[Machine], settings: Settings) -> Machine:
    """Return the smallest machine that will do; raises `ConfigError` that names the nearest ones."""
    candidates = [machine for machine in machines if _is_ordinary(machine, settings)]
    fitting = [machine for machine in candidates if _fits(machine, settings)]
    if not fitting:
        raise ConfigError(f"no instance type of this region has {_wish(settings)}{_nearest(candidates, settings)}")
    return min(fitting, key=_rank)


def _is_ordinary(machine: Machine, settings: Settings) -> bool:
    market = "spot" if settings.allocation == "spot" else "on-demand"
    return (
        machine.current
        and not machine.bare
        and market in machine.markets
        and (settings.architecture or "x86_64") in machine.architectures
        and bool(machine.accelerators) == (settings.accelerator is not None)
    )


def _fits(machine: Machine, settings: Settings) -> bool:
    if machine.vcpus < (settings.vcpus or 0) or machine.memory < (settings.memory_gb or 0) * MIB_PER_GB:
        return False
    if settings.accelerator is None:
        return True
    name, _, count = settings.accelerator.partition(":")
    return any(chip.lower() == name.lower() and number >= int(count or 1) for chip, number in machine.accelerators)


def _rank(machine: Machine) -> tuple[Any, ...]:
    """Order by size; of the same size the one whose CPUs are always there, and the newest."""
    generation = _GENERATION.match(machine.name)
    newest = -int(generation[1]) if generation else 0
    return machine.chips, machine.burstable, machine.vcpus, machine.memory, newest, machine.name


def _wish(settings: Settings) -> str:
    wishes = [
        f"{name}={value!r}" for name in ("vcpus", "memory_gb", "accelerator") if (value := getattr(settings, name))
    ]
    wishes.append(f"architecture={settings.architecture or 'x86_64'!r}")
    return ", ".join(wishes)


def _nearest(candidates: list[Machine], settings: Settings) -> str:
    if settings.accelerator is not None:
        names = sorted({chip for machine in candidates for chip, _ in machine.accelerators})
        return f"; accelerators here are {', '.join(names)}" if names else "; it has no accelerators"
    largest = sorted(candidates, key=lambda machine: (machine.memory, machine.vcpus))[-NEAREST:]
    said = [f"{machine.name} ({machine.vcpus} vcpus, {machine.memory / MIB_PER_GB:g} GB)" for machine in largest]
    return f"; the largest are {', '.join(said)}" if said else ""
