"""What cannot travel is refused before it leaves, with the path to the culprit."""

from __future__ import annotations

import concurrent.futures
import pickle
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

from skyward.calls import function as mark
from skyward.calls import gather
from skyward.errors import RemoteError, SerializationError
from skyward.wire import payload

if TYPE_CHECKING:
    from tests.wire.elsewhere import Elsewhere


class Holder:
    """Has whatever attributes it is given."""

    def __init__(self, **state: Any) -> None:
        self.__dict__.update(state)


class Refuses:
    """Cannot be pickled."""

    def __reduce__(self) -> Any:
        raise ValueError("not me")


LOCK = threading.Lock()
CULPRITS = {
    "argument 'cfg' → [0] → _thread.lock": ([LOCK],),
    "argument 'cfg' → ['k'] → _thread.lock": ({"k": LOCK},),
    "argument 'cfg' → [1] → ['a'] → [2] → _thread.lock": ((1, {"a": [0, 0, LOCK]}),),
    "argument 'cfg' → .conn → _thread.lock": (Holder(conn=LOCK),),
    "argument 'cfg' → .a → .b → ['c'] → _thread.lock": (Holder(a=Holder(b={"c": LOCK})),),
    "argument 'second' → _thread.lock": (1, LOCK),
    "argument 3 → _thread.lock": (1, 2, LOCK),
    "argument 'cfg' → [1000] → _thread.lock": ([0] * 1000 + [LOCK],),
    "argument 'cfg' → generator": ((i for i in range(3)),),
    "argument 'cfg' → .part → tests.wire.test_culprit.Refuses": (Holder(part=Refuses()),),
}


@pytest.mark.rule("R5")
@pytest.mark.parametrize("path", CULPRITS)
def test_serialization_error_names_the_path_to_the_culprit(path: str) -> None:
    """The error leads from the argument's name to what cannot be pickled."""

    @mark
    def train(cfg: Any, second: Any = None, *rest: Any) -> None:
        pass

    with pytest.raises(SerializationError) as caught:
        payload.dumps_call(CULPRITS[path], {}, function=train)
    assert " → ".join(caught.value.path).replace(f"{__name__}.", "tests.wire.test_culprit.") == path
    assert "train" in str(caught.value)
    assert caught.value.reason
    assert isinstance(caught.value, TypeError)


@pytest.mark.rule("R5")
def test_serialization_error_names_keyword_arguments() -> None:
    """A keyword argument is named by its keyword, and other names can be given."""
    with pytest.raises(SerializationError, match=r"argument 'opt' → _thread\.lock"):
        payload.dumps_call((1,), {"opt": LOCK})
    with pytest.raises(SerializationError, match=r"argument 'b' → _thread\.lock"):
        payload.dumps_call((1, LOCK), {}, names=("a", "b"))
    with pytest.raises(SerializationError, match=r"argument 2 → _thread\.lock"):
        payload.dumps_call((1, LOCK), {})


@pytest.mark.rule("R5")
@pytest.mark.rule("R24")
def test_iterator_that_would_be_fed_is_refused_with_the_annotation_that_feeds_it() -> None:
    """If it is an argument itself, of a function of which calls are made."""

    def plain(values: Any) -> None: ...

    hint = r"cannot pickle 'generator' object; .* annotated Iterator\[T\] is fed"
    for iterator in ((i for i in [1]), map(abs, (i for i in [1]))):
        with pytest.raises(SerializationError, match=hint):
            payload.dumps_call((iterator,), {}, function=mark(plain))
    for argument, function in (((i for i in [1]), plain), ([(i for i in [1])], mark(plain)), (LOCK, mark(plain))):
        with pytest.raises(SerializationError) as caught:
            payload.dumps_call((argument,), {}, function=function)
        assert "Iterator" not in str(caught.value)


