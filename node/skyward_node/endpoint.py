"""Where a daemon listens: checked before anything is started, so that mistakes are cheap and clear.

An ``ipc://`` socket is as safe as its directory: only the owner may enter it. A ``tcp://`` port is always behind
CURVE, on whatever address: see `skyward_node.door`.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from _socket import AF_UNIX, socket
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Final

from skyward.errors import ConfigError
from skyward.machine.passing import LONGEST_PATH

if TYPE_CHECKING:
    from collections.abc import Callable

LAUNCHED: Final = "skyward-"  # how the names of directories begin that a launcher makes for its daemons
_SCHEME: Final = "ipc://"
_TCP: Final = r"tcp://(?P<host>\[[0-9a-fA-F:.]+\]|[^\s/:\[\]]+):(?P<port>\*|\d{1,5})"


def check(bind: str) -> str:
    """Return the path of an ``ipc://`` endpoint, or "" for a ``tcp://`` one; raises `ConfigError`."""
    if not bind.startswith("tcp://"):
        return socket_path(bind)
    match = re.fullmatch(_TCP, bind)
    if match is None or (match["port"] != "*" and int(match["port"]) > 65_535):
        raise ConfigError(
            f"cannot bind {bind}: a TCP endpoint looks like tcp://127.0.0.1:7700, tcp://0.0.0.0:7700 or, for a free "
            "port, tcp://127.0.0.1:0"
        )
    return ""


def wildcard(bind: str) -> str:
    """Return the endpoint as ZeroMQ writes it: port 0 is a star."""
    return bind.removesuffix(":0") + ":*" if bind.endswith(":0") else bind


def socket_path(bind: str) -> str:
    """Return the path of an ``ipc://`` endpoint, its directory made; raises `ConfigError` if it cannot serve."""
    if not bind.startswith(_SCHEME):
        raise ConfigError(
            f"cannot bind {bind}: an endpoint looks like ipc:///directory/name.sock or tcp://127.0.0.1:7700"
        )
    path = bind.removeprefix(_SCHEME)
    if not path.startswith("/"):
        raise ConfigError(f"cannot bind {bind}: the path after ipc:// must be absolute")
    length = len(os.fsencode(path))
    if length > LONGEST_PATH:
        raise ConfigError(
            f"cannot bind {bind}: the path has {length} bytes, a Unix socket takes at most {LONGEST_PATH}"
        )
    _check_directory(os.path.dirname(path))
    _check_free(path)
    return path


def _check_directory(directory: str) -> None:
    with suppress(FileExistsError):
        try:
            os.mkdir(directory, 0o700)
            os.chmod(directory, 0o700)  # whatever the umask is
        except OSError as error:
            if isinstance(error, FileExistsError):
                raise
            raise ConfigError(f"cannot make the directory {directory}: {error.strerror}") from error
    status = os.stat(directory)
    if not stat.S_ISDIR(status.st_mode):
        raise ConfigError(f"{directory} is no directory")
    if status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & 0o077:
        mode = stat.S_IMODE(status.st_mode)
        raise ConfigError(f"the directory {directory} must be ours alone (mode 0700), but has mode {mode:04o}")


def _check_free(path: str) -> None:
    """Refuse a path where somebody listens: ZeroMQ would take it over without a word."""
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(status.st_mode):
        raise ConfigError(f"cannot bind ipc://{path}: the file exists and is no socket")
    with closing(socket(AF_UNIX)) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            return  # left behind by a daemon that was killed
        except OSError as error:
            raise ConfigError(f"cannot bind ipc://{path}: {error.strerror}") from error
    raise ConfigError(f"cannot bind ipc://{path}: another daemon serves there")


def bind_private(path: str, bind: Callable[[str], object]) -> None:
    """Call ``bind`` with the endpoint so that only the owner may connect, from the first moment."""
    mask = os.umask(0o177)
    try:
        bind(_SCHEME + path)
    finally:
        os.umask(mask)
    os.chmod(path, 0o600)


def remove(path: str) -> None:
    """Remove the socket file, if it is still there."""
    with suppress(OSError):
        os.unlink(path)


def remove_for_launcher(path: str) -> None:
    """Remove the socket file and, as the last daemon of a launcher that is gone, the directory it has made.

    Sockets of daemons that were killed are no reason to keep it.
    """
    remove(path)
    directory = os.path.dirname(path)
    if not os.path.basename(directory).startswith(LAUNCHED):
        return
    with suppress(OSError):
        for name in os.listdir(directory):
            if _is_dead(f"{directory}/{name}"):
                os.unlink(f"{directory}/{name}")
        os.rmdir(directory)


def _is_dead(path: str) -> bool:
    """Return whether the path is a socket where nobody listens."""
    if not stat.S_ISSOCK(os.lstat(path).st_mode):
        return False
    with closing(socket(AF_UNIX)) as probe:
        return probe.connect_ex(path) == errno.ECONNREFUSED
