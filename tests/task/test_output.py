"""Wishes about output, and who takes it."""

from __future__ import annotations

import inspect
import logging
import pickle
from typing import TYPE_CHECKING, Any

import pytest

import skyward as sky
from skyward.task import output
from skyward.task.output import line_of
from skyward.task.wishes import WISH, Wish, is_kept
from skyward.wire import pickler

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HEAD = sky.InstanceInfo(node=0, worker=0, total_nodes=2)
OTHER = sky.InstanceInfo(node=1, worker=0, total_nodes=2)


def odd(info: sky.InstanceInfo) -> bool:
    """Return whether this is a node of odd rank."""
    return info.node % 2 == 1


def wish_of(fn: Any) -> Wish:
    """Return the wish of what travels."""
    wish: Wish = getattr(getattr(fn, "__wrapped__", fn), WISH)
    return wish


def plain(number: int, *, factor: int = 2) -> int:
    """Double a number."""
    return number * factor


@pytest.mark.rule("R28")
@pytest.mark.parametrize("order", ["above", "below"])
def test_wishes_go_above_and_below_function(order: str) -> None:
    """In either order; the last word about a stream counts, and options of the function stay."""
    decorators: list[Callable[[Any], Any]] = [sky.stdout(only="head"), sky.stderr(only=odd)]
    mark: Callable[[Any], Any] = sky.function(timeout=3)
    fn: Any = plain
    for decorator in (mark, *decorators) if order == "above" else (*decorators, mark):
        fn = decorator(fn)
    assert wish_of(fn) == Wish("head", odd)
    assert fn.timeout == 3
    assert fn.local(2, factor=3) == 6
    assert (fn.__name__, fn.__doc__) == ("plain", "Double a number.")
    assert inspect.signature(fn) == inspect.signature(plain)


@pytest.mark.rule("R28")
def test_wish_of_a_marked_method_is_for_that_object() -> None:
    """The method itself goes on printing."""

    class Model:
        @sky.function
        def predict(self, number: int) -> int:
            """Return the number."""
            return number

    model = Model()
    quiet = sky.silent(model.predict)
    assert wish_of(quiet.__func__) == Wish(stdout=False, stderr=False)
    assert (quiet.__doc__, quiet.local(3), quiet(3).args) == ("Return the number.", 3, (model, 3))
    assert not hasattr(model.predict.__func__.__wrapped__, WISH)


def test_function_itself_stays_as_it_is() -> None:
    """What is decorated is a copy, so that the other may go on printing."""
    quiet = sky.silent(plain)
    assert wish_of(quiet) == Wish(stdout=False, stderr=False)
    assert not hasattr(plain, WISH)
    assert quiet(4) == 8


def test_wish_travels_with_the_function() -> None:
    """Also by value, with what the predicate has captured."""
    rank = 1
    fn = sky.stdout(only=lambda info: info.node == rank)(plain)
    fn.__module__ = "__main__"
    there = pickle.loads(pickler.dump(fn, in_band=True).data)
    assert [is_kept(wish_of(there).stdout, info) for info in (HEAD, OTHER)] == [False, True]


@pytest.mark.parametrize(
    ("only", "kept"),
    [(True, (True, True)), (False, (False, False)), ("head", (True, False)), (odd, (False, True))],
)
def test_wish_is_kept_where_it_says(only: Any, kept: tuple[bool, bool]) -> None:
    """Everywhere, nowhere, on the head, or where the predicate says so."""
    assert (is_kept(only, HEAD), is_kept(only, OTHER)) == kept


def test_what_makes_no_sense_is_refused() -> None:
    """A word that is no place, and what is no function."""
    decorate: Any = sky.stdout
    err: Any = sky.stderr
    with pytest.raises(TypeError, match="only= must be 'head' or a function of the InstanceInfo, got 'tail'"):
        decorate(only="tail")
    silence: Any = sky.silent
    with pytest.raises(TypeError, match="output is controlled for functions, got <class 'int'> \\(type\\)"):
        silence(int)
    wrong: list[tuple[Callable[[], Any], str]] = [
        (lambda: decorate(plain), r"^write @sky\.stdout\(only='head'\), or only= with a function; .* <function plain"),
        (lambda: err("head"), r"^write @sky\.stderr\(only='head'\).* was given 'head'$"),
        (decorate, r"was given nothing$"),
        (lambda: decorate(on="head"), r"was given on='head'$"),
        (silence, r"^write @sky\.silent; sky\.silent\(\) was given nothing$"),
    ]
    for use, text in wrong:
        with pytest.raises(TypeError, match=text):
            use()
    assert str(inspect.signature(sky.silent)) == "(fn: 'F', /) -> 'F'"
    redirect: Any = sky.redirect_output
    with pytest.raises(TypeError, match="a callback or a logger takes output, got 3"):
        redirect(3)
    assert output.taker() is None


# --- redirection -----------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def none_left() -> Iterator[None]:
    """Check that nothing is redirected after a test."""
    yield
    assert output.taker() is None


def test_innermost_redirection_takes() -> None:
    """They nest, may end in any order, and ending twice is ending once."""
    outer = sky.redirect_output(print)
    with sky.redirect_output(print) as inner:
        assert output.taker() is inner
        outer.close()
        assert output.taker() is inner
    inner.close()
    assert output.taker() is None


def test_line_is_text_and_knows_where_it_comes_from() -> None:
    """A callback for text will do."""
    line = line_of("hello", 3, 2, 17)
    assert line == "hello" and line.upper() == "HELLO"
    assert (line.node, line.stream, line.task) == (3, "stderr", 17)
    assert line_of("hello", 3, 1, 17).stream == "stdout"


@pytest.mark.rule("R28")
def test_logger_takes_lines(caplog: pytest.LogCaptureFixture) -> None:
    """Stdout as INFO, stderr as WARNING, with the node."""
    with caplog.at_level(logging.INFO), sky.redirect_output(logging.getLogger("tasks")) as redirection:
        redirection.take(line_of("fine 100%", 1, 1, 7))
        redirection.take(line_of("bad", 2, 2, 8))
    assert caplog.record_tuples == [
        ("tasks", logging.INFO, "[node 1] fine 100%"),
        ("tasks", logging.WARNING, "[node 2] bad"),
    ]
    assert [(vars(record)["node"], vars(record)["task"]) for record in caplog.records] == [(1, 7), (2, 8)]
