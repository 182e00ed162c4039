"""Takes in a bundle over a session, unless it is there, and becomes its bootstrap.

It is sent as source, so it imports nothing of ours. It says what kind of machine this is, hears which bundle it
shall be, answers whether that is there, and if not reads it. All of this are lines of JSON but for the bundle itself;
what else comes on stdin is for ``bootstrap.sh``.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import platform
import shutil
import sys
import tarfile
from typing import Any, Final, NoReturn

CHUNK: Final = 1 << 20  # bytes
STDIN: Final = 0


def cache() -> str:
    """Return where bundles and environments are kept."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return os.path.abspath(os.environ.get("SKYWARD_CACHE") or os.path.join(base, "skyward"))


def main() -> None:
    """Run without arguments, with stdin at the beginning of what is sent."""
    try:
        _say(facts=_facts())
        wanted = json.loads(_read_line())
        place = os.path.join(cache(), "bundles", wanted["bundle"])
        if os.path.isdir(place):
            _say(bundle="present")
            os.utime(place)
        else:
            _say(bundle="absent")
            _receive(place, wanted["bundle"], wanted["size"])
            _say(bundle="complete")
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        _fail("disk-full" if full else "bootstrap", f"cannot take in the bundle: {error}")
    except (ValueError, KeyError, tarfile.TarError) as error:
        _fail("bootstrap", f"cannot take in the bundle: {error!r}")
    os.execv("/bin/sh", ["sh", os.path.join(place, "bootstrap.sh")])  # noqa: S606 - there is nothing for a shell to read


def _say(**line: Any) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def _fail(kind: str, text: str) -> NoReturn:
    sys.stderr.write(f"skyward: error {kind} {' '.join(text.split())}\n")
    sys.stderr.flush()
    os._exit(1)


def _facts() -> dict[str, Any]:
    return {
        "system": platform.system(),
        "machine": platform.machine(),
        "libc": platform.libc_ver(),
        "python": platform.python_version(),
        "connection": os.environ.get("SSH_CONNECTION", ""),
    }


def _read_line() -> bytes:
    line = b""
    while not line.endswith(b"\n"):  # one by one: what follows is not ours
        letter = os.read(STDIN, 1)
        if not letter:
            raise ValueError("stdin ended")
        line += letter
    return line


def _receive(place: str, sha256: str, size: int) -> None:
    sys.stderr.write(f"skyward: step taking in {size / 1e6:.1f} MB\n")
    sys.stderr.flush()
    parent = os.path.dirname(place)
    os.makedirs(parent, mode=0o700, exist_ok=True)
    temporary = f"{place}.{os.getpid()}.new"
    try:
        os.mkdir(temporary, 0o700)
        packed = os.path.join(temporary, "bundle.tar")
        if _copy(packed, size) != sha256:
            raise ValueError("what came is not what was sent: it has another hash")
        with tarfile.open(packed) as tar:
            tar.extraction_filter = getattr(tarfile, "data_filter", None)
            tar.extractall(temporary)  # noqa: S202 - its hash was checked, and it is its sender who runs it
        os.unlink(packed)
        _move(temporary, place)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _copy(path: str, size: int) -> str:
    digest = hashlib.sha256()
    with open(path, "wb") as file:
        while size:
            chunk = os.read(STDIN, min(size, CHUNK))
            if not chunk:
                raise ValueError("stdin ended")
            file.write(chunk)
            digest.update(chunk)
            size -= len(chunk)
    return digest.hexdigest()


def _move(temporary: str, place: str) -> None:
    try:
        os.rename(temporary, place)
    except OSError:  # another one was faster
        if not os.path.isdir(place):
            raise


if __name__ == "__main__":
    main()
