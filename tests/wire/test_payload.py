"""Arguments and results: what arrives, and what is refused before it leaves."""

from __future__ import annotations

import subprocess
import sys
import weakref
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

from skyward.wire import payload, pickler
from tests.wire.elsewhere import run_as_main

if TYPE_CHECKING:
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


@pytest.mark.parametrize("count", [1, 64, 65, 1_000])
def test_plain_arguments_are_plain_whatever_their_bytes(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """A number may look like the opcode that names classes; that costs no careful look at each value."""
    monkeypatch.setattr(pickler, "dump", None)
    value = [147] * count
    for packed in (payload.dumps_call((value, 1), {"key": {"inside": value}})[0], payload.dumps_value(value)):
        assert b"\x93" in packed.data
    assert again((value,)) == (value,)


@pytest.mark.rule("R4")
def test_main_class_deep_inside_plain_containers_travels_by_value(
    elsewhere: Elsewhere, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The quick ways for plain values do not take a class of ``__main__`` for importable, wherever it hides."""
    main = run_as_main("class P:\n    x = 7\n")
    deep = {"k": [0] * 50 + [main["P"]()]}
    monkeypatch.setattr(sys.modules["__main__"], "P", main["P"], raising=False)
    for value in (deep, [0] * 10 + [main["P"]()], [0] * 100 + [main["P"]()]):
        assert b"cloudpickle" in payload.dumps_call((value,), {})[0].data  # the class itself, not its name
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
@pytest.mark.parametrize("kind", sorted(ARRAYS.keys() - {"object"}))
def test_large_read_only_array_is_not_copied(kind: str) -> None:
    """It is the array's own memory that is sent, where NumPy shows it, and that nobody can write to through ours."""
    array = np.resize(ARRAYS[kind], (2, 100_000))
    array = read_only(np.asfortranarray(array) if kind == "fortran" else array)
    before = array.copy()
    packed, _ = payload.dumps_call((array,), {})
    if kind != "dates":
        (sent,) = packed.buffers
        assert np.shares_memory(np.frombuffer(sent, dtype=np.uint8), array)
    (got,), _ = payload.loads_call(packed.data, [bytes(sent) for sent in packed.buffers])
    np.testing.assert_array_equal(got, array)
    assert (got.dtype, got.flags.f_contiguous) == (array.dtype, array.flags.f_contiguous)
    got[...] = got[0, 0]
    assert not array.flags.writeable
    np.testing.assert_array_equal(array, before)


@pytest.mark.rule("R20")
def test_read_only_array_lives_as_long_as_what_is_sent_of_it() -> None:
    """Also if nobody else has it any more."""
    array = read_only(np.full(1_000_000, 7.0))
    gone = weakref.ref(array)
    packed, _ = payload.dumps_call((array,), {})
    del array
    assert gone() is not None
    assert (np.frombuffer(packed.buffers[0]) == 7).all()
    del packed
    assert gone() is None


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
