"""`shard`: the part of some data that this node works on.

Every node computes its own part from the same data, and none asks another: a part is decided by the length of the
data, the node's place among the nodes, and the seed. So the parts of all nodes are disjoint and cover everything,
as long as all nodes have the same data and know of the same nodes.

Arrays and frames are told by what they can do (``iloc``, ``shape``), so that nothing has to be imported for them.
"""

from __future__ import annotations

import random
from array import array
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from operator import index
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, TypeVarTuple, overload

from skyward.runtime import instance_info

if TYPE_CHECKING:
    from typing import SupportsIndex


class _Shaped(Protocol):
    """An array, a tensor, a frame, or a column of one."""

    @property
    def shape(self) -> Any: ...


T = TypeVar("T")
T1 = TypeVar("T1")
T2 = TypeVar("T2")
Ts = TypeVarTuple("Ts")
Text = TypeVar("Text", str, bytes, bytearray)
Shaped = TypeVar("Shaped", bound=_Shaped)

_UNORDERED: tuple[type, ...] = (Mapping, AbstractSet)
_SLICED: tuple[type, ...] = (list, tuple, str, bytes, bytearray, range, array)

Chosen = slice | list[int]  # which items of the data, in which order


@overload
def shard(
    data: list[T],
    /,
    *,
    shuffle: bool = False,
    seed: SupportsIndex = 0,
    drop_last: bool = False,
    node: SupportsIndex | None = None,
    total_nodes: SupportsIndex | None = None,
) -> list[T]: ...
@overload
def shard(
    data: tuple[T, ...],
    /,
    *,
    shuffle: bool = False,
    seed: SupportsIndex = 0,
    drop_last: bool = False,
    node: SupportsIndex | None = None,
    total_nodes: SupportsIndex | None = None,
) -> tuple[T, ...]: ...
@overload
def shard(
    data: range,
    /,
    *,
    shuffle: bool = False,
    seed: SupportsIndex = 0,
    drop_last: bool = False,
    node: SupportsIndex | None = None,
    total_nodes: SupportsIndex | None = None,
) -> Sequence[int]: ...
@overload
def shard(
    data: Text,
    /,
    *,
    shuffle: bool = False,
    seed: SupportsIndex = 0,
    drop_last: bool = False,
    node: SupportsIndex | None = None,
    total_nodes: SupportsIndex | None = None,
) -> Text: ...
@overload
def shard(
    data: Shaped,
    /,
    *,
    shuffle: bool = False,
    seed: SupportsIndex = 0,
    drop_last: bool = False,
    node: SupportsIndex | None = None,
    total_nodes: SupportsIndex | None = None,
) -> Shaped: ...
@overload
def shard(
    data: Sequence[T],
    /,
    *,
    shuffle: bool = False,
    seed: SupportsIndex = 0,
    drop_last: bool = False,
    node: SupportsIndex | None = None,
    total_nodes: SupportsIndex | None = None,
) -> Sequence[T]: ...
@overload
def shard(
    first: T1,
    second: T2,
    /,
    *rest: *Ts,
    shuffle: bool = False,
    seed: SupportsIndex = 0,
    drop_last: bool = False,
    node: SupportsIndex | None = None,
    total_nodes: SupportsIndex | None = None,
) -> tuple[T1, T2, *Ts]: ...
def shard(  # type: ignore[misc]  # pyright: ignore[reportInconsistentOverload]  # no checker sees *Ts within *Any
    *data: Any,
    shuffle: bool = False,
    seed: SupportsIndex = 0,
    drop_last: bool = False,
    node: SupportsIndex | None = None,
    total_nodes: SupportsIndex | None = None,
) -> Any:
    """Return this node's part of the data: every ``total_nodes``-th item from the ``node``-th on.

    Data of several arguments, which must be of one length, stay aligned and come back as a tuple. ``shuffle``
    deals the items out in an order that ``seed`` alone decides. With ``drop_last`` the parts are blocks of equal
    size, and what is left over at the end is nobody's. Outside a pool the part is everything.

    Raises `ValueError` without data, for lengths that differ and for a node that is none of the nodes, and
    `TypeError` for what has no length or no order, and for a node or seed that is no integer.
    """
    if not data:
        raise ValueError("sky.shard() needs data to take a part of: sky.shard(x), or sky.shard(x, y)")
    lengths = [_length(each) for each in data]
    if len(set(lengths)) > 1:
        raise ValueError(f"sky.shard() keeps its arguments aligned, so their lengths must be equal, got {lengths}")
    place, total = _place(node, total_nodes)
    chosen = _chosen(lengths[0], place, total, seed=_agreed(seed), shuffle=shuffle, drop_last=drop_last)
    parts = tuple([_part(each, chosen) for each in data])
    return parts[0] if len(parts) == 1 else parts