@pytest.mark.rule("R5")
def test_search_for_the_culprit_ends_in_cycles() -> None:
    """A structure that contains itself is searched once."""
    loop: list[Any] = [1]
    loop += [loop, {"k": Holder(back=loop, lock=LOCK)}]
    with pytest.raises(SerializationError, match=r"\.lock → _thread.lock"):
        payload.dumps_call((loop,), {})


@pytest.mark.rule("R5")
def test_too_deep_a_structure_is_refused() -> None:
    """What is nested deeper than pickle can follow is an error, not a crash."""
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(SerializationError) as caught:
        payload.dumps_call((deep,), {})
    assert "argument 1 → [0] → [0] → [0] → … → [0]" in str(caught.value)
    assert len(str(caught.value)) < 400
    while deep:  # by hand: not every interpreter frees it without recursion
        deep = deep.pop()


@pytest.mark.rule("R45")
def test_calls_futures_and_groups_are_no_arguments() -> None:
    """Until calls nest, a call, a group or a future as an argument is a `TypeError` that says so, anywhere inside."""

    @mark
    def f(x: int) -> int:
        return x

    for value in (f(1), f(1).with_retries(2), gather(f(1), f(2)), concurrent.futures.Future[int]()):
        for argument in (value, [value], {"k": Holder(v=value)}):
            with pytest.raises(TypeError, match="calls cannot be nested yet"):
                payload.dumps_call((argument,), {})


@pytest.mark.rule("R21")
def test_refused_size_names_size_and_option() -> None:
    """Arguments that are too large are refused with their size and the option to change."""
    with pytest.raises(SerializationError, match=r"arguments of f.*: 12345 bytes exceed max_payload=1000 bytes|12345"):
        payload.refuse_size(mark(lambda: None), 12345, 1000)


def test_result_that_cannot_be_pickled_is_refused() -> None:
    """A worker learns where in a result the culprit stands."""
    with pytest.raises(SerializationError, match=r"the result: \['k'\] → _thread.lock"):
        payload.dumps_value({"k": LOCK})


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"rubbish",
        pickle.dumps(1)[:-2],
        b"\x80\x05cno_such_module_here\nThing\n.",
        b"\x80\x05K\x01Q.",
        b"\x80\x05\x97.",
    ],
)
def test_unreadable_result_is_a_remote_error(data: bytes) -> None:
    """Whatever cannot be unpickled on the client is a `RemoteError` that says so."""
    for form in (data, memoryview(data), bytearray(data)):
        with pytest.raises(RemoteError, match="the result cannot be unpickled here") as caught:
            payload.loads_value(form)
        assert caught.value.type_name in caught.value.traceback


@pytest.mark.rule("R29")
def test_unreadable_result_has_the_traceback_of_reading_it() -> None:
    """Of the user's code, without frames of ours; the text says whose it is."""
    with pytest.raises(RemoteError, match=r"(?s)traceback of unpickling it:\n.*, in broken\n") as caught:
        payload.loads_value(pickle.dumps(Broken()))
    error = caught.value
    assert (error.type_name, error.remote_message) == ("ZeroDivisionError", "division by zero")
    assert error.traceback.endswith("ZeroDivisionError: division by zero\n")
    assert "payload.py" not in error.traceback
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.traceback) == (str(error), error.traceback)


class Broken:
    """Cannot be made again."""

    def __reduce__(self) -> Any:
        return broken, ()


def broken() -> float:
    return 1 / 0


def test_result_of_an_unknown_module_is_a_remote_error(elsewhere: Elsewhere) -> None:
    """An instance of a class whose module exists only on the node is a `RemoteError` that names the module."""

    def make() -> Any:
        import types

        module = types.ModuleType("only_there")
        module.__spec__ = sys.__spec__
        exec("class Thing: pass", module.__dict__)
        sys.modules["only_there"] = module
        return module.Thing()

    with pytest.raises(RemoteError, match="No module named 'only_there'"):
        elsewhere.call(make)
