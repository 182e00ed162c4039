"""Calls of AWS seen in order, and made to fail: hooks of botocore on the clients of one session.

A *call* is an operation and how often it was called before: ``RunInstances 0`` is the first. What happens at it:

    before    AWS refuses: nothing was done
    after     AWS has done it, and answers with an error
    throttle  AWS refuses for now: nothing was done
    timeout   AWS has done it, and no answer comes
    kill      AWS has done it, and this process is killed
"""

from __future__ import annotations

import os
import signal
import threading
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from botocore.awsrequest import AWSResponse
from botocore.exceptions import ClientError, ReadTimeoutError

if TYPE_CHECKING:
    from collections.abc import Callable

MODES: Final = ("before", "after", "throttle", "timeout", "kill")


def refusal(code: str, status: int = 400, words: str = "made up for a test") -> tuple[Any, dict[str, Any]]:
    """Return an answer of AWS that is an error."""
    answer = {"Error": {"Code": code, "Message": words}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return AWSResponse("", status, {}, None), answer  # type: ignore[arg-type]  # nobody reads its body


class Faults:
    """Records all calls of a session, and lets one of them fail. ``always``: each of that operation from then on."""

    def __init__(self, operation: str = "", number: int = 0, mode: str = "", *, always: bool = False) -> None:
        self.calls: list[str] = []
        self.arguments: list[tuple[str, dict[str, Any]]] = []
        self.happened = False
        self.refuse: Callable[[str, dict[str, Any]], str] = lambda operation, arguments: ""  # a code, or nothing
        self._counts: Counter[str] = Counter()
        self._fault = (operation, number, mode)
        self._always = always
        self._lock = threading.Lock()
        self._due = threading.local()

    def watch(self, client: Any) -> Any:
        """Watch a client, and return it."""
        client.meta.events.register("before-parameter-build", self._asked)
        client.meta.events.register("before-call", self._before)
        client.meta.events.register("after-call", self._after)
        return client

    def _asked(self, params: dict[str, Any], model: Any, **_: Any) -> None:
        with self._lock:
            self.arguments.append((model.name, dict(params)))

    def _before(self, model: Any, params: dict[str, Any], **_: Any) -> Any:
        name = str(model.name)
        operation, number, mode = self._fault
        with self._lock:
            count = self._counts[name]
            self._counts[name] += 1
            self.calls.append(name)
            due = name == operation and (count >= number if self._always else count == number)
            self.happened = self.happened or due
        self._due.mode = mode if due else ""
        if code := self.refuse(name, params):
            return refusal(code)
        if due and mode == "before":
            return refusal("InvalidParameterCombination")
        if due and mode == "throttle":
            return refusal("SlowDown" if name.endswith(("Object", "Objects")) else "RequestLimitExceeded", 503)
        return None

    def _after(self, model: Any, **_: Any) -> None:
        mode = getattr(self._due, "mode", "")
        if mode == "after":
            raise ClientError(refusal("InternalError", 500)[1], model.name)  # type: ignore[arg-type]  # a dict
        if mode == "timeout":
            raise ReadTimeoutError(endpoint_url="http://made.up")
        if mode == "kill":
            os.kill(os.getpid(), signal.SIGKILL)

    def cases(self, most: int | None = None) -> list[tuple[str, int]]:
        """Return all calls that were made, each with its number; of one operation at most so many."""
        counts: Counter[str] = Counter()
        found: list[tuple[str, int]] = []
        for name in self.calls:
            if most is None or counts[name] < most:
                found.append((name, counts[name]))
            counts[name] += 1
        return found
