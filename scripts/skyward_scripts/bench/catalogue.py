"""Who takes part: skyward, references in plain pyzmq, and peers. Pure.

Versions of peers are pinned: figures of two runs can be compared only if they measure the same thing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from skyward_scripts.bench.contestant import find, has_operation

if TYPE_CHECKING:
    from skyward_scripts.bench.workloads import Workload

Kind = Literal["skyward", "reference", "peer"]
Origin = Literal["plain module", "marked module", "marked script"]

NUMPY: Final = "numpy==2.4.6"
HERE: Final = "skyward_scripts.bench"


@dataclass(frozen=True, slots=True)
class Entry:
    """One contestant."""

    name: str
    place: str  # of its class, as ``module:class`` below this package
    kind: Kind
    title: str
    peer: str = ""  # what ``--peer`` calls it, together with others of one library
    requirements: tuple[str, ...] = ()  # of its environment; none: it runs in that of skyward
    origin: Origin = "plain module"  # where the functions are that it calls
    restless: bool = False  # costs a CPU something while it idles, so it runs in its own turns only
    only: frozenset[str] | None = None  # workloads that it takes part in
    remarks: tuple[str, ...] = ()  # what a reader must know before comparing

    @property
    def where(self) -> str:
        """Return where its class is, in full."""
        return f"{HERE}.{self.place}"

    def takes_part(self, workload: Workload) -> bool:
        """Return whether it can do a workload and is meant to."""
        if self.only is not None and workload.name not in self.only:
            return False
        if workload.only is not None and self.name not in workload.only:
            return False
        return has_operation(find(self.where), workload.operation)


FATE: Final = "map: an item that fails loses the results of its chunk"
WHOLE: Final = "map: an item that fails loses the whole map"
BY_HAND: Final = "map: tasks of 2,500 items, made by hand; an item that fails loses its task"
ACTORS: Final = "balances load in stream and stragglers only, by an ActorPool: else each call goes to a given actor"
APPLY: Final = "balances no load of single calls: each is given to a worker when it is made"
ONE_MACHINE: Final = "lives on one machine only"
CALLS: Final = frozenset({"lone", "gather", "gather-1kB", "gather-mixed", "futures", "map", "values"})
LONE: Final = frozenset({"lone"})

SKYWARD: Final = (
    Entry("skyward", "ours:Skyward", "skyward", "skyward, functions from a module", origin="marked module"),
    Entry(
        "skyward-main", "ours:Skyward", "skyward", "skyward, functions from __main__",
        origin="marked script", only=CALLS,
    ),
    Entry("skyward-tcp", "ours:OverTcp", "skyward", "skyward over TCP with CURVE", origin="marked module"),
)  # fmt: skip

REFERENCES: Final = (
    Entry("zmq-one-leg", "references.legs:OneLeg", "reference", "plain pyzmq, one leg over ipc", only=LONE),
    Entry("zmq-one-leg-curve", "references.legs:OneLegCurve", "reference", "one leg over TCP, CURVE", only=LONE),
    Entry("zmq-two-legs", "references.legs:TwoLegs", "reference", "plain pyzmq, two legs over ipc", only=LONE),
    Entry("zmq-two-legs-tcp", "references.legs:TwoLegsTcp", "reference", "two legs over TCP", only=LONE),
    Entry("zmq-two-legs-curve", "references.legs:TwoLegsCurve", "reference", "two legs over TCP, CURVE", only=LONE),
    Entry(
        "zmq-mesh", "references.mesh:Mesh", "reference", "bare mesh, 64 tasks a message, slim futures",
        only=frozenset({"gather", "gather-1kB", "gather-mixed"}),
        remarks=("functions do not travel: workers are forked with theirs",),
    ),
    Entry("zmq-chunks", "references.bulk:Chunks", "reference", "messages of 1 MiB over TCP"),
    Entry("zmq-chunks-curve", "references.bulk:ChunksCurve", "reference", "messages of 1 MiB over TCP, CURVE"),
    Entry("zmq-yields", "references.yields:Yields", "reference", "values 256 a message, arrays one, over ipc"),
    Entry("shared-memory", "references.shared:Shared", "reference", "warm shared memory, handed over by ipc"),
)  # fmt: skip

PEERS: Final = (
    Entry(
        "executor", "peers.executor:Executor", "peer", "ProcessPoolExecutor, map in its default chunks of 1",
        peer="executor", remarks=(ONE_MACHINE,),
    ),
    Entry(
        "executor-chunks", "peers.executor:ExecutorChunks", "peer", "ProcessPoolExecutor, map in chunks of 2,500",
        peer="executor", only=frozenset({"map"}), remarks=(ONE_MACHINE, FATE),
    ),
    Entry(
        "multiprocessing", "peers.pool:MultiprocessingPool", "peer", "multiprocessing.Pool, map in its best chunks",
        peer="multiprocessing", remarks=(ONE_MACHINE, WHOLE, "a call whose worker dies never ends"),
    ),
    Entry(
        "loky", "peers.loky:Loky", "peer", "loky", peer="loky", requirements=("loky==3.7.0", NUMPY),
        remarks=(ONE_MACHINE, FATE),
    ),
    Entry(
        "joblib", "peers.joblib:Joblib", "peer", "joblib", peer="joblib", requirements=("joblib==1.6.0", NUMPY),
        remarks=(ONE_MACHINE, "a call that fails loses all others of its Parallel(...)(...), mapped or not"),
    ),
    Entry(
        "mpire", "peers.mpire:Mpire", "peer", "mpire", peer="mpire", requirements=("mpire==2.10.2", NUMPY),
        restless=True, remarks=(ONE_MACHINE, WHOLE, APPLY),
    ),
    Entry(
        "ray", "peers.ray:Tasks", "peer", "Ray, tasks", peer="ray", requirements=("ray==2.60.0", NUMPY),
        restless=True, remarks=(BY_HAND,),
    ),
    Entry(
        "ray-actors", "peers.ray:Actors", "peer", "Ray, actors", peer="ray", requirements=("ray==2.60.0", NUMPY),
        restless=True, remarks=(ACTORS,),
    ),
    Entry(
        "dask", "peers.dask:Dask", "peer", "dask.distributed", peer="dask",
        requirements=("distributed==2026.8.0", NUMPY), restless=True, remarks=(BY_HAND,),
    ),
    Entry(
        "ipyparallel", "peers.ipyparallel:IPyParallel", "peer", "ipyparallel", peer="ipyparallel",
        requirements=("ipyparallel==9.2.0", NUMPY), restless=True, remarks=(FATE,),
    ),
    Entry(
        "parsl", "peers.parsl:Parsl", "peer", "Parsl HTEX", peer="parsl",
        requirements=("parsl==2026.10.26", NUMPY), restless=True,
    ),
)  # fmt: skip

PEER_NAMES: Final = tuple(dict.fromkeys(entry.peer for entry in PEERS))
CHART: Final = ("matplotlib==3.11.2",)


def choose(peers: tuple[str, ...] | None) -> tuple[Entry, ...]:
    """Return skyward, the references, and the peers of these names; all peers if that is None."""
    chosen = PEER_NAMES if peers is None else peers
    return (*SKYWARD, *REFERENCES, *(entry for entry in PEERS if entry.peer in chosen))
