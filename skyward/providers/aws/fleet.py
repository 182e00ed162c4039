"""The instances of one provider: what is being launched, what stands, what has ended, and what ends with it.

A fleet is open until it is closed, once. While it is open launches begin, and add what they have launched. Closing
waits for those that have begun; an instance that one of them still gets is not taken, and the launch ends it again.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Final

from skyward.errors import ProvisionError

if TYPE_CHECKING:
    from skyward.providers.aws.launching import Launching

FRESH: Final = 60.0  # seconds after its launch in which EC2 may not know an instance


class Fleet:
    """Instances by their ids. Thread-safe; it calls nothing of EC2."""

    def __init__(self, *, outlives: bool) -> None:
        """``outlives``: what these instances need is not theirs alone, or may outlive the provider."""
        self.outlives = outlives
        self._changed = threading.Condition()  # of all that follows; notified when a launch is over
        self._closing = False
        self._launches: set[Launching] = set()
        self._launched: dict[str, tuple[str, float]] = {}  # token, and when it was launched
        self._mortal: set[str] = set()  # end with the provider
        self._ended: set[str] = set()

    def begin(self, launching: Launching, *, persist: bool) -> None:
        """Count a launch as under way; raises `ProvisionError` once the fleet is closed."""
        with self._changed:
            if self._closing:
                raise ProvisionError("this provider was closed with its pool; make another one")
            self.outlives = self.outlives or persist
            self._launches.add(launching)

    def finish(self, launching: Launching) -> None:
        """A launch is over, well or not."""
        with self._changed:
            self._launches.discard(launching)
            self._changed.notify_all()

    def add(self, ident: str, token: str, *, persist: bool) -> None:
        """Take what a launch has launched; raises `ProvisionError` if nobody wants it any more."""
        with self._changed:
            self._launched[ident] = token, time.monotonic()
            if not persist:
                self._mortal.add(ident)
            if self._closing:
                raise ProvisionError("its pool was closed")

    def end(self, ident: str) -> None:
        """An instance, of this provider or of another, has been ended."""
        with self._changed:
            self._ended.add(ident)

    def token(self, ident: str) -> str:
        """Return the token by which this provider asked for an instance; "" if another did."""
        return self._launched.get(ident, ("", 0.0))[0]

    def is_fresh(self, ident: str) -> bool:
        """Whether EC2 may not know the instance yet."""
        return ident in self._launched and time.monotonic() - self._launched[ident][1] < FRESH

    def standing(self) -> list[str]:
        """Return what was launched and has not been ended."""
        with self._changed:
            return sorted(self._launched.keys() - self._ended)

    def mortal(self) -> set[str]:
        """Return what has to end with the provider, and has not ended yet."""
        with self._changed:
            return self._mortal - self._ended

    def close(self) -> bool:
        """Let no launch begin, and return when none is under way; false if somebody has done so before."""
        with self._changed:
            if self._closing:
                return False
            self._closing = True
            for launching in self._launches:
                launching.unwanted = True
            return self._changed.wait_for(lambda: not self._launches)
