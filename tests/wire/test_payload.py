"""Arguments and results: what arrives, and what is refused before it leaves."""

from __future__ import annotations

import concurrent.futures
import pickle
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

from skyward.calls import function as mark
from skyward.calls import gather
from skyward.errors import RemoteError, SerializationError
from skyward.wire import payload, pickler
from tests.wire.elsewhere import run_as_main

if TYPE_CHECKING:
    from tests.wire.conftest import Project
    from tests.wire.elsewhere import Elsewhere

LARGE = 100_000  # bytes: far above what travels inside the pickle


def there_and_back(*args: Any, **kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return arguments as a worker sees them, from buffers as a socket gives them."""
    packed, _ = payload.dumps_call(args, kwargs)
    return payload.loads_call(bytes(packed.data), tuple(bytearray(b) for b in packed.buffers))


def again(value: Any) -> Any:
    """Return a result as the client sees it."""
    packed = payload.dumps_value(value)
    return payload.loads_value(bytes(packed.data), tuple(bytes(b) for b in packed.buffers))


# --- values --------------------------------------------------------------------------------

PLAIN = [
    0,
    147,  # its byte is the opcode that names classes
    -(2**70),
    1.5,
    "text \N{SNOWMAN}",
    b"bytes",
    None,
    True,
    2 + 3j,
    [1, [2, [3]]],
    {"k": {"nested": (1, 2)}},
    {1, 2},
    frozenset({3}),
    ({},),
    bytearray(b"ba"),
]


@pytest.mark.rule("R4")
@pytest.mark.parametrize("value", PLAIN, ids=repr)
def test_plain_value_arrives_as_it_was(value: Any) -> None:
    """Numbers, text and containers arrive with value and type, as argument, keyword and result."""
    for got in (there_and_back(value)[0][0], there_and_back(k=value)[1]["k"], again(value)):
        assert got == value
        assert type(got) is type(value)


@pytest.mark.rule("R4")
def test_arguments_keep_place_and_name() -> None:
    """Positional and keyword arguments arrive apart, also where there are none, or look like the others."""
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
        ((), {}), ((1, "a"), {}), ((), {"k": 1}), (([1], {}), {"k": [2]}), (((1,), {"x": 1}), {}),
    ]  # fmt: skip
    for args, kwargs in calls:
        assert there_and_back(*args, **kwargs) == (args, kwargs)


def test_plain_arguments_need_no_cloudpickle() -> None:
    """A process that sends and reads plain values never imports cloudpickle, which takes 23 ms."""
    script = (
        "import sys; from skyward.wire import payload\n"
        "p, _ = payload.dumps_call((1, [2, 'x', b'y'], {'k': (None, 1.5)}), {'z': {3}})\n"
        "payload.loads_call(p.data); payload.loads_value(payload.dumps_value([1]).data)\n"
        "assert 'cloudpickle' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.rule("R4")
def test_main_class_deep_inside_plain_containers_travels_by_value(elsewhere: Elsewhere) -> None:
    """The quick way for plain values does not take a class of ``__main__`` for importable, wherever it hides."""
    main = run_as_main("class P:\n    x = 7\n")
    deep = {"k": [0] * 50 + [main["P"]()]}
    assert elsewhere.call(lambda d: d["k"][50].x, deep) == 7


# --- arrays and bytes ----------------------------------------------------------------------

BASE = np.arange(24_000.0)
ARRAYS = {
    "plain": BASE,
    "small": BASE[:3].copy(),
    "fortran": np.asfortranarray(BASE.reshape(100, 240)),
    "strided": BASE[::2],
    "transposed 3d": BASE.reshape(20, 30, 40).transpose(1, 0, 2),
    "broadcast": np.broadcast_to(BASE[:100], (50, 100)),
    "zero-size": np.zeros((0, 3)),
    "0-d": np.array(3.5),
    "object": np.array([1, "two", None], dtype=object),
    "structured": np.zeros(5_000, dtype=[("a", "i4"), ("b", "f8")]),
    "dates": np.array(["2024-01-01"] * 5_000, dtype="M8[D]"),
    "text": np.array(["abc"] * 5_000),
}


def read_only(array: Any) -> Any:
    """Return a read-only copy."""
    array = array.copy()
    array.flags.writeable = False
    return array


@pytest.mark.rule("R4")
@pytest.mark.parametrize("protect", [False, True], ids=["writable", "read-only"])
@pytest.mark.parametrize("kind", ARRAYS)
def test_array_arrives_equal_and_writable(kind: str, protect: bool) -> None:
    """Arrays of any layout, also read-only ones, arrive equal and can be written to."""
    array = read_only(ARRAYS[kind]) if protect else ARRAYS[kind]
    for got in (there_and_back(array)[0][0], again(array), there_and_back([{"k": array}])[0][0][0]["k"]):
        np.testing.assert_array_equal(got, array)
        assert got.dtype == array.dtype
        assert got.flags.writeable
        got[...] = got
    assert there_and_back(ARRAYS["fortran"])[0][0].flags.f_contiguous


@pytest.mark.rule("R20")
@pytest.mark.parametrize("kind", ["plain", "fortran"])
def test_large_array_travels_out_of_band_without_a_copy(kind: str) -> None:
    """The buffer that is sent is the array's own memory, and the buffer received is the new array's."""
    array = ARRAYS[kind]
    packed, _ = payload.dumps_call((array,), {})
    assert len(packed.data) < 1_000
    (sent,) = packed.buffers
    assert np.shares_memory(np.frombuffer(sent), array)
    received = bytearray(sent)
    (got,), _ = payload.loads_call(packed.data, (received,))
    assert np.shares_memory(got, np.frombuffer(received))


@pytest.mark.rule("R20")
def test_small_buffers_stay_in_the_pickle() -> None:
    """A small array costs no frame of its own."""
    assert payload.dumps_call((ARRAYS["small"], b"x" * 100), {})[0].buffers == ()


@pytest.mark.rule("R20")
@pytest.mark.parametrize("kind", [bytes, bytearray])
def test_large_bytes_travel_out_of_band(kind: type[Any]) -> None:
    """Large bytes and bytearrays leave uncopied, also inside containers, and the one that arrives is not copied."""
    value = kind(b"\x93ab" * LARGE)
    packed, _ = payload.dumps_call(([value, {"k": value}],), {"extra": value})
    (sent,) = packed.buffers
    assert sent is value
    received = kind(value)
    ((got,), kwargs) = payload.loads_call(packed.data, (received,))
    assert got[0] is received and got[1]["k"] is received and kwargs["extra"] is received
    ((got,), _) = payload.loads_call(packed.data, (memoryview(bytes(value)),))
    assert type(got[0]) is kind and got[0] == value


@pytest.mark.rule("R20")
def test_bytes_and_arrays_find_their_own_buffers() -> None:
    """Buffers of both sorts are mixed in any order and arrive where they belong."""
    array, data, more = BASE, b"d" * LARGE, bytearray(b"m" * LARGE)
    value = [data, array, {"k": more, "again": data}, array * 2]
    got = again(value)
    assert got[0] == got[2]["again"] == data and type(got[0]) is bytes
    assert got[2]["k"] == more and type(got[2]["k"]) is bytearray
    np.testing.assert_array_equal(got[1], array)
    np.testing.assert_array_equal(got[3], array * 2)


def test_one_pickle_has_a_bounded_number_of_buffers() -> None:
    """Many large arrays in one argument do not exceed the frames of a message."""
    many = [BASE[:2048].copy() for _ in range(1_500)]
    packed, _ = payload.dumps_call((many,), {})
    assert 1 < len(packed.buffers) <= 1_000
    (got,), _ = payload.loads_call(packed.data, packed.buffers)
    np.testing.assert_array_equal(got, many)


@pytest.mark.rule("R4")
def test_data_frame_arrives_equal_and_writable(elsewhere: Elsewhere) -> None:
    """A pandas frame travels both ways and can be changed there."""
    frame = pd.DataFrame({"a": np.arange(20_000), "b": ["x", "y"] * 10_000, "c": np.linspace(0, 1, 20_000)})

    def change(d: Any) -> Any:
        d.loc[0, "a"] = 7
        d["c"] *= 2
        return d

    got = elsewhere.call(change, frame)
    pd.testing.assert_frame_equal(got, change(frame.copy()))
    assert payload.dumps_call((frame,), {})[0].buffers


@pytest.mark.rule("R4")
def test_arrays_arrive_writable_elsewhere(elsewhere: Elsewhere) -> None:
    """Buffers that the transport hands over read-only still make writable arrays."""

    def change(a: Any) -> Any:
        a[0] = 5
        return a

    got = elsewhere.call(change, BASE)
    got[1] = 6
    assert got[0] == 5
    assert BASE[0] == 0


@pytest.mark.rule("R4")
def test_tensor_travels_through_its_numpy_view() -> None:
    """A torch tensor's memory is a buffer, not a part of the pickle; torch is looked up, never imported."""
    script = """
import sys, types
import numpy as np
torch = types.ModuleType("torch")
class Tensor:
    def __init__(self, array): self.array, self.requires_grad = array, False
    def detach(self): return self
    def numpy(self): return self.array
    def requires_grad_(self): self.requires_grad = True; return self
    def __reduce__(self): raise TypeError("in band")
torch.Tensor, torch.from_numpy = Tensor, Tensor
from skyward.wire import payload
payload.dumps_call((np.zeros(3),), {})
sys.modules["torch"] = torch
tensor = Tensor(np.arange(10_000.0)).requires_grad_()
packed, _ = payload.dumps_call(([tensor],), {})
assert np.shares_memory(np.frombuffer(packed.buffers[0]), tensor.array)
((got,),), _ = payload.loads_call(packed.data, packed.buffers)
assert type(got) is Tensor and got.requires_grad and (got.array == tensor.array).all()
"""
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.rule("R47")
@pytest.mark.parametrize("make", [BASE.copy, lambda: bytearray(LARGE)], ids=["array", "bytearray"])
def test_snapshot_is_not_changed_with_the_original(make: Any) -> None:
    """What is done to an array or bytearray after the snapshot does not show in it."""
    value = make()
    packed = payload.snapshot(payload.dumps_call((value,), {})[0])
    before = bytes(value)
    value[0] = 99
    (got,), _ = payload.loads_call(packed.data, packed.buffers)
    assert bytes(got) == before


@pytest.mark.rule("R47")
def test_snapshot_is_not_changed_through_a_read_only_view() -> None:
    """A view that is read-only but whose array is not is copied as well."""
    base = BASE.copy()
    view = base[:]
    view.flags.writeable = False
    packed = payload.snapshot(payload.dumps_call((view,), {})[0])
    base[0] = 99
    assert payload.loads_call(packed.data, packed.buffers)[0][0][0] == 0


def test_snapshot_copies_no_bytes() -> None:
    """What cannot change is not copied."""
    data = b"x" * LARGE
    packed, _ = payload.dumps_call((data, [1]), {})
    assert payload.snapshot(packed).buffers[0] is data


# --- classes -------------------------------------------------------------------------------

CLASSES = """
import collections, dataclasses, enum, typing

class Point:
    origin = "client"
    def __init__(self, x): self.x = x
    def moved(self): return type(self)(self.x + 1)
    class Inner:
        def __init__(self, y): self.y = y

class Color(enum.Enum):
    RED = 1
    BLUE = 2
    def other(self): return Color.BLUE if self is Color.RED else Color.RED

class Flags(enum.IntFlag):
    A = 1
    B = 2

@dataclasses.dataclass(frozen=True)
class Data:
    a: int
    b: list = dataclasses.field(default_factory=list)

@dataclasses.dataclass(slots=True)
class Slotted:
    a: int = 0

Pair = collections.namedtuple("Pair", "left right")

class Typed(typing.NamedTuple):
    left: int

class Wrong(ValueError):
    def __init__(self, text, code=3):
        super().__init__(text)
        self.code = code
"""


@pytest.mark.rule("R4")
@pytest.mark.parametrize(
    "expression",
    [
        "Point(1)",
        "Point.Inner(2)",
        "Color.RED",
        "Flags.A | Flags.B",
        "Data(1, [2])",
        "Slotted(4)",
        "Pair(1, 2)",
        "Typed(3)",
        "[Point(1), {Color.BLUE: Data(2)}]",
        "Point",
        "Wrong('w', 4)",
    ],
)
def test_main_class_comes_back_as_itself(elsewhere: Elsewhere, expression: str) -> None:
    """Instances of classes of ``__main__`` come back as instances of the very same classes."""
    main = run_as_main(CLASSES)
    value = eval(expression, main)  # noqa: S307  # the test's own text
    got = elsewhere.call(lambda v: v, value)
    assert type(got) is type(value)
    if isinstance(value, type):
        assert got is value
    if isinstance(value, list):
        assert type(got[0]) is main["Point"] and next(iter(got[1])) is main["Color"].BLUE
    if isinstance(value, main["Color"] | tuple | main["Data"]):
        assert got == value


@pytest.mark.rule("R4")
def test_methods_of_main_classes_run_elsewhere(elsewhere: Elsewhere) -> None:
    """Methods, class attributes and members of enums are there."""
    main = run_as_main(CLASSES)
    assert elsewhere.call(lambda p: p.moved(), main["Point"](1)).x == 2
    assert elsewhere.call(lambda c: c.other(), main["Color"].RED) is main["Color"].BLUE
    assert elsewhere.call(lambda p: isinstance(p, type(p.moved())), main["Point"](1))


@pytest.mark.rule("R4")
def test_result_never_changes_a_class_of_the_client(elsewhere: Elsewhere) -> None:
    """What a task does to the class of its argument stays on the worker."""
    main = run_as_main(CLASSES)
    point, color = main["Point"], main["Color"]
    payload.dumps_value([point(1), color.RED])  # pickling leaves a note of its own in the class
    moved, before = point.moved, dict(vars(point))

    def spoil(p: Any, c: Any) -> Any:
        type(p).origin = "worker"
        type(p).added = 1
        type(c).note = "worker"
        return [p, c, type(p), type(c)]

    got = elsewhere.call(spoil, point(1), color.RED)
    assert point.origin == "client"
    assert point.moved is moved
    assert dict(vars(point)) == before
    assert not hasattr(color, "note")
    assert got[2] is point and got[3] is color


@pytest.mark.rule("R4")
def test_class_made_by_a_task_is_whole_and_stays_as_it_first_came(elsewhere: Elsewhere) -> None:
    """A class that the client does not know arrives with its methods; a later result does not change it."""
    main = run_as_main("""
kept = {}
def make(step):
    if not kept:
        class New:
            level = 0
            def doubled(self): return self.x * 2
        kept["class"] = New
    new = kept["class"]()
    kept["class"].level = step
    new.x = step
    return new
""")
    first = elsewhere.call(main["make"], 1)
    second = elsewhere.call(main["make"], 2)
    assert type(first) is type(second)
    assert (first.doubled(), second.doubled(), first.level) == (2, 4, 1)


@pytest.mark.rule("R4")
def test_function_comes_back_as_a_result(elsewhere: Elsewhere) -> None:
    """A closure made by a task can be called on the client."""

    def make(n: int) -> Any:
        return lambda x: x + n

    assert elsewhere.call(make, 3)(4) == 7


def test_names_of_user_modules_in_arguments_are_reported(project: Project) -> None:
    """Classes and functions by reference name the user's modules they need; others name none."""
    shapes = project.load(
        "pay_shapes", "class Circle: pass\nclass One:\n    def __reduce__(self): return 'ONE'\nONE = One()"
    )
    for value in (shapes.Circle(), shapes.Circle, [{"k": shapes.Circle()}], shapes, shapes.ONE):
        assert payload.dumps_call((value,), {})[1] == {"pay_shapes"}
    for value in (1, np.zeros(3), pd.DataFrame({"a": [1]}), threading.Thread, pytest, SerializationError):
        assert payload.dumps_call((value,), {})[1] == set()


# --- refused before anything is sent -------------------------------------------------------


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
    "argument 'cfg' → .part → tests.wire.test_payload.Refuses": (Holder(part=Refuses()),),
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
    assert " → ".join(caught.value.path).replace(f"{__name__}.", "tests.wire.test_payload.") == path
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
    with pytest.raises(SerializationError):
        payload.dumps_call((deep,), {})
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
        with pytest.raises(RemoteError, match="the result cannot be unpickled here"):
            payload.loads_value(form)


def test_result_of_an_unknown_module_is_a_remote_error(elsewhere: Elsewhere) -> None:
    """An instance of a class whose module exists only on the node is a `RemoteError` that names the module."""

    def make() -> Any:
        import sys
        import types

        module = types.ModuleType("only_there")
        module.__spec__ = sys.__spec__
        exec("class Thing: pass", module.__dict__)
        sys.modules["only_there"] = module
        return module.Thing()

    with pytest.raises(RemoteError, match="No module named 'only_there'"):
        elsewhere.call(make)


def test_pickler_keeps_no_cycle() -> None:
    """Large arguments are freed by reference counts, not whenever the collector comes by."""
    import gc
    import weakref

    class Token:
        pass

    token = Token()
    seen = weakref.ref(token)
    gc.disable()
    try:
        dumped = pickler.dump([token, BASE, b"x" * LARGE], large_bytes=True)
        del token, dumped
        assert seen() is None
    finally:
        gc.enable()
