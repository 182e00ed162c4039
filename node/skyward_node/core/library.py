"""The code a session has sent: functions and the module sources they need.

The node never looks inside. It keeps code for the life of the session, so that a fresh worker can be
given what it lacks without asking the client again, and it holds the tasks whose code has not come.

Invariant: a `Code` is ``ready`` exactly when its own message and all its modules are here.
PURE: no sockets, no clock.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Final

from skyward.wire.messages import Function, Module

if TYPE_CHECKING:
    from collections.abc import Sequence

    from skyward.wire.frames import Buffer
    from skyward.wire.messages import Message
    from skyward_node.core.tasks import Task

WEIGHT: Final = 0.25  # of the newest batch in the moving average: a change shows after about 4 batches
FLOOR: Final = 4.0  # µs that even an empty task costs a worker

Part = tuple["Message", "Sequence[Buffer]"]


class Code:
    """One function of a session."""

    __slots__ = ("asked", "body", "cost", "held", "key", "message", "modules", "name", "ready", "streams")

    def __init__(self, key: bytes) -> None:
        self.key = key
        self.name = key.hex()[:8]
        self.message: Function | None = None
        self.body: Sequence[Buffer] = ()
        self.modules: list[bytes] = []
        self.ready = False
        self.asked = False
        self.held: list[Task] = []  # tasks that wait for it
        self.cost = inf  # expected µs of a task; inf: nothing has run yet, or it cannot be told
        self.streams = False

    def stream(self) -> None:
        """Note that its tasks have streams: how long one takes is up to who is at the other end."""
        self.streams = True
        self.cost = inf

    def observe(self, mean: float) -> None:
        """Take in the mean duration (µs) of a batch of tasks."""
        if self.streams:
            return
        known = self.cost
        self.cost = max(mean if known == inf else known + WEIGHT * (mean - known), FLOOR)


class Library:
    """All code of one session."""

    __slots__ = ("_codes", "_modules")

    def __init__(self) -> None:
        self._codes: dict[bytes, Code] = {}
        self._modules: dict[bytes, Part] = {}

    def code(self, key: bytes) -> Code:
        """Return the function's entry; made, not ready, if it is unknown."""
        code = self._codes.get(key)
        if code is None:
            code = self._codes[key] = Code(key)
        return code

    def missing(self) -> list[bytes]:
        """Return the keys of functions that tasks wait for."""
        return [code.key for code in self._codes.values() if code.held]

    def add_module(self, message: Module, body: Sequence[Buffer]) -> None:
        """Keep a module source."""
        self._modules.setdefault(message.key, (Module(0, message.key, message.name), body))

    def add_function(self, message: Function, body: Sequence[Buffer]) -> tuple[Code, list[bytes]]:
        """Keep a function; return its entry and the keys of modules that it lacks."""
        code = self.code(message.key)
        lacking = [key for key in message.modules if key not in self._modules]
        if not lacking and not code.ready:
            code.name = message.name
            code.message = Function(0, message.key, message.modules, message.name)
            code.body = body
            code.modules = message.modules
            code.ready = True
        return code, lacking

    def parts(self, code: Code, known: set[bytes]) -> list[Part]:
        """Return what a worker that knows ``known`` lacks for the function, modules first; update ``known``."""
        if code.message is None:
            raise ValueError(f"{code.name} is not ready")  # our bug: its tasks are held until it is
        keys = [key for key in code.modules if key not in known]
        known.update(keys)
        known.add(code.key)
        return [*(self._modules[key] for key in keys), (code.message, code.body)]
