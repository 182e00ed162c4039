"""Nodes that already run: somebody has started them, and said where they are and by which key they are known.

Nothing is launched and nothing ended: the pool takes part in nodes, and leaves. A node without a key is refused,
because anybody could answer at its address; a socket file needs none, as its directory is its owner's alone.
"""

from __future__ import annotations

import errno
import os
import re
import time
from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Final, NamedTuple, cast

from skyward.errors import ConfigError, ProvisionError
from skyward.model import Nodes, counted
from skyward.providers.base import Launched
from skyward.providers.running import Running

if TYPE_CHECKING:
    import threading
    from typing import Self

    from skyward.providers.base import LaunchSpec

_TCP: Final = re.compile(r"tcp://(?P<host>\[[^\s/\[\]]+\]|[^\s/:\[\]]+):(?P<port>\d{1,5})")
EXAMPLE: Final = "tcp://10.0.0.5:7700 KEY"
FIRST: Final = 0.05  # seconds before nodes that do not answer yet are asked again: a daemon begins in some tenths
LONGEST: Final = 1.0  # seconds; the pauses double
CLIENT_KEY: Final = os.path.join("client", "client.key")  # in `keys.home()`, unless another file is named


class Address(NamedTuple):
    """Where a node is, and the public key it proves to own."""

    endpoint: str
    key: str

    @classmethod
    def parse(cls, node: object) -> Address:
        """Return ``"endpoint key"``, or a pair of these, as an address; raises `ConfigError`."""
        if not isinstance(node, Iterable):
            raise TypeError(f"a node is a string such as '{EXAMPLE}', or a pair of these, got {node!r}")
        words = node.split() if isinstance(node, str) else list(cast("Iterable[str]", node))
        endpoint, key = [*map(str, words), "", ""][:2]
        if endpoint.startswith("ipc:///"):
            if key:
                raise ConfigError(f"{endpoint} takes no key, as a socket file is its owner's alone: leave the key out")
            return cls(endpoint, "")
        match = _TCP.fullmatch(endpoint)
        if match is None or not 0 < int(match["port"]) < 65_536:
            raise ConfigError(f"{node!r} is no node: one looks like '{EXAMPLE}', with the node's key")
        if not key or len(words) > 2:
            raise ConfigError(
                f"the node {endpoint} needs its public key after the address, or anybody could answer there; "
                "`skyward-node keys show` prints it on the node"
            )
        from skyward.transport.keys import check_public

        return cls(endpoint, check_public(key))


