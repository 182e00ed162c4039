"""Wheels of what is installed here: an installed package is its wheel, unpacked, and is packed again.

What a node needs is sent as the client has it, in the very versions, so no package index is asked. A wheel
that was packed once is kept in the client's cache. For machines of another kind wheels of the same versions are
fetched, here, by whichever installer there is.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import Distribution, distributions
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final

from skyward.errors import ArchitectureError, ProvisionError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from skyward.providers.platforms import Platform

EPOCH: Final = (1980, 1, 1, 0, 0, 0)  # the first moment that a zip file knows: what is packed twice is the same
PATIENCE: Final = 300.0  # seconds to fetch wheels for another kind of machine
OWN: Final = {"RECORD", "RECORD.jws", "INSTALLER", "REQUESTED", "direct_url.json"}  # what an installer has added
_RUNS: Final = re.compile(r"[-_.]+")


def normalized(name: str) -> str:
    """Return a package's name as indexes compare them."""
    return _RUNS.sub("-", name).lower()


@dataclass(frozen=True, slots=True)
class Wheel:
    """A wheel, and what it is called."""

    name: str
    data: bytes

    @property
    def sha256(self) -> str:
        """Return the hash of its bytes."""
        return hashlib.sha256(self.data).hexdigest()


def is_own_source(found: Distribution) -> bool:
    """Return whether it is installed from a directory that somebody works in: it is no copy, and no index has it."""
    with suppress(ValueError, AttributeError):
        return bool(json.loads(found.read_text("direct_url.json") or "{}").get("dir_info", {}).get("editable"))
    return False


def tags(found: Distribution) -> list[str]:
    """Return where it runs, as it says itself."""
    text = found.read_text("WHEEL") or ""
    return [line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("Tag:")]


def pack(found: Distribution, cache: str = "") -> Wheel | None:
    """Return the wheel that it was, or None if what is installed does not say all that it was made of."""
    files = _files(found)
    if files is None or not tags(found):
        return None
    name = f"{normalized(found.name).replace('-', '_')}-{found.version}-{tags(found)[0]}.whl"
    kept = os.path.join(cache, _stamp(files), name) if cache else ""
    with suppress(OSError):
        if kept:
            with open(kept, "rb") as file:
                return Wheel(name, file.read())
    wheel = Wheel(name, _zip(files, f"{_info(files)}/RECORD"))
    if kept:
        _keep(kept, wheel.data)
    return wheel


def _files(found: Distribution) -> dict[str, str] | None:
    """Return the paths of the files by their names in the wheel; None if some were put elsewhere."""
    scripts = {entry.name for entry in found.entry_points if entry.group in ("console_scripts", "gui_scripts")}
    files: dict[str, str] = {}
    for file in found.files or ():
        path = str(file)
        if file.parts[0] == ".." or os.path.isabs(path):
            if os.path.basename(path) in scripts or path.endswith(".pyc"):
                continue  # an installer makes it
            return None
        if "__pycache__" in file.parts or (file.parts[0].endswith(".dist-info") and file.name in OWN):
            continue
        files[path] = str(file.locate())
    if not any(name.endswith(".dist-info/METADATA") for name in files):
        return None
    return files if all(map(os.path.isfile, files.values())) else None


def _info(files: dict[str, str]) -> str:
    return next(name for name in files if name.endswith(".dist-info/METADATA")).partition("/")[0]


def _stamp(files: dict[str, str]) -> str:
    """Return what changes when a file does."""
    digest = hashlib.sha256()
    for name, path in sorted(files.items()):
        status = os.stat(path)
        digest.update(f"{name}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:32]


def _zip(files: dict[str, str], record: str) -> bytes:
    packed = io.BytesIO()
    rows: list[tuple[str, str, str]] = []
    with zipfile.ZipFile(packed, "w") as wheel:
        for name, path in sorted(files.items()):
            with open(path, "rb") as file:
                data = file.read()
            code = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            rows.append((name, f"sha256={code}", str(len(data))))
            add(wheel, name, data, executable=os.access(path, os.X_OK))
        lines = io.StringIO()
        csv.writer(lines, lineterminator="\n").writerows([*rows, (record, "", "")])
        add(wheel, record, lines.getvalue().encode())
    return packed.getvalue()


def add(archive: zipfile.ZipFile, name: str, data: bytes, *, executable: bool = False) -> None:
    """Add a file in such a way that the same content makes the same bytes."""
    entry = zipfile.ZipInfo(name, EPOCH)
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.external_attr = (0o755 if executable else 0o644) << 16
    archive.writestr(entry, data)


def _keep(path: str, data: bytes) -> None:
    temporary = f"{path}.{os.urandom(4).hex()}"
    with suppress(OSError):  # then it is packed again next time
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(temporary, "wb") as file:
            file.write(data)
        os.replace(temporary, path)


# --- for another kind of machine -----------------------------------------------------------


def fetch(pins: Iterable[str], platform: Platform) -> Iterator[Wheel]:
    """Yield wheels of these packages, each ``name==version``, for that kind of machine; raises `ArchitectureError`."""
    pins = sorted(pins)
    with tempfile.TemporaryDirectory(prefix="skyward-") as place:
        command = [*_installer(place, platform), *pins]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise ProvisionError(f"cannot fetch wheels for {platform}: {error}") from error
        if done.returncode:
            raise ArchitectureError(
                f"there are no wheels of {', '.join(pins)} for {platform}, as far as this machine can get them",
                tuple((done.stderr or done.stdout).splitlines()[-20:]),
            )
        for found in distributions(path=[place]):
            wheel = pack(found)
            if wheel is None:
                raise ArchitectureError(f"{found.name} {found.version} for {platform} is no plain wheel")
            yield wheel


def _installer(place: str, platform: Platform) -> list[str]:
    choice = ["--target", place, "--no-deps", "--only-binary", ":all:", "--python-version", platform.python]
    if (uv := shutil.which("uv")) is not None:
        kind = (
            f"{platform.machine}-unknown-linux-musl"
            if platform.libc == "musl"
            else (f"{platform.machine}-{platform.wheel_tag}")
        )
        return [uv, "pip", "install", *choice, "--python-platform", kind]
    if find_spec("pip") is not None:
        kinds = [platform.wheel_tag, *(["manylinux_2_17", "manylinux2014"] if platform.libc == "glibc" else [])]
        wanted = [word for kind in kinds for word in ("--platform", f"{kind}_{platform.machine}")]
        return [sys.executable, "-m", "pip", "install", *choice, *wanted]
    raise ProvisionError(f"wheels for {platform} have to be fetched, and neither uv nor pip is here: pip install uv")
