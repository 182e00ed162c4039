"""Ending what nobody looks after: what commands and programs left that were killed, found by files and by marks."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from skyward.errors import MeshExistsError, ProvisionError, SkywardError, UnknownMeshError
from skyward.meshes import files, raising
from skyward.meshes.telling import Teller

if TYPE_CHECKING:
    from collections.abc import Sequence

    from skyward.meshes.files import Mesh
    from skyward.providers.base import Provider


def sweep(name: str, provider: Provider, teller: Teller | None = None) -> tuple[str, ...]:
    """End all that carries the mark of a mesh of which no file here makes sense; return a line for each thing."""
    with files.locked(name):
        lines = provider.sweep(name)
        files.remove(name)
    for line in lines:
        (teller or Teller()).say(f"ended {line}")
    return lines


def collect(providers: Sequence[Provider], teller: Teller | None = None, *, dry_run: bool = False) -> list[str]:
    """End what nobody looks after; return a line for each thing. Meshes that another command changes are left alone.

    That is: what is left of commands that were killed, and what carries the mark of a mesh of which there is no file.
    Raises `ProvisionError` if it could not look everywhere, after it has looked everywhere else.
    """
    teller = teller or Teller()
    gone: list[str] = []
    failures: list[str] = []
    for name in files.known():
        try:
            gone += _of_mesh(files.load(name), teller, dry_run=dry_run)
        except SkywardError as error:  # the others are ended all the same
            failures.append(f"mesh {name}: {error}")
    keep = files.known()
    for provider in providers:
        try:
            gone += provider.sweep(keep=keep, dry_run=dry_run)
        except SkywardError as error:  # the same
            failures.append(f"{provider!r}: {error}")
    if failures:
        for line in gone:
            teller.say(f"{'would end' if dry_run else 'ended'}: {line}")
        raise ProvisionError(
            "could not look everywhere, or end everything:\n" + "\n".join(f"  {each}" for each in failures)
        )
    return gone


def _of_mesh(mesh: Mesh, teller: Teller, *, dry_run: bool) -> Sequence[str]:
    """End what a command has left of a mesh that was killed: all of it, or if it was up what its file does not name."""
    if mesh.state == "up" or _is_busy(mesh.name):
        return ()
    try:
        if mesh.state == "growing":
            return _finish(mesh.name, dry_run=dry_run)
        if not dry_run:
            raising.down(mesh.name, teller, only=mesh.state)
    except (MeshExistsError, UnknownMeshError):  # another command has just begun to change it, or ended it
        return ()
    return [f"mesh {mesh.name}, which was {mesh.state} when its command was killed"]


def _finish(name: str, *, dry_run: bool) -> tuple[str, ...]:
    with files.locked(name):
        mesh = files.load(name)
        if mesh.state != "growing":  # another command has changed it meanwhile
            return ()
        provider = raising.provider_of(mesh)
        try:
            lines = raising.unnoted(provider, mesh, dry_run=dry_run)
        finally:
            provider.close()
        if not dry_run:
            files.write(replace(mesh, state="up"))
    return lines


def _is_busy(name: str) -> bool:
    try:
        with files.locked(name):
            return False
    except MeshExistsError:
        return True
