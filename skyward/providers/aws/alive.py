"""Signs of life: that a client lives is said where `garbage` looks for it, for as long as its provider is open."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from skyward.providers.aws import garbage, tags
from skyward.providers.aws.storage import Storage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from skyward.providers.aws.api import Api
    from skyward.providers.aws.tags import Owner


def say(api: Api, owner: Owner, groups: Iterable[str], nodes: Iterable[str]) -> None:
    """Say that the client lives at its own group, else in its folder or at its nodes; raises `CallFailed`."""
    if not groups and owner.bucket:
        Storage(api, owner).put("alive", b"")
    elif names := list(groups or nodes):
        mark = [{"Key": tags.ALIVE, "Value": str(int(time.time()))}]
        api.write("ec2", "create_tags", Resources=names, Tags=mark)


class SignsOfLife:
    """A thread that says it now and then."""

    def __init__(self, say: Callable[[], None]) -> None:
        """``say`` says it once, and raises nothing."""
        self._say = say
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin, unless it has begun; the first sign comes after `garbage.BEAT`. Not from two threads at once."""
        if self._thread is None:
            thread = threading.Thread(target=self._run, name="skyward-aws-alive", daemon=True)
            thread.start()
            self._thread = thread

    def _run(self) -> None:
        while not self._stop.wait(garbage.BEAT):
            self._say()

    def stop(self) -> None:
        """End it, and return when none comes any more."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
