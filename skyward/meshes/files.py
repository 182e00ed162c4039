"""Mesh files: which nodes a mesh has, by which keys they are known, and what it takes to end them.

Each mesh has one, of mode 0600, in a directory of mode 0700 below the user's state home. It is written before the first
node is started and each time one has come or gone, so that a command that is killed leaves nothing behind that another
does not know of. It holds no secret: public keys alone, and of an image's variables only the names.

One command at a time changes a mesh: see `locked`. A file that somebody has written by hand, or brought from another
machine, may be anywhere, and be JSON or TOML; name and nodes are enough to attach to it.
"""

from __future__ import annotations

import fcntl
import json
import os
import tomllib
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, Literal, cast, get_args

from skyward.errors import ConfigError, MeshExistsError, UnknownMeshError
from skyward.machine.private import make_directory, read_text, state_home, write_text
from skyward.meshes.described import NAME, check_name
from skyward.providers.base import Launched
from skyward.providers.static import Address

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from typing import NoReturn

    from skyward.meshes.admitted import Clients
    from skyward.model import Executor

VERSION: Final = 1  # of the form of the files
NOBODYS: Final = "static"  # the provider of nodes that no command of ours has started
WHAT: Final = "mesh files"  # in what is said of one that others could read

State = Literal["starting", "up", "growing", "ending"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mesh:
    """A mesh, as its file says."""

    name: str
    kind: str = NOBODYS  # of the provider
    settings: dict[str, Any] = field(default_factory=dict[str, Any])  # its arguments
    nodes: tuple[Launched, ...] = ()
    state: State = "up"
    wanted: int = 0  # nodes
    concurrency: int = 1
    executor: Executor = "process"
    options: dict[str, Any] = field(default_factory=dict[str, Any])  # of `sky.Options`, that nodes were started with
    image: dict[str, Any] = field(default_factory=dict[str, Any])  # without the values of variables
    described: str = ""  # the `skyward.toml` that it was made by
    created: float = 0.0  # seconds since the epoch
    number: int = 0  # of nodes that were launched so far: each has one of its own
    clients: Clients = ()  # who else was let in, for nodes that come later

    @property
    def serves(self) -> bool:
        """Return whether it has come up and is not being ended; while it grows there may be more nodes than named."""
        return self.state in ("up", "growing")

    def without(self, idents: set[str]) -> Mesh:
        """Return the mesh without some nodes."""
        return replace(self, nodes=tuple(node for node in self.nodes if node.ident not in idents))


# --- where -------------------------------------------------------------------------------------


def home() -> str:
    """Return the directory of mesh files; it need not exist."""
    return os.path.join(state_home(), "meshes")


def path_of(name: str) -> str:
    """Return where the file of a mesh is."""
    return os.path.join(home(), f"{name}.json")


def known() -> tuple[str, ...]:
    """Return the names of the meshes that there are."""
    try:
        entries = os.listdir(home())
    except OSError:
        return ()
    names = (entry.removesuffix(".json") for entry in entries if entry.endswith(".json"))
    return tuple(sorted(name for name in names if NAME.fullmatch(name)))


def load(name: str) -> Mesh:
    """Return the mesh of this name, or that of the file at this path; raises `UnknownMeshError`, `ConfigError`."""
    if is_path(name):
        return read(os.path.abspath(os.path.expanduser(name)))
    path = path_of(check_name(name))
    if not os.path.lexists(path):
        raise UnknownMeshError(name, known(), f"`skyward-mesh up {name}` makes one")
    mesh = read(path)
    if mesh.name != name:  # else commands for one would end the other
        raise ConfigError(f"{path} is a file of mesh {mesh.name!r}: remove it, or give it its name back")
    return mesh


def is_path(name: str) -> bool:
    """Return whether this names a file, not a mesh."""
    return os.sep in name or name.endswith((".json", ".toml"))


# --- reading and writing ---------------------------------------------------------------------------


def read(path: str) -> Mesh:
    """Return the mesh that a file holds; raises `ConfigError`. Others must not be able to read or change the file."""
    ours = os.path.dirname(path) == home()
    text = read_text(path, WHAT, loose_directory=not ours)
    try:
        data = tomllib.loads(text) if path.endswith(".toml") else json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} holds no mesh: {error}") from error
    return parse(data, path)


def write(mesh: Mesh) -> None:
    """Write the file of a mesh, in one step; raises `ConfigError`."""
    write_text(path_of(mesh.name), _text(mesh), WHAT, replace=True)


def claim(mesh: Mesh) -> None:
    """Write the file of a new mesh; raises `MeshExistsError` if there is one of this name."""
    path = path_of(check_name(mesh.name))
    try:
        write_text(path, _text(mesh), WHAT, replace=False)
    except FileExistsError:
        raise MeshExistsError(
            mesh.name, f"`skyward-mesh status {mesh.name}` shows it, `skyward-mesh down {mesh.name}` ends it"
        ) from None


