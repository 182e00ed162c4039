"""Where code runs: the active pool, and the node and worker of a task.

Owns the abstract `Pool` that operators talk to, the stack of open pools, and the `InstanceInfo` of
this thread. It must not know how anything is sent; the daemon imports it.

A pool is *active* for the context (thread or asyncio task) that opened it, innermost first. A
context that opened none uses the most recently opened pool of the process. Pools may be closed in
any order and from any thread: a context finds the closed ones in its chain and skips them.
"""

from __future__ import annotations

import sys
from abc import abstractmethod
from contextvars import ContextVar
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeAlias, TypeVar, TypeVarTuple, overload

from skyward.errors import MisuseError, NoPoolError
from skyward.frozen import Frozen
from skyward.work.abbreviation import abbreviate
from skyward.work.absent import Absent, Hinting

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from skyward.answers.futures import Future
    from skyward.answers.streams import ResultStream
    from skyward.work.pending import PendingFunction, PendingFunctionGroup, PendingStream

A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
D = TypeVar("D")
T = TypeVar("T")
Ts = TypeVarTuple("Ts")


_MARKED: Final = "f is marked by @sky.function"


class Pool(Hinting):
    """What stands to the right of an operator."""

    __array_ufunc__ = None  # `array >> pool` is ours to refuse, not NumPy's to try on each element

    if not TYPE_CHECKING:  # for checkers `5 >> pool` is no operator at all
        submit = Absent(f"write f(x) > pool, which gives a future; {_MARKED}")
        apply = Absent(f"write f(x) >> pool; {_MARKED}")
        apply_async = Absent(f"write f(x) > pool, which gives a future; {_MARKED}")
        imap = Absent("write pool.map(f, items), which is lazy and in order")
        imap_unordered = Absent(
            "write sky.gather((f(x) for x in items), stream=True, ordered=False) >> pool, "
            f"or pool.map(f, items) for the order of the items; {_MARKED}"
        )
        starmap = Absent(
            "write pool.map(f, xs, ys), which takes an iterable for each argument, "
            f"or sky.gather(f(*args) for args in tuples) >> pool; {_MARKED}"
        )
        shutdown = Absent(
            "write pool.close(), which waits for all calls, or pool.close(cancel=True); leaving `with` closes it, too"
        )

        def __rrshift__(self, operand: object) -> Any:
            return _refuse_left(operand, ">>")

        def __lt__(self, operand: object) -> Any:
            return NotImplemented if isinstance(operand, Pool) else _refuse_left(operand, ">")

        def __rmatmul__(self, operand: object) -> Any:
            return _refuse_left(operand, "@")

    @abstractmethod
    def run(self, call: PendingFunction[T]) -> T:
        """Run the call on one node and return its value; ``call >> pool``."""

    @overload
    def run_async(self, call: PendingFunction[T]) -> Future[T]: ...
    @overload
    def run_async(self, call: PendingFunctionGroup[*Ts]) -> Future[tuple[*Ts]]: ...
    @abstractmethod
    def run_async(self, call: Any) -> Future[Any]:
        """Start a call or a group and return a future; ``call > pool``."""

    @abstractmethod
    def run_group(self, group: PendingFunctionGroup[*tuple[Any, ...]]) -> Any:
        """Run the calls of a group; a tuple of their values, or a stream; ``group >> pool``."""

    @abstractmethod
    def broadcast(self, call: PendingFunction[T]) -> list[T]:
        """Run the call once on every node that is ready; values in rank order; ``call @ pool``."""

    @overload
    def run_parallel(self, a: PendingFunction[A], b: PendingFunction[B], /) -> tuple[A, B]: ...
    @overload
    def run_parallel(
        self, a: PendingFunction[A], b: PendingFunction[B], c: PendingFunction[C], /
    ) -> tuple[A, B, C]: ...
    @overload
    def run_parallel(
        self, a: PendingFunction[A], b: PendingFunction[B], c: PendingFunction[C], d: PendingFunction[D], /
    ) -> tuple[A, B, C, D]: ...
    @overload
    def run_parallel(self, *calls: PendingFunction[T]) -> tuple[T, ...]: ...
    def run_parallel(self, *calls: PendingFunction[Any]) -> tuple[Any, ...]:
        """Run the calls at once and return the tuple of their values."""
        from skyward.work.gathering import gather  # the daemon imports this module, and gathers nothing

        values: tuple[Any, ...] = self.run_group(gather(*calls))
        return values

    def map(self, fn: Callable[..., T], *iterables: Iterable[Any]) -> Iterator[T]:
        """Return an iterator over ``fn(*args)`` for args from the zipped iterables, in order."""
        raise NotImplementedError(f"{type(self).__name__} cannot map")


