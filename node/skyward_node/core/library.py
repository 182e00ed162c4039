"""The code a session has sent: functions and the module sources they need.

The node never looks inside. Tasks hold their function's code, and the library finds it by its key for as long as
anybody does. Beside that it keeps what was used last, so that a fresh worker can be given what it lacks without asking
the client again; of what it has given up, the client is asked when a task needs it.

Invariant: a `Code` is ``ready`` exactly when its own message and all its modules are here.
PURE: no sockets, no clock.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakValueDictionary

from skyward.dispatch.pace import Pace
from skyward.wire.frames import size_of
from skyward.wire.messages import Function, Module
from skyward.wire.shelf import NODE, Shelf

if TYPE_CHECKING:
    from collections.abc import Sequence

    from skyward.wire.frames import Buffer
    from skyward.wire.messages import Message
    from skyward_node.core.tasks import Task

FLOOR: Final = 4.0  # µs that even an empty task costs a worker

Part = tuple["Message", "Sequence[Buffer]"]


class Source:
    """One module of a session."""

    __slots__ = ("__weakref__", "body", "message", "size")

    def __init__(self, message: Module, body: Sequence[Buffer]) -> None:
        self.message = Module(0, message.key, message.name)
        self.body = body
        self.size = size_of(body)


class Code:
    """One function of a session."""

    __slots__ = (
        "__weakref__", "asked", "body", "cost", "held", "key", "message", "name", "pace", "ready", "size", "sources",
        "streams",
    )  # fmt: skip

    def __init__(self, key: bytes) -> None:
        self.key = key
        self.name = key.hex()[:8]
        self.message: Function | None = None
        self.body: Sequence[Buffer] = ()
        self.size = 0  # bytes, without its modules
        self.sources: list[Source] = []
        self.ready = False
        self.asked = False
        self.held: list[Task] = []  # tasks that wait for it
        self.cost = inf  # expected µs of a task; inf: nothing has run yet, or it cannot be told
        self.pace = Pace()
        self.streams = False

    def stream(self) -> None:
        """Note that its tasks have streams: how long one takes is up to who is at the other end."""
        self.streams = True
        self.cost = inf

    def observe(self, mean: float) -> None:
        """Take in the mean duration (µs) of a batch of tasks."""
        if self.streams:
            return
        self.cost = max(self.pace.observe(mean), FLOOR)

    def put_on(self, shelf: Shelf[Any], item: Any = True) -> None:
        """Put the function on a shelf, or note there that it is used."""
        shelf.put(self.key, item, self.size, [(source.message.key, source.size) for source in self.sources])

    def parts(self, shelf: Shelf[Any]) -> list[Part]:
        """Return what somebody lacks for the function who has what is on the ``shelf``, modules first; put it there."""
        if self.message is None:
            raise ValueError(f"{self.name} is not ready")  # our bug: its tasks are held until it is
        lacking = [source for source in self.sources if not shelf.has_module(source.message.key)]
        self.put_on(shelf)
        return [*((source.message, source.body) for source in lacking), (self.message, self.body)]


FORGOTTEN: Final = Code(b"")  # of tasks that have ended and are still in a queue, or in a timer's hands


class Library:
    """All code of one session."""

    __slots__ = ("_codes", "_recent", "_sources")

    def __init__(self) -> None:
        # Both know what others hold: tasks, and the shelf.
        self._codes: WeakValueDictionary[bytes, Code] = WeakValueDictionary()
        self._sources: WeakValueDictionary[bytes, Source] = WeakValueDictionary()
        self._recent: Shelf[Code] = Shelf(NODE)

    def code(self, key: bytes) -> Code:
        """Return the function's entry, as one that is used now; made, not ready, if it is unknown."""
        code = self._recent.use(key)
        if code is not None:
            return code
        code = self._codes.get(key)
        if code is None:
            code = self._codes[key] = Code(key)
        elif code.ready:
            self._keep(code)
        return code

    def missing(self) -> list[bytes]:
        """Return the keys of functions that tasks wait for."""
        return [code.key for code in self._codes.values() if code.held]

    def add_module(self, message: Module, body: Sequence[Buffer]) -> Source:
        """Return a module source; whoever has brought it holds it until its function has come."""
        source = self._sources.get(message.key)
        if source is None:
            source = self._sources[message.key] = Source(message, body)
        return source

    def add_function(self, message: Function, body: Sequence[Buffer]) -> tuple[Code, list[bytes]]:
        """Keep a function; return its entry and the keys of modules that it lacks."""
        code = self.code(message.key)
        if code.ready:
            return code, []
        sources = [(key, self._sources.get(key)) for key in message.modules]
        if lacking := [key for key, source in sources if source is None]:
            return code, lacking
        code.name = message.name
        code.message = Function(0, message.key, message.modules, message.name)
        code.body = body
        code.size = size_of(body)
        code.sources = [source for _, source in sources if source is not None]
        code.ready = True
        self._keep(code)
        return code, []

    def _keep(self, code: Code) -> None:
        code.put_on(self._recent, code)
        self._recent.trim()
