"""What people see: aligned plain lines, or tables and a spinner where there is a terminal. JSON is for programs."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Any, Final

import click

from skyward.meshes.telling import Teller

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import AbstractContextManager
    from types import TracebackType
    from typing import Self

FIRST_WORD: Final = 5.0  # seconds of waiting after which a plain line says so; each next one takes twice as long
GAP: Final = "  "  # between columns


def as_json(value: Any) -> None:
    """Print a value for programs."""
    click.echo(json.dumps(value, indent=2, default=list))


def is_terminal() -> bool:
    """Return whether somebody looks at what is printed."""
    return sys.stdout.isatty()


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], *, whole: bool = False) -> None:
    """Print a table; ``whole``: its cells are there to be copied, so that none may go on in the next line."""
    if is_terminal():
        _rich_table(heads, rows, whole=whole)
    else:
        click.echo("\n".join(lines_of(heads, rows)))


def lines_of(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield a table as aligned lines."""
    widths = [max(len(row[column]) for row in (heads, *rows)) for column in range(len(heads))]
    for row in (heads, *rows):
        yield GAP.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _rich_table(heads: Sequence[str], rows: Sequence[Sequence[str]], *, whole: bool) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    if whole and max(map(len, lines_of(heads, rows))) > console.width:
        for number, row in enumerate(rows):
            click.echo("\n" * bool(number) + "\n".join(lines_of(*_columns(heads, row))))
        return
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for head in heads:
        shown.add_column(head, overflow="fold")
    for row in rows:
        shown.add_row(*[Text(cell, style=_STYLES.get(cell, "")) for cell in row])
    console.print(shown)


def _columns(heads: Sequence[str], row: Sequence[str]) -> tuple[Sequence[str], Sequence[Sequence[str]]]:
    """Return a row as a table that has a line for each of its cells."""
    first, *others = zip(heads, row, strict=True)
    return first, others


_STYLES: Final = {"up": "green", "ok": "green", "down": "red", "FAIL": "red"}


class Plain(Teller):
    """Says it line by line; what is waited for now and then."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._pause = FIRST_WORD

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing has to be wiped out."""

    def say(self, line: str) -> None:
        """Print the line."""
        click.echo(line)
        sys.stdout.flush()
        self._began = time.monotonic()

    def alert(self, line: str) -> None:
        """Print it where people look who have the rest in a file."""
        click.echo(line, err=True)
        self._began, self._pause = time.monotonic(), FIRST_WORD

    def waiting(self, text: str) -> None:
        """Print what is waited for, if that is so for some time."""
        if time.monotonic() - self._began >= self._pause:
            self.say(text)
            self._pause *= 2


class Live(Plain):
    """Says it in a terminal: what is waited for stands below, with a spinner."""

    def __init__(self) -> None:
        super().__init__()
        from rich.console import Console

        self._console = Console()
        self._status: Any = None

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._status is not None:
            self._status.stop()

    def say(self, line: str) -> None:
        """Print the line above what is waited for."""
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def alert(self, line: str) -> None:
        """Print it below all else: what was waited for is over."""
        if self._status is not None:
            self._status.stop()
            self._status = None
        super().alert(line)

    def waiting(self, text: str) -> None:
        """Show what is waited for."""
        from rich.markup import escape

        if self._status is None:
            self._status = self._console.status(escape(text))
            self._status.start()
        self._status.update(escape(text))


def teller(*, quiet: bool = False) -> AbstractContextManager[Teller]:
    """Return whom to tell how it goes; ``quiet``: only programs read what is printed."""
    if quiet:
        return _Quiet()
    return Live() if is_terminal() else Plain()


class _Quiet(Plain):
    def say(self, line: str) -> None:
        """Print it where nobody parses it."""
        click.echo(line, err=True)


def age(seconds: float) -> str:
    """Return for how long something has been there."""
    minutes, rest = divmod(int(max(0.0, seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