def _refuse_left(operand: object, symbol: str) -> NoReturn:
    from skyward.work.mistakes import refuse_left  # which asks us what a pool is

    refuse_left(operand, symbol)


# --- the active pool -------------------------------------------------------------------------


Offer: TypeAlias = "Callable[[], Pool]"  # returns the same pool each time, which is made when it is first used


class Activation:
    """One opening of a pool: a link in its context's chain. What `activate` returns."""

    __slots__ = ("outer", "pool")

    def __init__(self, pool: Pool | Offer, outer: Activation | None) -> None:
        self.pool: Pool | Offer | None = pool  # None: it was closed
        self.outer = outer

    def __repr__(self) -> str:
        return f"<activation of {self.pool!r}>" if self.pool is not None else "<activation, over>"


_innermost: Final[ContextVar[Activation | None]] = ContextVar("skyward_active_pool", default=None)
# Of the whole process, oldest first. Changed by atomic operations alone: a lock could be held at a fork.
_opened: Final[list[Activation]] = []


def activate(pool: Pool | Offer) -> Activation:
    """Make the pool, or what is offered, the active one of this context, until `deactivate`."""
    activation = Activation(pool, _first_open(_innermost.get()))
    _innermost.set(activation)
    _opened.append(activation)
    return activation


def deactivate(activation: Activation, pool: Pool | Offer) -> None:
    """Undo `activate`; in any order, from any thread, and harmless when repeated.

    Raises `ValueError` when the activation is of another pool.
    """
    if activation.pool is None:
        return
    if activation.pool is not pool:
        raise ValueError(f"{activation!r} does not belong to {pool!r}")
    activation.pool = None  # contexts other than this one see it here
    _opened.remove(activation)
    _innermost.set(_first_open(_innermost.get()))


def _first_open(activation: Activation | None) -> Activation | None:
    while activation is not None and activation.pool is None:
        activation = activation.outer
    return activation


def active_pool() -> Pool:
    """Return the innermost pool opened in this context, else the newest of the process.

    Raises `NoPoolError` when there is none.
    """
    activation = _first_open(_innermost.get())
    if activation is not None and (pool := activation.pool) is not None:
        return _made(pool)
    for activation in reversed(_opened):
        if (pool := activation.pool) is not None:
            return _made(pool)
    raise NoPoolError(
        "there is no active pool: open one around this line with `with sky.Compute(nodes=2) as pool:` "
        "(in a notebook: `pool = sky.Compute(nodes=2).open()`)"
    )


def _made(pool: Pool | Offer) -> Pool:
    return pool if isinstance(pool, Pool) else pool()


class ActivePool(Pool):
    """Stands for whatever pool is active when it is used; ``sky.sky``."""

    @overload
    def run(self, call: PendingFunction[T]) -> T: ...
    @overload
    def run(  # type: ignore[overload-overlap]  # a stream is a group; that it gives no tuple is the difference
        self, call: PendingStream[T]
    ) -> ResultStream[T]: ...
    @overload
    def run(self, call: PendingFunctionGroup[*Ts]) -> tuple[*Ts]: ...
    def run(self, call: Any) -> Any:
        """Run a call on one node of the active pool and return its value, or run a group."""
        return active_pool().run(call)

    @overload
    def run_async(self, call: PendingFunction[T]) -> Future[T]: ...
    @overload
    def run_async(self, call: PendingFunctionGroup[*Ts]) -> Future[tuple[*Ts]]: ...
    def run_async(self, call: Any) -> Future[Any]:
        """Start a call or a group on the active pool and return a future."""
        return active_pool().run_async(call)

    def run_group(self, group: PendingFunctionGroup[*tuple[Any, ...]]) -> Any:
        """Run the calls of a group on the active pool."""
        return active_pool().run_group(group)

    def broadcast(self, call: PendingFunction[T]) -> list[T]:
        """Run the call on every node of the active pool."""
        return active_pool().broadcast(call)

    def map(self, fn: Callable[..., T], *iterables: Iterable[Any]) -> Iterator[T]:
        """Map on the active pool."""
        return active_pool().map(fn, *iterables)

    def __repr__(self) -> str:
        return "<sky: the active pool>"


