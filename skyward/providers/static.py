"""Nodes that already run: somebody has started them, and said where they are and by which key they are known.

Nothing is launched and nothing ended: the pool takes part in nodes, and leaves. A node without a key is refused,
because anybody could answer at its address; a socket file needs none, as its directory is its owner's alone.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, ClassVar, Final, NamedTuple, cast

from skyward.errors import ConfigError, ProvisionError
from skyward.model import Nodes
from skyward.providers.base import Launched
from skyward.providers.running import Running

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterable
    from typing import Self

    from skyward.providers.base import LaunchSpec

_TCP: Final = re.compile(r"tcp://(?P<host>\[[^\s/\[\]]+\]|[^\s/:\[\]]+):(?P<port>\d{1,5})")
CLIENT_KEY: Final = os.path.join("client", "client.key")  # in `keys.home()`, unless another file is named


class Address(NamedTuple):
    """Where a node is, and the public key it proves to own."""

    endpoint: str
    key: str

    @classmethod
    def parse(cls, node: object) -> Address:
        """Return ``"endpoint key"``, or a pair of these, as an address; raises `ConfigError`."""
        words = node.split() if isinstance(node, str) else list(cast("Iterable[str]", node))
        endpoint, key = [*map(str, words), "", ""][:2]
        if endpoint.startswith("ipc:///") and not key:
            return cls(endpoint, "")
        match = _TCP.fullmatch(endpoint)
        if match is None or not 0 < int(match["port"]) < 65_536:
            raise ConfigError(f"{node!r} is no node: one looks like 'tcp://10.0.0.5:7700 KEY', with the node's key")
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

    def __init__(self, nodes: Iterable[str | tuple[str, str]], *, key: str | None = None) -> None:
        """Check the addresses; raises `ConfigError`."""
        super().__init__()
        if isinstance(nodes, str):
            raise TypeError(f"sky.Static takes a list of nodes, such as sky.Static([{nodes!r}])")
        self._addresses = tuple(Address.parse(node) for node in nodes)
        if not self._addresses:
            raise ConfigError("sky.Static needs at least one node")
        if len({address.endpoint for address in self._addresses}) < len(self._addresses):
            raise ConfigError("sky.Static was given the same node twice")
        self._key_file = key

    def __repr__(self) -> str:
        return f"sky.Static({[address.endpoint for address in self._addresses]})"

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
            raise ConfigError(f"there are {there} nodes in {self!r}, and a pool of up to {nodes.most} was asked for")

    def prepare(self) -> None:
        """Read the client's pair, if a node asks for it; raises `ConfigError`."""
        if any(address.key for address in self._addresses):
            from skyward.transport import keys

            self._keys = keys.read_or_make_pair(self._key_file or os.path.join(keys.home(), CLIENT_KEY))

    def launch(self, spec: LaunchSpec, index: int, cancelled: threading.Event) -> Launched:
        """Take the next node that takes part in nothing yet, if it answers; raises `ProvisionError`."""
        address = self._take(self._addresses)
        if address is None:
            raise ProvisionError(f"there are {len(self._addresses)} nodes, and all take part already")
        try:
            host = self._enter(address.endpoint, spec.start_timeout, cancelled)
        except OSError as error:
            raise ProvisionError(f"the node {address.endpoint} does not answer: {error}; does it run?") from error
        return Launched(
            ident=f"{address.endpoint} {index}",
            endpoint=address.endpoint,
            public_key=address.key,
            address=host,
            private_address=host,
        )
