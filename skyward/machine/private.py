"""Files that are their owner's alone: mode 0600, in a directory of mode 0700 that is made if need be.

What others could have read or changed is refused, with the `chmod` that mends it: a key says who we are, and a mesh
file whom we trust.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from skyward.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

READABLE: Final = 0o077  # bits of a mode that let others read or change
WRITABLE: Final = 0o022  # and of one that let others change


def config_home() -> str:
    """Return the directory where a user's keys and settings of skyward are; it need not exist."""
    base = os.environ.get("XDG_CONFIG_HOME") or os.path.join(os.path.expanduser("~"), ".config")
    return os.path.join(base, "skyward")


def state_home() -> str:
    """Return the directory where skyward keeps what outlives a process: meshes, logs; it need not exist."""
    base = os.environ.get("XDG_STATE_HOME") or os.path.join(os.path.expanduser("~"), ".local", "state")
    return os.path.join(os.path.abspath(base), "skyward")


def read_text(path: str, what: str, *, loose_directory: bool = False) -> str:
    """Return what a private file holds; raises `ConfigError`. ``what`` it holds stands in the error.

    ``loose_directory``: others may look into its directory, but change nothing there.
    """
    try:
        directory = os.path.dirname(os.path.abspath(path))
        check_mode(directory, stat.S_ISDIR, "directory", what, WRITABLE if loose_directory else READABLE)
        check_mode(path, stat.S_ISREG, "file", what)
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error


def write_text(path: str, text: str, what: str, *, replace: bool) -> None:
    """Write a private file in one step: whoever reads it sees the old one or the new one.

    Raises `FileExistsError` if it is there and not to be replaced, `ConfigError` if it cannot be written.
    """
    temporary = f"{path}.{os.urandom(4).hex()}.new"
    try:
        make_directory(os.path.dirname(os.path.abspath(path)), what)
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(fd, "w", encoding="utf-8", errors="replace") as file:
                file.write(text)
            if replace:
                os.replace(temporary, path)
            else:
                os.link(temporary, path)
        finally:
            with suppress(FileNotFoundError):
                os.unlink(temporary)
    except FileExistsError:
        raise
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}") from error


def make_directory(directory: str, what: str) -> None:
    """Make a private directory, and those above it, unless it is there; raises `ConfigError` if it is not private."""
    os.makedirs(os.path.dirname(directory), mode=0o700, exist_ok=True)
    with suppress(FileExistsError):
        os.mkdir(directory, 0o700)
    check_mode(directory, stat.S_ISDIR, "directory", what)


def check_mode(path: str, is_kind: Callable[[int], bool], kind: str, what: str, refused: int = READABLE) -> None:
    """Raise `ConfigError` unless it is of the kind, ours, and has none of the ``refused`` bits."""
    status = os.stat(path)
    if not is_kind(status.st_mode):
        raise ConfigError(f"{path} is no {kind}")
    mode = stat.S_IMODE(status.st_mode)
    if status.st_uid != os.geteuid() or mode & refused:
        wanted = "0600" if kind == "file" else "0700" if refused == READABLE else "go-w"
        raise ConfigError(
            f"the {kind} {path} has mode {mode:04o} and owner {status.st_uid}: {what} must be their owner's alone; "
            f"run: chmod {wanted} {path}"
        )