sky: Final = ActivePool()

# The type of a pool operand; the one module that is allowed is `skyward`, for its active pool.
PoolOperand = Pool | ModuleType


def is_pool(operand: object) -> bool:
    """Return whether an operand means a pool, open or not."""
    return isinstance(operand, Pool) or operand is sys.modules.get("skyward", sky)


def resolve_pool(operand: object) -> Pool:
    """Return the pool that an operand means.

    Raises `TypeError` for what is no pool, `NoPoolError` for ``sky`` when no pool is active.
    """
    if operand is sky or operand is sys.modules.get("skyward"):
        return active_pool()
    if isinstance(operand, Pool):
        return operand
    got = f"{abbreviate(operand)} ({type(operand).__name__})"
    if isinstance(operand, type) and issubclass(operand, Pool):
        got = f"the class {operand.__name__}; open it: `with sky.{operand.__name__}() as pool:`"
    raise TypeError(f"a call runs on a pool, an open sky.Compute, or on `sky` for the active pool; got {got}")


# --- the place of a task ---------------------------------------------------------------------


class Peer(Frozen):
    """A node of the pool, as the tasks of all its nodes know it."""

    rank: int
    private_address: str  # reachable from the other nodes
    public_address: str  # reachable from the client


class InstanceInfo(Frozen):
    """Where a task runs. The defaults describe a pool of one node with one worker."""

    node: int  # rank, 0 to total_nodes - 1
    worker: int  # slot of this node, 0 to workers_per_node - 1
    total_nodes: int = 1  # one more than the highest rank; a node that is being replaced is counted, and is no peer
    workers_per_node: int = 1  # of this node
    job_id: str = ""  # the same for all tasks of a pool
    head_addr: str = "127.0.0.1"  # of rank 0, as the other nodes reach it
    head_port: int = 0  # free on the head when the pool opened: for a rendezvous of the tasks' own
    peers: tuple[Peer, ...] = ()  # all nodes, this one too, by rank
    hostname: str = ""
    global_worker_index: int = 0  # 0 to total_workers - 1
    total_workers: int = 1
    accelerators: tuple[str, ...] = ()  # that this worker may use

    @property
    def is_head(self) -> bool:
        """Return whether this is the node of rank 0."""
        return self.node == 0


_instance: Final[ContextVar[InstanceInfo | None]] = ContextVar("skyward_instance", default=None)
_process_instance: InstanceInfo | None = None  # for threads that tasks start: their contexts are empty


def set_instance(info: InstanceInfo | None) -> None:
    """Say where tasks of this context run; also for threads of the process that were never told."""
    global _process_instance  # noqa: PLW0603 - a worker process is told once, and there is one answer
    _process_instance = info
    _instance.set(info)


def instance_info() -> InstanceInfo | None:
    """Return where this task runs, or None outside a pool."""
    return _instance.get() or _process_instance


def refuse_in_import() -> None:
    """Raise `MisuseError` if a pool is opened by a module that a task has made its worker import.

    The module of a function is imported by every worker that runs it: each would open a pool, whose workers would.
    """
    if instance_info() is None:
        return
    from inspect import currentframe  # which takes its time to import, and is there in a worker

    frame = currentframe()
    while frame is not None:
        if frame.f_code.co_name == "<module>" and _is_being_imported(frame.f_globals):
            raise MisuseError(
                f"{frame.f_globals['__name__']} opens a pool when it is imported, and every worker that runs its "
                'functions imports it: put what opens the pool under `if __name__ == "__main__":`, or into a function'
            )
        frame = frame.f_back


def _is_being_imported(namespace: dict[str, Any]) -> bool:
    return getattr(namespace.get("__spec__"), "_initializing", False) is True
