"""Generators, and functions that are fed element by element, for the tests of the rules."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterable, Iterator  # noqa: TC003 - evaluated where functions are marked
from pathlib import Path
from typing import Any

import skyward as sky


def mark(directory: str, name: str) -> None:
    """Leave one more mark."""
    with open(Path(directory, name), "a", encoding="ascii") as file:
        file.write("x")


def marks(directory: Path, name: str) -> int:
    """Return how many marks there are."""
    path = directory / name
    return len(path.read_bytes()) if path.exists() else 0


def is_idle(pool: sky.Compute) -> bool:
    """Return whether nothing is under way."""
    stands = pool.snapshot()
    return (stands.in_flight, stands.queued) == (0, 0)


@sky.function
def count(stop: int, directory: str = "") -> Iterator[int]:
    """Yield numbers; with a directory, note the start, each number, and the end."""
    if directory:
        mark(directory, "starts")
    try:
        for number in range(stop):
            if directory:
                mark(directory, "yielded")
            yield number
    finally:
        if directory:
            mark(directory, "ends")


@sky.function
def linger(value: int) -> int:
    """Return the value after a moment."""
    time.sleep(0.001)
    return value


@sky.function
async def count_async(stop: int, directory: str = "") -> AsyncIterator[int]:
    """Do the same on an event loop."""
    try:
        for number in range(stop):
            await asyncio.sleep(0)
            yield number
    finally:
        if directory:
            await asyncio.sleep(0)
            mark(directory, "ends")


@sky.function
def kinds(stop: int) -> Iterator[Any]:
    """Yield numbers in several forms; two of them change afterwards."""
    inner, outer = [0], [0]
    for number in range(stop):
        inner[0] = outer[0] = number
        yield number
        yield str(number)
        yield number, inner
        yield outer
        yield None


@sky.function
def fail_after(good: int) -> Iterator[int]:
    """Yield some numbers, then raise."""
    yield from range(good)
    raise ValueError(f"bad after {good}")


@sky.function
def yield_then_block(directory: str, good: int) -> Iterator[int]:
    """Yield some numbers at once, then block until it is let go or stopped."""
    try:
        yield from range(good)
        while not Path(directory, "go").exists():
            time.sleep(0.005)
        yield good
    finally:
        mark(directory, "ends")


@sky.function
def place_of(stop: int) -> Iterator[tuple[int, int]]:
    """Yield the node's rank and the worker's pid."""
    info = sky.instance_info()
    assert info is not None
    for _ in range(stop):
        yield info.node, os.getpid()


@sky.function
def arrays(stop: int, size: int) -> Iterator[Any]:
    """Yield one array again and again, changed each time."""
    import numpy as np  # here, so that other tasks do not wait for it

    array = np.zeros(size, dtype=np.uint8)
    for number in range(stop):
        array[:] = number % 251
        yield array


@sky.function
def die_after(good: int, directory: str) -> Iterator[int]:
    """Yield some numbers, then kill the worker."""
    mark(directory, "starts")
    yield from range(good)
    time.sleep(0.05)
    os.kill(os.getpid(), 9)


@sky.function
def fork_among(stop: int, directory: str) -> Iterator[int]:
    """Yield numbers, and fork before the last of them; a child that goes on leaves a mark."""
    child = -1
    for number in range(stop):
        if number == stop - 100:
            child = os.fork()
            if child:
                os.waitpid(child, 0)
        yield number
        if not child:
            mark(directory, "child")


@sky.function
def total(numbers: Iterator[int]) -> int:
    """Add up what comes."""
    return sum(numbers)


@sky.function
def add_up(numbers: Iterator[int], beside: object = None) -> int:
    """Return the sum of the elements; what stands beside them is only there, but for the word "fail"."""
    if beside == "fail":
        raise LookupError(beside)
    return sum(numbers)


@sky.function
def take(numbers: Iterator[Any], most: int, directory: str = "") -> list[Any]:
    """Take some elements and leave the rest."""
    if directory:
        mark(directory, "starts")
    return [next(numbers) for _ in range(most)]


@sky.function
def kind_of(values: Iterable[int]) -> tuple[str, list[int]]:
    """Say what came, and what is in it."""
    return type(values).__name__, list(values)


@sky.function
def double(numbers: Iterator[int]) -> Iterator[int]:
    """Double what comes, as it comes."""
    for number in numbers:
        yield 2 * number


@sky.function
def checksum(chunks: Iterator[Any]) -> tuple[int, int]:
    """Count chunks, and add up their first bytes."""
    count = first = 0
    for chunk in chunks:
        count += 1
        first += int(chunk[0])
        assert chunk.flags.writeable
    return count, first


@sky.function
def caught(numbers: Iterator[int]) -> tuple[list[int], str]:
    """Take elements until the iterable raises, and say what it was."""
    taken: list[int] = []
    try:
        for number in numbers:
            taken += [number]
    except ValueError as error:
        return taken, str(error)
    return taken, ""


@sky.function
def count_slowly(most: int) -> Iterator[int]:
    """Count, so that whoever takes the numbers has to wait for each."""
    for number in range(most):
        time.sleep(0.005)
        yield number
