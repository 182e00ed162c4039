r"""SSH hosts as people name them. Pure.

    h1   alice@h2   alice@10.0.0.7:2222   [2001:db8::7]:2222   a name of ~/.ssh/config
    h3 python=/opt/python3.11/bin/python3 identity=~/.ssh/cluster setup="module load cuda"

The second form is also what a line of a hostfile looks like; there ``#`` begins a comment. What stands after the host
is quoted as for a shell; in the host a backslash is one, as in ``CORP\bob@h4``.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, cast

from skyward.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_NAME: Final = re.compile(r"[A-Za-z0-9_.%:][A-Za-z0-9_.%:-]*")  # none begins with a dash: it would be an option of ssh
_USER: Final = re.compile(r"[A-Za-z0-9_.][A-Za-z0-9_.@+\\-]*\$?")
_FORM: Final = re.compile(r"(?:(?P<user>.+)@)?(?:\[(?P<v6>[^\]]+)\](?::(?P<p6>\d+))?|(?P<host>[^@\[\]]+))")
EXAMPLE: Final = "one looks like 'alice@10.0.0.7:2222', or is a name of ssh_config"


@dataclass(frozen=True, slots=True)
class Host:
    """A machine that is reached by SSH: ``sky.Host("10.0.0.7", user="alice", python="/opt/python/bin/python3.11")``.

    ``name`` is an address, or a name that ``ssh_config`` knows. What is None is as ``ssh_config`` has it.
    ``identity``: the file of the private key. ``python``: the interpreter, else the first one there that will do.
    ``setup``: a command for ``sh`` that runs first; what it exports is there for the node and its tasks.
    """

    name: str
    user: str | None = None
    port: int | None = None
    identity: str | None = None
    python: str | None = None
    setup: str | None = None

    def __post_init__(self) -> None:
        if not _is_name(self.name):
            raise ConfigError(f"{self.name!r} is no host: {EXAMPLE}")
        _check({name: getattr(self, name) for name in _SETTINGS}, f" of the host {self.name}")

    def __str__(self) -> str:
        user = f"{self.user}@" if self.user else ""
        if self.port is None:
            return f"{user}{self.name}"
        return f"{user}[{self.name}]:{self.port}" if ":" in self.name else f"{user}{self.name}:{self.port}"

    def otherwise(self, usual: Host) -> Host:
        """Return it with what it does not say itself as ``usual`` has it."""
        absent = {name: getattr(usual, name) for name in _SETTINGS if getattr(self, name) is None}
        return replace(self, **absent)


_SETTINGS: Final = ("user", "port", "identity", "python", "setup")


def usual(**said: Any) -> Host:
    """Return a host with what those have that do not say it themselves; raises `ConfigError`, which names no host."""
    _check(said, "")
    return Host("usual", **said)


def _check(said: Mapping[str, object], whose: str) -> None:
    """Raise `ConfigError` for a setting of a host that makes no sense."""
    for name, value in said.items():
        if value is None:
            continue
        if name == "port":
            if not _is_port(value):
                raise ConfigError(f"{value!r} is no port{whose}: a port is an int from 1 to 65535")
        elif not isinstance(value, str):
            raise ConfigError(f"{name}={value!r}{whose} makes no sense: it must be a string")
        elif name == "user" and _USER.fullmatch(value) is None:
            raise ConfigError(f"{value!r} is no user{whose}")
        elif not value.strip() or "\0" in value:
            raise ConfigError(f"{name}={value!r}{whose} makes no sense")


def _is_name(value: object) -> bool:
    return isinstance(value, str) and _NAME.fullmatch(value) is not None


def _is_port(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < 65_536


def parse_all(hosts: object) -> list[Host]:
    """Return the hosts of a list; raises `TypeError`, `ConfigError`."""
    if isinstance(hosts, str):
        raise TypeError(f"sky.SSH takes a list of hosts, such as sky.SSH([{hosts!r}])")
    if not isinstance(hosts, Iterable):
        raise TypeError(f"hosts must be a list of hosts, got {hosts!r}")
    return [each if isinstance(each, Host) else parse(_text(each)) for each in cast("Iterable[object]", hosts)]


def check_path(name: str, value: object) -> None:
    """Raise `TypeError` unless this is the path of a file, or None."""
    if value is not None and not isinstance(value, str | os.PathLike):
        raise TypeError(f"{name} must be the path of a file, got {value!r}")


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"a host is a string or a sky.Host, got {value!r}; {EXAMPLE}")
    return value


def parse(text: str) -> Host:
    """Return the host that a line names; raises `ConfigError`."""
    try:
        place, *rest = _words(text)
    except ValueError as error:
        raise ConfigError(f"{text!r} is no host: {error}") from error
    said: dict[str, str] = {}
    for word in rest:
        name, equals, value = word.partition("=")
        if not equals or name not in ("identity", "python", "setup") or name in said:
            raise ConfigError(f"{text!r} has {word!r}: after a host stand python=, setup= and identity=, once each")
        said[name] = value
    found = _FORM.fullmatch(place)
    if found is None:
        raise ConfigError(f"{text!r} is no host: {EXAMPLE}")
    name, port = (found["v6"], found["p6"]) if found["v6"] else _split(found["host"], text)
    return Host(name, user=found["user"], port=None if port is None else int(port), **said)


def _words(text: str) -> Iterator[str]:
    """Yield the words of a line: the host with its backslashes, what stands after it as a shell reads it."""
    words = shlex.shlex(text, posix=True)
    words.whitespace_split, words.commenters = True, ""
    usual, words.escape = words.escape, ""
    for word in words:
        yield word
        words.escape = usual  # it reads no further than it has to


def _split(place: str, text: str) -> tuple[str, str | None]:
    if place.count(":") != 1:  # more: an address of IPv6 without brackets, and no port
        return place, None
    name, _, port = place.partition(":")
    if not port.isdigit():
        raise ConfigError(f"{text!r} is no host: {port!r} is no port; {EXAMPLE}")
    return name, port


def line_of(host: Host) -> str:
    """Return a text of which `parse` makes this host."""
    said = ((name, getattr(host, name)) for name in ("python", "setup", "identity"))
    return shlex.join([str(host), *(f"{name}={value}" for name, value in said if value is not None)])


def parse_file(lines: Iterable[str], path: str) -> list[Host]:
    """Return the hosts of a hostfile; raises `ConfigError`, which names file and line."""
    found: list[Host] = []
    for number, line in enumerate(lines, 1):
        if text := _uncommented(line).strip():
            try:
                found.append(parse(text))
            except ConfigError as error:
                raise ConfigError(f"{path}, line {number}: {error}") from error
    if not found:
        raise ConfigError(f"{path} names no host")
    return found


def _uncommented(line: str) -> str:
    """Return a line up to a comment; within quotes there is none."""
    quote = ""
    for place, letter in enumerate(line):
        if letter in "'\"":
            quote = "" if letter == quote else quote or letter
        elif letter == "#" and not quote and (place == 0 or line[place - 1].isspace()):
            return line[:place]
    return line
