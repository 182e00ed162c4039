"""Whoever is told how it goes while nodes of a mesh come and go."""

from __future__ import annotations

from contextlib import suppress


class Teller:
    """Whoever is told how it goes. This one hears nothing."""

    def say(self, line: str) -> None:
        """Something has happened."""

    def alert(self, line: str) -> None:
        """What was asked for will not be; to be said at once, also to somebody who keeps what `say` says."""
        self.say(line)

    def waiting(self, text: str) -> None:
        """Something is waited for; said again and again."""


class Anyway(Teller):
    """Tells another what it can: nothing is left behind because nobody reads what is said about it any more."""

    def __init__(self, teller: Teller) -> None:
        self._teller = teller

    def say(self, line: str) -> None:
        """Say it, if that is possible."""
        with suppress(OSError):
            self._teller.say(line)

    def alert(self, line: str) -> None:
        """Say it, if that is possible."""
        with suppress(OSError):
            self._teller.alert(line)

    def waiting(self, text: str) -> None:
        """Say it, if that is possible."""
        with suppress(OSError):
            self._teller.waiting(text)