def remove(name: str) -> None:
    """Remove the file of a mesh, if there is one."""
    with suppress(FileNotFoundError):
        os.unlink(path_of(name))


@contextmanager
def locked(name: str) -> Generator[None]:
    """Keep every other command from changing this mesh; raises `MeshExistsError` if one does.

    The kernel lets go of the lock when its holder ends, however that happens.
    """
    path = os.path.join(home(), f".{check_name(name)}.lock")
    fd = _lock(path, name)
    try:
        yield
    finally:
        with suppress(FileNotFoundError):
            os.unlink(path)  # first: whoever locks it from now on sees that it is not the one at the path
        os.close(fd)


def _lock(path: str, name: str) -> int:
    make_directory(home(), WHAT)
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.exists(path) and os.path.samestat(os.fstat(fd), os.stat(path)):
                return fd
        except FileNotFoundError:  # its last holder has just removed it
            pass
        except BlockingIOError:
            os.close(fd)
            raise MeshExistsError(name, "another command is changing it: wait for that to end") from None
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)


# --- the form, PURE --------------------------------------------------------------------------------


def _text(mesh: Mesh) -> str:
    nodes = [
        {name: value for name, value in asdict(node).items() if name != "death_fd" and value is not None}
        for node in mesh.nodes
    ]
    return json.dumps({"skyward": VERSION, **asdict(mesh), "nodes": nodes}, indent=2, default=list) + "\n"


def parse(data: object, path: str) -> Mesh:
    """Return the mesh that a file's data say; raises `ConfigError` that names the file and the key."""

    def refuse(key: str, reason: str) -> NoReturn:
        raise ConfigError(f"{path}: {key} {reason}")

    if not isinstance(data, dict):
        raise ConfigError(f"{path} holds no mesh: it must be an object with name and nodes")
    fields = cast("dict[str, Any]", data)
    version = fields.pop("skyward", VERSION)
    if version != VERSION:
        refuse("skyward", f"is {version!r}, and this version knows {VERSION}: use the one that has written the file")
    for name in ("name", "nodes"):
        if name not in fields:
            refuse(name, "is missing")
    for name, value in fields.items():
        kind = _KINDS.get(name)
        if kind is None:
            refuse(name, f"means nothing; there may be {', '.join(_KINDS)}")
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            refuse(name, f"is wrong: {value!r}")
    if fields.get("state", "up") not in get_args(State):
        refuse("state", f"must be one of {', '.join(get_args(State))}")
    nodes: list[object] = fields.pop("nodes")
    clients = tuple(_client(client, f"clients[{n}]", refuse) for n, client in enumerate(fields.pop("clients", ())))
    launched = tuple(_node(node, f"nodes[{index}]", refuse) for index, node in enumerate(nodes))
    return Mesh(**fields, nodes=launched, clients=clients)


_KINDS: Final[dict[str, Any]] = {
    "name": str,
    "kind": str,
    "settings": dict,
    "nodes": list,
    "state": str,
    "wanted": int,
    "concurrency": int,
    "executor": str,
    "options": dict,
    "image": dict,
    "described": str,
    "created": int | float,
    "number": int,
    "clients": list,
}
_OF_NODE: Final[dict[str, type]] = {
    "ident": str, "endpoint": str, "public_key": str, "pid": int, "address": str, "private_address": str,
}  # fmt: skip


def _client(value: object, key: str, refuse: Callable[[str, str], NoReturn]) -> tuple[str, str]:
    parts = cast("list[object]", value) if isinstance(value, list) else []
    if len(parts) != 2 or not all(isinstance(part, str) for part in parts):
        refuse(key, f"must be a public key and a label, got {value!r}")
    return str(parts[0]), str(parts[1])


def _node(value: object, key: str, refuse: Callable[[str, str], NoReturn]) -> Launched:
    if not isinstance(value, dict):
        refuse(key, f"must be an object with endpoint and public_key, got {value!r}")
    fields = cast("dict[str, Any]", value)
    for name, part in fields.items():
        kind = _OF_NODE.get(name)
        if kind is None:
            refuse(f"{key}.{name}", f"means nothing; there may be {', '.join(_OF_NODE)}")
        if not isinstance(part, kind):
            refuse(f"{key}.{name}", f"is wrong: {part!r}")
    try:
        address = Address.parse((fields.get("endpoint", ""), fields.get("public_key", "")))
    except ConfigError as error:
        refuse(key, f"is wrong: {error}")
    known: dict[str, Any] = {"ident": address.endpoint, **fields}
    return Launched(**known)
