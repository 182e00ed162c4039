"""How fast values stream between a client and a local node: run it with ``python -m tests.benchmarks.streams``."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

import skyward as sky
from tests.rules.yielding import arrays, checksum, count, total

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SMALL = 300_000  # elements
LARGE = 1_000  # arrays of a megabyte


def rate(work: Callable[[], object], amount: int) -> float:
    """Return the amount per second, after a first round that warms up."""
    work()
    begun = time.perf_counter()
    work()
    return amount / (time.perf_counter() - begun)


def drain(values: Iterator[Any]) -> None:
    """Take everything."""
    for _ in values:
        pass


def megabytes(number: int) -> Iterator[Any]:
    """Yield arrays of a megabyte."""
    import numpy as np

    array = np.zeros(2**20, dtype=np.uint8)
    for _ in range(number):
        yield array


def main() -> None:
    """Print the rates."""
    for executor in ("process", "thread"):
        with sky.Compute(nodes=1, executor=executor) as pool:

            def first(pool: sky.Compute = pool) -> None:
                stream: Any = count(10**9) >> pool
                next(stream)
                stream.close()

            rows = {
                "small values out, items/s": rate(lambda p=pool: drain(count(SMALL) >> p), SMALL),  # type: ignore[misc]  # bound
                "small values in, items/s": rate(lambda p=pool: total(iter(range(SMALL))) >> p, SMALL),  # type: ignore[misc]  # bound
                "1 MB arrays out, MB/s": rate(lambda p=pool: drain(arrays(LARGE, 2**20) >> p), LARGE),  # type: ignore[misc]  # bound
                "1 MB arrays in, MB/s": rate(lambda p=pool: checksum(megabytes(LARGE)) >> p, LARGE),  # type: ignore[misc]  # bound
                "first value and close, per s": rate(lambda f=first: [f() for _ in range(100)], 100),  # type: ignore[misc]  # bound
            }
        for name, value in rows.items():
            sys.stdout.write(f"{executor:8} {name:30} {value:12,.0f}\n")


if __name__ == "__main__":
    main()
