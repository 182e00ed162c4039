"""The contract between a pool and whatever its nodes come from.

A provider launches nodes and ends them. It knows nothing of tasks, sessions or links. All its methods
block; the pool calls them from threads of its own, several at once, so that nodes come up side by side.
Whatever a provider has started is gone when `Provider.close` returns, in whatever state it was, unless the launch
said that it shall persist. Such a node is ended later by a provider of the same kind and settings in another
process: all that `Provider.terminate` needs to know of it stands in its `Launched`.

`skyward.testing.PROVIDER_CHECKS` checks an implementation against this contract.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Final

from skyward.errors import ProvisionError
from skyward.frozen import Frozen, field
from skyward.image import Image
from skyward.model import NodeConfig

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Collection
    from typing import Self

    from skyward.config import Options
    from skyward.model import Executor, Nodes
    from skyward.transport.keys import KeyPair


KEYS: Final = "keys"  # directory of keys of a node that persists, named from the one that it has on its machine


class LaunchSpec(Frozen, kw_only=True):
    """What a pool wants each of its nodes to be. Times are seconds, sizes bytes."""

    concurrency: int = 1
    executor: Executor = "process"
    reuse_processes: bool = True
    lease: float = 30.0
    max_payload: int = 0  # of one result; 0: half of the node's available memory
    start_timeout: float = 60.0
    nodes: int = 1  # how many the pool aims at: nodes that share a machine share its CPUs
    image: Image = field(default_factory=Image)  # what tasks need there
    log_level: str = "warning"
    client_key: str = ""  # the pool's public key, which the node has to admit
    clients: tuple[tuple[str, str], ...] = ()  # public keys and labels of others that a persisting node admits
    persist: bool = False  # the node outlives whoever launches it: it waits for clients, and `Provider.close` leaves it
    mesh: str = ""  # the name of the mesh that a persisting node belongs to: nodes are marked with it, see `sweep`

    def node_config(self, **more: Any) -> NodeConfig:
        """Return what a node's daemon is told of this; ``more`` are the fields that depend on where it runs."""
        return NodeConfig(
            client_keys=(self.client_key,) if self.client_key else (),
            concurrency=self.concurrency,
            executor=self.executor,
            reuse_processes=self.reuse_processes,
            lease=self.lease,
            max_payload=self.max_payload,
            log_level=self.log_level,
            clients=self.clients,
            env=dict(self.image.env),
            **more,
        )

    @classmethod
    def of(
        cls, options: Options, nodes: int, *, provider: Provider, image: Image | None = None, client_key: str = ""
    ) -> LaunchSpec:
        """Return the spec of a pool with these options that aims at so many nodes of this provider."""
        return cls(
            concurrency=options.worker.concurrency,
            executor=options.worker.executor,
            reuse_processes=options.worker.reuse_processes,
            lease=options.lease_time(),
            max_payload=int(options.max_payload or 0),
            start_timeout=provider.start_timeout if options.start_timeout is None else options.start_timeout,
            nodes=max(1, nodes),
            image=image or Image(),
            client_key=client_key,
        )


class Launched(Frozen, kw_only=True):
    """A node that serves."""

    ident: str  # unique within its provider
    endpoint: str  # where the client connects
    public_key: str = ""  # of the node's CURVE key; "" on links that need none
    pid: int | None = None  # if it is a process of this machine
    death_fd: int | None = None  # becomes readable when the node dies; the provider closes it in `terminate`
    address: str = "127.0.0.1"  # numeric: it is dialled by a thread that must not wait for a name
    private_address: str = "127.0.0.1"  # how other nodes reach it


class Quote(Frozen):
    """What a launch would start, and what that costs."""

    text: str = ""  # for people, as "4 × c7i.large in eu-central-1, on demand"
    hourly: float = 0.0  # US dollars an hour for all of it; 0: it costs nothing; nan: nobody knows what


