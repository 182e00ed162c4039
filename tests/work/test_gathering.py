"""`gather`: what becomes a group, and what does not."""

from __future__ import annotations

import concurrent.futures
from typing import TYPE_CHECKING, Any

import pytest

from skyward.calls import PendingFunctionGroup, PendingStream, function, gather
from skyward.work.gathering import Source
from tests.here import HerePool

if TYPE_CHECKING:
    from collections.abc import Iterator


@function
def double(number: int) -> int:
    return 2 * number


@function
def shout(text: str) -> str:
    return text.upper()


@pytest.mark.rule("R10")
def test_gather_takes_any_number_of_calls() -> None:
    """The group has the calls in order, whatever their number and types."""
    for count in (1, 2, 13, 1000):
        calls = [double(i) for i in range(count)]
        assert gather(*calls).calls == tuple(calls)
    mixed = gather(double(1), shout("a").with_timeout(3), double(2))
    assert mixed >> HerePool() == (2, "A", 4)


@pytest.mark.rule("R10")
def test_gather_takes_one_iterable() -> None:
    """A list, a generator, another group: its items are the calls."""
    calls = [double(1), double(2)]

    def some() -> Iterator[Any]:
        yield from calls

    group: Any = calls[0] & calls[1]
    for iterable in (calls, tuple(calls), some(), iter(calls), group, dict.fromkeys(calls)):
        assert gather(iterable).calls == tuple(calls)


@pytest.mark.rule("R10")
def test_empty_group_gives_the_empty_tuple() -> None:
    """Nothing to do is no error."""
    assert len(gather()) == 0
    assert gather() >> HerePool() == ()
    assert gather([]) >> HerePool() == ()


@pytest.mark.rule("R10")
@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((1, 2), r"argument 1 is 1 \(int\); mark the function with @sky\.function"),
        ((5,), r"argument 1 is 5 \(int\)"),
        ((double(1), None), r"argument 2 is None \(NoneType\)"),
        ((double, shout), r"argument 1 is <sky\.function .*double> \(Function\); call the function"),
        ((double,), r"argument 1 is <sky\.function .*double> \(Function\); call the function"),
        ((double, [1, 2]), r"argument 1 is .*; call the function"),
        ((double(1), print), r"argument 2 is <built-in function print> .*; call the function"),
        (
            ([double(1)], [double(2)]),
            r"argument 1 is \[<call double\(1\)>\] \(list\); give one iterable of calls alone",
        ),
        (([double(1), 5],), r"item 1 is 5 \(int\)"),
        (("ab",), r"item 0 is 'a' \(str\); mark the function"),
        ((double(1) & double(2), double(3)), r"argument 1 is <group of 2.*; unpack a group: gather\(\*group, call\)"),
    ],
)
def test_what_is_no_call_is_refused(args: tuple[Any, ...], message: str) -> None:
    """The TypeError names the first culprit, its place, and what was probably meant."""
    with pytest.raises(TypeError, match=r"^gather\(\) takes calls, but " + message):
        gather(*args)


@pytest.mark.rule("R10")
def test_failing_iterable_raises_its_own_error() -> None:
    """An error in the user's generator is theirs."""

    def some() -> Iterator[Any]:
        yield double(1)
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        gather(some())


@pytest.mark.rule("R10")
def test_stream_of_a_container_has_its_calls_at_once() -> None:
    """What is there already is checked, has a length, and can be dispatched again."""
    calls = [double(1), double(2)]
    group: Any = calls[0] & calls[1]
    for container in (calls, tuple(calls), dict.fromkeys(calls), group):
        stream = gather(container, stream=True)
        assert (stream.calls, stream.source, len(stream)) == (tuple(calls), None, 2)
    wrong: Any = [double(1), 5]
    with pytest.raises(TypeError, match="item 1 is 5"):
        gather(wrong, stream=True)


@pytest.mark.rule("R10")
def test_stream_of_an_iterator_pulls_nothing_before_it_is_dispatched() -> None:
    """It has no length, shows what it will pull, and keeps its options."""
    pulled: list[int] = []

    def some() -> Iterator[Any]:
        for number in range(3):
            pulled.append(number)
            yield double(number)

    stream = gather(some(), stream=True, ordered=False)
    stream = stream.with_timeout(5)
    assert (stream.calls, stream.ordered, stream.timeout) == ((), False, 5)
    assert "generator object" in repr(stream)
    with pytest.raises(TypeError, match=r"not known.*run it: `>> pool`"):
        len(stream)
    for take in (list, tuple, iter):
        with pytest.raises(TypeError, match="pulled as it runs, by `>> pool`"):
            take(stream)
    assert pulled == []


@pytest.mark.rule("R10")
def test_iterator_of_calls_is_taken_once() -> None:
    """A second dispatch would find it empty; an iterable that begins anew may be dispatched again."""

    class Anew:
        def __iter__(self) -> Iterator[Any]:
            return iter([double(1)])

    once, again = Source(iter([double(1)])), Source(Anew())
    assert len(list(once.take())) == len(list(again.take())) == len(list(again.take())) == 1
    with pytest.raises(ValueError, match="dispatched already"):
        once.take()


@pytest.mark.rule("R10")
def test_future_is_no_call() -> None:
    """Its call runs already: the error says where its value is, and not that a function should be called."""
    future: Any = concurrent.futures.Future()
    with pytest.raises(
        TypeError, match=r"argument 1 is .*\(Future\); its call has begun already: take future\.result\(\)"
    ):
        gather(future)


@pytest.mark.rule("R12")
def test_options_are_carried_by_the_group() -> None:
    """Stream, order and what becomes of failures are for the pool to act on."""
    plain = gather(double(1), double(2))
    assert type(plain) is PendingFunctionGroup
    assert (plain.timeout, plain.stream, plain.ordered, plain.return_exceptions) == (None, False, True, False)
    kept = gather(double(1), return_exceptions=True)
    assert (kept.stream, kept.return_exceptions) == (False, True)
    stream = gather(double(1), stream=True)
    assert type(stream) is PendingStream
    assert (stream.stream, stream.ordered, stream.return_exceptions) == (True, True, False)
    assert gather(double(1), stream=True, ordered=False).ordered is False
    assert list(stream >> HerePool()) == [2]


@pytest.mark.rule("R12")
def test_completion_order_needs_a_stream() -> None:
    """`ordered=False` without `stream=True` asks for what a tuple cannot give."""
    with pytest.raises(ValueError, match="ordered=False needs stream=True"):
        gather(double(1), ordered=False)


@pytest.mark.rule("R10")
@pytest.mark.parametrize("name", ["stream", "ordered", "return_exceptions"])
def test_flag_that_is_none_is_named(name: str) -> None:
    """A word that means no would mean yes."""
    options: Any = {name: "no"}
    with pytest.raises(TypeError, match=rf"^{name} must be True or False, got 'no'$"):
        gather(double(1), **options)
