"""A function's signature on the command line."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Sequence  # noqa: TC003 - the command looks at annotations
from pathlib import Path
from typing import Any, Literal, Optional

import pytest
from click.testing import CliRunner, Result

import skyward as sky
from skyward.errors import ConfigError
from skyward_scripts.meshes.flags import command_for


class Colour(enum.Enum):
    """A colour."""

    RED = 1
    BLUE = 2


def call(function: Any, *arguments: str) -> Any:
    """Return what a function is called with."""
    result, called = invoke(function, *arguments)
    assert result.exit_code == 0, result.output
    return called


def invoke(function: Any, *arguments: str) -> tuple[Result, Any]:
    """Return what the command says, and what the function is called with."""
    called: list[Any] = []

    def run(*args: Any, **kwargs: Any) -> None:
        called.append(args if not kwargs else (*args, kwargs))

    result = CliRunner().invoke(command_for(function, "f", run), arguments)
    return result, called[0] if called else None


def all_kinds(
    count: int,
    rate: float = 0.1,
    name: str = "x",
    fast: bool = False,
    path: Path = Path("p"),
    colour: Colour = Colour.RED,
    mode: Literal["a", 2] = "a",
    tags: Sequence[str] = ("t",),
    pair: tuple[int, str] = (1, "a"),
    numbers: tuple[int, ...] = (),
    some: Optional[int] = None,  # noqa: UP045 - as older code writes it
    other: int | None = 3,
    table: dict[str, int] = {},  # noqa: B006 - it is not changed
    anything: Any = None,
) -> None:
    """Take one of each."""


def test_defaults_are_the_functions_own() -> None:
    """Objects, not what their text would be made to."""
    assert call(all_kinds, "--count", "1") == (
        1, 0.1, "x", False, Path("p"), Colour.RED, "a", ("t",), (1, "a"), (), None, 3, {}, None,
    )  # fmt: skip


def test_each_type_is_made_of_its_text() -> None:
    """Numbers, switches, choices, paths, several values, and JSON for all else."""
    words = (
        '--count 2 --rate 3 --name y --fast --path q/r --colour BLUE --mode 2 --tags a --tags b --pair [5,"b"] '
        '--numbers 1 --numbers 2 --some 4 --other 5 --table {"a":1} --anything z'
    )  # fmt: skip
    assert call(all_kinds, *words.split()) == (
        2, 3.0, "y", True, Path("q/r"), Colour.BLUE, 2, ["a", "b"], (5, "b"), (1, 2), 4, 5, {"a": 1}, "z",
    )  # fmt: skip
    assert call(all_kinds, "--count", "1", "--no-fast")[3] is False


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ("", "Missing option '--count'"),
        ("--count x", "'x' is not a valid integer"),
        ("--count 1 --colour GREEN", "'GREEN' is not one of 'RED', 'BLUE'"),
        ("--count 1 --mode b", "'b' is not one of 'a', '2'"),
        ("--count 1 --table {", "'{' is no JSON"),
        ("--count 1 --nam y", "No such option '--nam'"),
    ],
)
def test_mistake_is_wrong_usage(words: str, complaint: str) -> None:
    """Before anything is sent anywhere."""
    result, called = invoke(all_kinds, *words.split())
    assert (result.exit_code, called) == (2, None)
    assert complaint in result.output


def test_help_is_what_the_docstring_says() -> None:
    """Of the function and of each parameter, with its default."""

    def train(data_file: Path, /, epochs: int, *names: str, rate: float = 0.1, help: str = "me") -> None:  # noqa: D417 - as users leave some out
        """Train a model.

        Args:
            epochs: How often.
            rate: How fast.
        """

    result, _ = invoke(train, "-h")  # it has a parameter called help
    text = " ".join(result.output.split())
    assert "Train a model." in text
    assert "DATA_FILE [NAMES]..." in text
    assert "--epochs INTEGER How often. [required]" in text
    assert "--rate FLOAT How fast. [default: 0.1]" in text
    called = call(train, "f", "a", "b", "--epochs", "2", "--rate", "1")
    assert called == (Path("f"), 2, "a", "b", {"rate": 1.0, "help": "me"})


def test_marked_function_is_seen_through() -> None:
    """The marker keeps the signature; it is the function's own."""

    @sky.function
    def add(a: int, b: int = 2) -> int:
        """Add."""
        return a + b

    assert call(add, "--a", "1") == (1, 2)


def test_hints_that_cannot_be_read_are_text() -> None:
    """Names that only a type checker knows."""

    def odd(a: Nowhere, b: int = 3) -> None:  # type: ignore[name-defined]  # noqa: F821 - that is the point
        """Take something."""

    assert call(odd, "--a", '"x"', "--b", "4")[0] == "x"


def test_what_no_command_line_can_give_is_told() -> None:
    """Names that are not known, and elements one by one."""

    def named(**names: int) -> None: ...
    def fed(items: Iterator[int]) -> None: ...

    with pytest.raises(ConfigError, match=r"parameter \*\*names takes any name"):
        command_for(named, "f", print)
    with pytest.raises(ConfigError, match="parameter items is fed by an iterator"):
        command_for(fed, "f", print)