class Static(Running):
    """Nodes that already run: ``sky.Compute(sky.Static(["tcp://10.0.0.5:7700 KEY"]))``.

    Each is an endpoint and the node's public key, in one string or as a pair; ``ipc:///…`` needs no key. ``key``
    is the file with the client's own pair, by default ``~/.config/skyward/client/client.key``, made on first use; its
    public half has to be admitted on every node: ``skyward-node keys add KEY``. How many tasks run at once and
    in what was said where the nodes were started.
    """

    name: ClassVar[str] = "static"
    launches: ClassVar[bool] = False

    def __init__(self, nodes: Iterable[str | tuple[str, str]], *, key: str | os.PathLike[str] | None = None) -> None:
        """Check the addresses; raises `ConfigError`."""
        super().__init__()
        self._addresses = tuple(map(Address.parse, _listed(nodes)))
        if not self._addresses:
            raise ConfigError("sky.Static needs at least one node")
        if len({address.endpoint for address in self._addresses}) < len(self._addresses):
            raise ConfigError("sky.Static was given the same node twice")
        self._key_file = _path(key)
        self._met: set[str] = set()  # endpoints that have answered: what goes silent after that is a loss, no start

    def __repr__(self) -> str:
        return f"sky.Static({[address.endpoint for address in self._addresses]})"

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle and copy the settings alone."""
        return partial(type(self), self._addresses, key=self._key_file), ()

    def for_pool(self) -> Self:
        """Return an unused provider with the same settings."""
        return type(self)(self._addresses, key=self._key_file)

    def default_nodes(self) -> Nodes:
        """Return all of them."""
        return Nodes(len(self._addresses))

    def check_nodes(self, nodes: Nodes) -> None:
        """Raise `ConfigError` if these are more."""
        there = len(self._addresses)
        if nodes.most > there:
            are = f"there {'is' if there == 1 else 'are'} {counted(there, 'node')}"
            raise ConfigError(f"{are} in {self!r}, and a pool of up to {nodes.most} was asked for")

    def prepare(self) -> None:
        """Read the client's pair, if a node asks for it; raises `ConfigError`."""
        if any(address.key for address in self._addresses):
            from skyward.transport import keys

            self._keys = keys.read_or_make_pair(self._key_file or os.path.join(keys.home(), CLIENT_KEY))

    def launch(self, spec: LaunchSpec, index: int, cancelled: threading.Event) -> Launched:
        """Take the next node that takes part in nothing yet and answers; raises `ProvisionError`.

        Whoever starts nodes may start the client with them: what has not answered yet is waited for.
        """
        deadline = time.monotonic() + spec.start_timeout
        silent: dict[str, OSError] = {}
        told: set[str] = set()
        pause = FIRST
        while True:
            if (address := self._take(self._addresses, silent)) is not None:
                try:
                    host = self._enter(address.endpoint, max(FIRST, deadline - time.monotonic()), cancelled)
                except OSError as error:
                    silent[address.endpoint] = error
                    continue
                self._met.add(address.endpoint)
                return Launched(
                    ident=f"{address.endpoint} {index}",
                    endpoint=address.endpoint,
                    public_key=address.key,
                    address=host,
                    private_address=host,
                )
            rest = deadline - time.monotonic()
            if rest <= 0 or not any(self._may_come(*each) for each in silent.items()):
                raise self._lack(silent, spec.start_timeout if rest <= 0 else 0.0)
            for endpoint in silent.keys() - told:
                self.tell(f"waits for the node {endpoint}, which does not answer yet: {silent[endpoint]}")
            told |= silent.keys()
            silent.clear()
            if cancelled.wait(min(pause, rest)):
                raise ProvisionError("it was not wanted any more")
            pause = min(2 * pause, LONGEST)

    def _may_come(self, endpoint: str, error: OSError) -> bool:
        """Return whether it may be that a node only starts: not if its name is unknown, or the way there is barred."""
        starts = isinstance(error, ConnectionError | TimeoutError | FileNotFoundError)
        return endpoint not in self._met and (starts or error.errno == errno.EHOSTUNREACH)

    def _lack(self, silent: dict[str, OSError], waited: float) -> ProvisionError:
        """Return why there is no node."""
        for endpoint, error in silent.items():
            patience = f" (waited start_timeout={waited:g} s)" if waited else ""
            lack = ProvisionError(f"the node {endpoint} does not answer: {error}; does it run?{patience}")
            lack.__cause__ = error
            return lack
        if len(self._addresses) == 1:
            return ProvisionError("there is 1 node, and it takes part already")
        return ProvisionError(f"there are {len(self._addresses)} nodes, and all take part already")


def _listed(nodes: object) -> Iterable[object]:
    """Return the nodes of a list; raises `TypeError` for what is none."""
    if isinstance(nodes, str):
        raise TypeError(f"sky.Static takes a list of nodes, such as sky.Static([{nodes!r}])")
    if not isinstance(nodes, Iterable):
        raise TypeError(f"sky.Static takes a list of nodes, such as sky.Static(['{EXAMPLE}']), got {nodes!r}")
    return cast("Iterable[object]", nodes)


def _path(key: object) -> str | None:
    """Return the path of a file of keys; raises `TypeError` for what is none, which is not shown: it may be secret."""
    path = os.fspath(cast("os.PathLike[str]", key)) if isinstance(key, os.PathLike) else key
    if path is None or isinstance(path, str):
        return path
    raise TypeError(
        f"key must be the path of the file with the client's own pair, got a value of type {type(path).__name__}"
    )
