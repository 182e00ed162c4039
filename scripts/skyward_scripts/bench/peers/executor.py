"""`concurrent.futures.ProcessPoolExecutor`, and loky's, which is one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from skyward_scripts.bench.contestant import Submitting, completed

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from concurrent.futures import Executor as AnyExecutor

    from skyward_scripts.bench.contestant import Call, Task

CHUNK = 2_500  # items: what a user finds who tries a few


class Submitter(Submitting):
    """What the executors share."""

    chunk: ClassVar[int] = CHUNK
    pool: AnyExecutor

    def close(self) -> None:
        """Shut it down."""
        self.pool.shutdown(cancel_futures=True)

    def submit(self, task: Task, item: Any) -> Any:
        """Submit a call."""
        return self.pool.submit(task, item)

    def futures(self, calls: Sequence[Call]) -> Sequence[Any]:
        """Do what a gather does: there is nothing else."""
        return self.gather(calls)

    def map(self, task: Task, items: Sequence[Any]) -> Sequence[Any]:
        """Map in chunks."""
        return list(self.pool.map(task, items, chunksize=self.chunk))

    def stream(self, task: Task, items: Sequence[Any]) -> Iterable[Any]:
        """Submit all, then wait for whichever is next."""
        return completed([self.pool.submit(task, item) for item in items])


class Executor(Submitter):
    """The standard library's, with the chunk size that its map has by default."""

    chunk: ClassVar[int] = 1
    maps_in_chunks: ClassVar[bool] = False

    def open(self, workers: int) -> None:
        """Make the executor; its workers are forked with the first call."""
        from concurrent.futures import ProcessPoolExecutor

        self.pool = ProcessPoolExecutor(workers)


class ExecutorChunks(Executor):
    """The same with a chunk size for its map."""

    chunk: ClassVar[int] = CHUNK
    maps_in_chunks: ClassVar[bool] = True