class Provider(ABC):
    """Launches nodes for one pool and ends them."""

    name: ClassVar[str]
    paths: ClassVar[tuple[str, ...]] = ()  # arguments that are files: skyward.toml names them from where it is
    launches: ClassVar[bool] = True  # its nodes begin and end with it; else they run already, and run on
    log_pause: ClassVar[float] = 0.3  # seconds between looks at a log that somebody follows
    start_timeout: ClassVar[float] = 60.0  # seconds that a node may take if nobody says how long
    shares_memory: bool = False  # its nodes are processes of this machine: they and we can read each other's memory
    listener: Callable[[str], None] | None = None  # hears how launches go on; must not block

    @abstractmethod
    def for_pool(self) -> Self:
        """Return an unused provider with the same settings: each pool uses one of its own."""

    def tell(self, line: str) -> None:
        """Tell whoever listens how a launch goes on, in a line for people, from any thread."""
        if self.listener is not None:
            self.listener(line)

    def default_nodes(self) -> Nodes | None:
        """Return how many nodes a pool has that does not say so, or None if it has to."""
        return None

    def check_nodes(self, nodes: Nodes) -> None:  # noqa: B027 - most providers can have any number
        """Raise `ConfigError` if it is known that there cannot be so many nodes; when they are asked for."""

    def keys(self) -> KeyPair | None:
        """Return who the pool is to nodes behind CURVE; None if it never meets one. After `prepare`."""
        return None

    def accept(self, image: Image) -> None:
        """Raise `ProvisionError`, which says what to do, if nodes cannot have what the image describes.

        Before `prepare`. This one accepts no image that asks for anything: for nodes that are as they are.
        """
        if not image.is_empty:
            raise ProvisionError(f"nodes of {self!r} run already, and are as they are: leave out {image!r}")

    @abstractmethod
    def prepare(self) -> None:
        """Do once, in the thread that opens the pool, what all launches need; raises `ProvisionError`."""

    @abstractmethod
    def launch(self, spec: LaunchSpec, index: int, cancelled: threading.Event) -> Launched:
        """Start a node and return when it serves. ``index`` is different for each launch of a pool.

        Raises `ProvisionError`, which names what was waited for and has the last lines of the node's log, if
        it cannot, if ``spec.start_timeout`` seconds have passed, or soon after ``cancelled`` is set. Nothing of
        the node is left then.
        """

    @abstractmethod
    def terminate(self, launched: Launched) -> None:
        """End a node, by force if it does not obey, and return when it is gone. Doing it again does nothing."""

    @abstractmethod
    def log_tail(self, launched: Launched) -> tuple[str, ...]:
        """Return the last lines of a node's log, also of one that ended not long ago; () if they are out of reach."""

    def read_log(self, launched: Launched) -> tuple[str, ...]:
        """Return what `log_tail` does, for somebody who asks for it; raises `SkywardError` if it is out of reach."""
        return self.log_tail(launched)

    @abstractmethod
    def close(self) -> None:
        """End all nodes and leave nothing behind. Doing it again does nothing; launching then is refused."""

    # --- meshes: nodes that persist, looked after by commands that come and go ------------------
    # These, and `terminate` and `read_log` of such nodes, work on a provider that has just been made: what `prepare`
    # does is for launches, and may cost money.

    def for_mesh(self, mesh: str) -> Self:
        """Return an unused provider with the same settings whose nodes belong to the mesh of this name."""
        return self.for_pool()

    def adopt(self, nodes: Collection[Launched]) -> None:  # noqa: B027 - most need not know
        """Take note of nodes of the same mesh that run already: more of them are to be launched."""

    def recipe(self) -> dict[str, Any] | None:
        """Return the arguments that make a provider which can end these nodes, wherever and whenever; None: the same.

        For what depends on the environment of a process, such as a region. JSON, and nothing secret.
        """
        return None

    @classmethod
    def remembered(cls) -> list[dict[str, Any]]:
        """Return the arguments of providers that would find what programs of this machine have left behind."""
        return []

    def quote(self, spec: LaunchSpec, count: int) -> Quote:
        """Return what ``count`` nodes would be and cost; raises `ProvisionError`. It starts nothing."""
        return Quote()

    def sweep(self, mesh: str = "", *, keep: Collection[str] = (), dry_run: bool = False) -> tuple[str, ...]:
        """End what is left of nodes, found by their marks alone; return a line for each thing that is gone.

        With ``mesh`` all that belongs to the mesh of that name, or if ``keep`` has idents of nodes, the other nodes of
        it; without it all that nobody looks after any more, which what belongs to the meshes named in ``keep`` is not.
        ``dry_run`` ends nothing. Doing it again does nothing.
        Raises `ProvisionError` if something cannot be ended.
        """
        return ()

    def undo(self, mesh: str) -> tuple[str, ...]:
        """End what launches of this very provider may have left of a mesh; as `sweep`, and it need not look elsewhere.

        Where no launch came far enough to leave anything nothing is asked: that may be what cannot be reached.
        """
        return self.sweep(mesh)