def _agreed(seed: SupportsIndex) -> int:
    try:
        return index(seed)
    except TypeError as error:  # the generator takes None, and then each node has an order of its own
        raise TypeError(
            f"sky.shard() needs an int as seed, on which all nodes agree, got {seed!r}: leave it out, or pass seed=1"
        ) from error


def _whole(name: str, value: SupportsIndex) -> int:
    try:
        return index(value)
    except TypeError as error:
        raise TypeError(f"sky.shard() needs an int as {name}, got {value!r}") from error


def _place(node: SupportsIndex | None, total_nodes: SupportsIndex | None) -> tuple[int, int]:
    """Return the place of this node among all, and how many there are, as far as the caller does not say so."""
    place, total = 0, 1
    info = instance_info()
    if info is not None:
        place, total = info.node, info.total_nodes
        ranks = sorted(peer.rank for peer in info.peers)
        if place in ranks:  # while a lost node is being replaced its rank is vacant, and its part goes to the others
            place, total = ranks.index(place), len(ranks)
    place = place if node is None else _whole("node", node)
    total = total if total_nodes is None else _whole("total_nodes", total_nodes)
    if total < 1:
        raise ValueError(f"total_nodes must be at least 1, got {total}")
    if not 0 <= place < total:
        raise ValueError(f"node must be between 0 and total_nodes - 1, got node={place} and total_nodes={total}")
    return place, total


def _chosen(length: int, place: int, total: int, *, seed: int, shuffle: bool, drop_last: bool) -> Chosen:
    size = length // total
    mine = slice(place * size, (place + 1) * size) if drop_last else slice(place, length, total)
    if not shuffle:
        return mine
    order = list(range(length))
    # Not NumPy's: it need not be there, and what a seed means must not depend on it.
    random.Random(seed).shuffle(order)  # noqa: S311 - it deals out work, and hides nothing
    return order[mine]


def _length(data: Any) -> int:
    if isinstance(data, _UNORDERED):
        raise TypeError(f"sky.shard() cannot take every n-th item of a {type(data).__name__}: pass a list of its items")
    try:
        # A sparse matrix has rows, but no len().
        rows: int = data.shape[0] if getattr(data, "shape", None) else len(data)
    except TypeError as error:
        raise TypeError(
            f"sky.shard() needs data with a length, got {type(data).__name__}: pass a list of its items"
        ) from error
    return rows


def _part(data: Any, chosen: Chosen) -> Any:
    """Return the chosen items, as what the data is; other sequences than the usual ones become lists."""
    if hasattr(data, "iloc"):  # a frame's own [...] means columns
        return data.iloc[chosen]
    if isinstance(data, memoryview):
        data = data.tolist()  # has a shape, but cannot pick
    if isinstance(chosen, slice):
        if hasattr(data, "shape") or isinstance(data, _SLICED):
            return data[chosen]
        chosen = list(range(chosen.start, chosen.stop, chosen.step or 1))
    elif hasattr(data, "shape"):
        return data[chosen]
    return _rebuilt(data, [data[number] for number in chosen])


def _rebuilt(data: Any, items: list[Any]) -> Any:
    match data:
        case str():
            return "".join(items)
        case bytes():
            return bytes(items)
        case bytearray():
            return bytearray(items)
        case tuple():
            return tuple(items)
        case array():
            return array(data.typecode, items)
        case _:
            return items
