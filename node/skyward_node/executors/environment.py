"""The environment variables a worker starts with, beyond those the user gave. PURE."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# Libraries start as many threads as the machine has CPUs; on a node with several workers, or a machine
# with several nodes, that is many times too many. OMP_NUM_THREADS comes first: the others heed it.
THREAD_VARIABLES: Final = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)
ACCELERATORS: Final = "CUDA_VISIBLE_DEVICES"


def worker_environment(
    *,
    cpus: int,
    slots: int,
    index: int,
    workers: int,
    accelerators: Sequence[str],
    divided: bool,
    environ: Mapping[str, str],
) -> dict[str, str]:
    """Return what to add to ``environ`` for the worker with this ``index`` among ``workers`` of a node.

    ``cpus`` usable CPUs are divided among ``slots``, all slots of this machine, so that BLAS and OpenMP
    start no more threads than there are CPUs; what the user has set stays. ``accelerators`` are the ids of the
    devices the node may use, of which each worker sees its share; ``divided``: other nodes use those that it may not.
    """
    return _threads(max(1, cpus // max(1, slots)), environ) | _devices(index, workers, accelerators, divided=divided)


def _threads(count: int, environ: Mapping[str, str]) -> dict[str, str]:
    if environ.get(THREAD_VARIABLES[0]):
        return {}  # the libraries fall back to it: a value of ours would override the user's
    return {name: str(count) for name in THREAD_VARIABLES if not environ.get(name)}


def _devices(index: int, workers: int, accelerators: Sequence[str], *, divided: bool) -> dict[str, str]:
    if not accelerators or (workers <= 1 and not divided):
        return {}
    return {ACCELERATORS: ",".join(share(accelerators, index, workers))}


def share(devices: Sequence[str], place: int, places: int) -> list[str]:
    """Return the devices of the one at ``place`` among those that share them; when they are too few, some share one."""
    total, place = len(devices), place % places
    first = place * total // places
    return list(devices[first : max(first + 1, (place + 1) * total // places)])
