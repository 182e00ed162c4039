"""Everything that makes a machine a node, in one archive: a bundle.

    bootstrap.sh    see `skyward.providers.bootstrap`
    manifest.json   what is in `wheels`, by hash, and what an index has to be asked for
    lib.zip         the packages skyward and skyward_node, as they are imported here
    wheels/         what these and the image need: see `skyward.providers.needs`
    files/          what the image includes

The same content makes the same bytes, whose SHA-256 is the bundle's name: machines keep bundles by it. Values of an
image's ``env`` are in no bundle: they travel in a `NodeConfig`, as they may be secret.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
import zipfile
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final

from skyward.errors import ConfigError, ProvisionError
from skyward.providers import bootstrap, needs, wheels
from skyward.providers.platforms import Platform

if TYPE_CHECKING:
    from collections.abc import Iterator

    from skyward.image import Image
    from skyward.providers.needs import Needs

PACKAGES: Final = ("skyward", "skyward_node")
FORMAT: Final = 1  # of the manifest


@dataclass(frozen=True, slots=True)
class Bundle:
    """An archive, as ``tar`` has it, uncompressed: what is large in it is compressed already."""

    data: bytes = field(repr=False)
    sha256: str
    platform: Platform

    @property
    def name(self) -> str:
        """Return what to call the file."""
        return f"skyward-{self.sha256[:16]}.tar"


def make_bundle(image: Image, *, root: str, platform: Platform) -> Bundle:
    """Return the bundle of an image whose ``includes`` begin at ``root``, for that kind of machine.

    Raises `ConfigError` for files that are not there, `ProvisionError` for what cannot be had.
    """
    check(image, platform)
    found = needs.of(image.pip, platform)
    packed = _wheels(found, platform)
    manifest = {
        "format": FORMAT,
        "python": platform.python,
        "wheels": {wheel.name: wheel.sha256 for wheel in packed},
        "index": found.index,
        "pins": found.pins(),
    }
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w", format=tarfile.PAX_FORMAT) as tar:
        _add(tar, "bootstrap.sh", bootstrap.render(image, platform).encode(), executable=True)
        _add(tar, "manifest.json", json.dumps(manifest, sort_keys=True).encode())
        _add(tar, "lib.zip", library())
        for wheel in packed:
            _add(tar, f"wheels/{wheel.name}", wheel.data)
        for name in image.files(root):
            _add_file(tar, f"files/{name}", os.path.join(root, name))
    data = archive.getvalue()
    return Bundle(data, hashlib.sha256(data).hexdigest(), platform)


def check(image: Image, platform: Platform) -> None:
    """Raise `ConfigError` if the image wants another Python than nodes can have: the client's, by two numbers."""
    if image.python and not f"{image.python}.".startswith(f"{platform.python}."):
        raise ConfigError(
            f"the image wants Python {image.python}, and this is {platform.python}: nodes have the client's, as "
            f"functions do not travel between versions; run your program with Python {image.python}"
        )


def _wheels(found: Needs, platform: Platform) -> list[wheels.Wheel]:
    here = Platform.here()
    packed: list[wheels.Wheel] = []
    absent: list[str] = []
    for name, each in sorted(found.here.items()):
        wheel = None
        if any(platform.runs(tag, here) for tag in wheels.tags(each)):
            wheel = wheels.pack(each, os.path.join(cache(), "wheels"))
        if wheel is None:
            absent.append(f"{name}=={each.version}")
        else:
            packed.append(wheel)
    if absent:
        packed += wheels.fetch(absent, platform)
    return sorted(packed, key=lambda wheel: wheel.name)


def cache() -> str:
    """Return the directory of what can be made again; it need not exist."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return os.path.join(base, "skyward")


def library() -> bytes:
    """Return our packages in a zip file."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for package in PACKAGES:
            place = _place_of(package)
            for name in _sources(place):
                with open(os.path.join(place, name), "rb") as file:
                    wheels.add(archive, f"{package}/{name}", file.read())
    return packed.getvalue()


def _place_of(package: str) -> str:
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ProvisionError(f"cannot send the package {package} of skyward to nodes: it is not installed here")
    return os.path.abspath(spec.submodule_search_locations[0])


def _sources(place: str) -> Iterator[str]:
    for directory, below, names in os.walk(place):
        below[:] = sorted(name for name in below if name != "__pycache__")
        for name in sorted(names):
            if name.endswith((".py", ".typed")):
                yield os.path.relpath(os.path.join(directory, name), place)


def _add(tar: tarfile.TarFile, name: str, data: bytes, *, executable: bool = False) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(data)
    entry.mode = 0o755 if executable else 0o644
    tar.addfile(entry, io.BytesIO(data))


def _add_file(tar: tarfile.TarFile, name: str, path: str) -> None:
    try:
        if not os.path.isfile(path):
            raise ConfigError(f"includes means {path}, which is no file that can be copied")
        with open(path, "rb") as file:
            status = os.fstat(file.fileno())
            entry = tarfile.TarInfo(name)
            entry.size = status.st_size
            entry.mode = 0o755 if status.st_mode & 0o111 else 0o644
            tar.addfile(entry, file)
    except OSError as error:
        raise ConfigError(f"includes means {path}, which cannot be read: {error}") from error
