"""What a contestant can do. It lives in a process of its own, where `runner` opens it and `measures` use it.

An operation that a contestant does not define is one it does not take part in. Tasks are functions of one
argument, so that every library can call them alike.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    Task = Callable[[Any], Any]
    Call = tuple[Task, Any]


class Contestant:
    """Base of all: it can do nothing."""

    maps_in_chunks: ClassVar[bool] = True  # else its map is timed with as many items as its pace allows

    def open(self, workers: int) -> None:
        """Start so many workers, and return when calls may be made."""

    def close(self) -> None:
        """End whatever was started."""

    def call(self, task: Task, item: Any) -> Any:
        """Run one call and return its value."""
        self._lacks("call")

    def gather(self, calls: Sequence[Call]) -> Sequence[Any]:
        """Run independent calls, each with a result and an error of its own; return the values in order."""
        self._lacks("gather")

    def futures(self, calls: Sequence[Call]) -> Sequence[Any]:
        """Do the same, with a future for each call in the user's hands."""
        self._lacks("futures")

    def map(self, task: Task, items: Sequence[Any]) -> Sequence[Any]:
        """Apply a task to many items in whatever chunks suit best; return the values in order."""
        self._lacks("map")

    def tune_map(self, task: Task, items: Sequence[Any]) -> None:
        """Find the best settings for such a map, where the library leaves them to its user."""

    def stream(self, task: Task, items: Sequence[Any]) -> Iterable[Any]:
        """Run independent calls and give their values as they come."""
        self._lacks("stream")

    def uneven(self, task: Task, items: Sequence[Any]) -> Sequence[Any]:
        """Run independent calls of very different length, by whatever means balances load best."""
        self._lacks("uneven")

    def send(self, task: Task, array: Any) -> Any:
        """Run a call that takes an array; return its value."""
        self._lacks("send")

    def fetch(self, task: Task, length: int) -> Any:
        """Run a call whose value is an array of that length; return the array."""
        self._lacks("fetch")

    def to_each(self, task: Task, array: Any, workers: int) -> Sequence[Any]:
        """Run a call that takes an array on each worker; return the values."""
        self._lacks("to_each")

    def iterate(self, task: Task, item: Any) -> Iterable[Any]:
        """Run a call that yields, and give what it yields, as it does; values are as they were when yielded."""
        self._lacks("iterate")

    def describe(self, calls: Sequence[Call]) -> Any:
        """Return the call objects that a user makes before dispatch, where there are such."""
        return calls

    def hold_gather(self, described: Any) -> Any:
        """Dispatch described calls that cannot run yet, as a gather; return what has to be kept."""
        self._lacks("hold_gather")

    def hold_futures(self, described: Any) -> Any:
        """Dispatch them one by one; return what has to be kept."""
        self._lacks("hold_futures")

    def release(self, held: Any) -> None:
        """Wait for what was held, which may run now, if that is needed for a clean end."""

    def import_names(self) -> tuple[str, str]:
        """Return two statements: one that imports the library, one that also loads what every program uses."""
        self._lacks("import_names")

    def _lacks(self, operation: str) -> NoReturn:
        raise NotImplementedError(f"{type(self).__name__} has no {operation}")


class Library(Contestant):
    """What any library that runs calls can do, if it has no better way."""

    def uneven(self, task: Task, items: Sequence[Any]) -> Sequence[Any]:
        """Gather them."""
        return self.gather([(task, item) for item in items])

    def send(self, task: Task, array: Any) -> Any:
        """Run a call that takes an array; return its value."""
        return self.call(task, array)

    def fetch(self, task: Task, length: int) -> Any:
        """Run a call whose value is an array; return the array."""
        return self.call(task, length)


class Submitting(Library):
    """A library whose calls are submitted one by one, each for a future."""

    def submit(self, task: Task, item: Any) -> Any:
        """Start a call and return its future."""
        self._lacks("submit")

    def result(self, future: Any) -> Any:
        """Wait for a future's value."""
        return future.result()

    def call(self, task: Task, item: Any) -> Any:
        """Submit, and wait."""
        return self.result(self.submit(task, item))

    def gather(self, calls: Sequence[Call]) -> Sequence[Any]:
        """Submit all, then wait for each."""
        submit, result = self.submit, self.result
        return [result(future) for future in [submit(task, item) for task, item in calls]]

    def to_each(self, task: Task, array: Any, workers: int) -> Sequence[Any]:
        """Submit one for each worker, and wait for all."""
        return self.gather([(task, array)] * workers)

    def hold_futures(self, described: Any) -> Any:
        """Submit all, and keep the futures."""
        return [self.submit(task, item) for task, item in described]


def has_operation(kind: type[Contestant], operation: str) -> bool:
    """Return whether a contestant defines an operation."""
    return getattr(kind, operation) is not getattr(Contestant, operation)


def find(place: str) -> type[Contestant]:
    """Return the class that ``module:name`` means."""
    module, _, name = place.partition(":")
    kind: type[Contestant] = getattr(import_module(module), name)
    return kind


def completed(futures: Iterable[Any]) -> Iterator[Any]:
    """Give the values of `concurrent.futures` futures as they come."""
    from concurrent.futures import as_completed

    return (future.result() for future in as_completed(futures))
