"""How each workload is measured, inside a contestant's process: once prepared, a turn in every round.

Every measure takes a `Setting` and a seed, does the work, checks that all of it was done by workers, and returns
figures by name. Making what a user's program would have at hand (arguments, arrays) is not part of a figure;
making call objects is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from skyward_scripts.bench.measures import arrays, calls, costs, memory, values

if TYPE_CHECKING:
    from collections.abc import Callable

    from skyward_scripts.bench.measures.setting import Setting

    Measure = Callable[[Setting, int], dict[str, float]]
    Preparation = Callable[[Setting], None]

MEASURES: Final[dict[str, Measure]] = {
    "lone": calls.lone,
    "gather": calls.gather,
    "gather-1kB": calls.gather,
    "gather-mixed": calls.gather,
    "futures": calls.futures,
    "map": calls.map_items,
    "stream": calls.stream,
    "stragglers": calls.stragglers,
    "data": arrays.data,
    "fan-out": arrays.fan_out,
    "values": values.values,
    "blocks": values.blocks,
    "memory-gather": memory.gather,
    "memory-futures": memory.futures,
    "memory-alone": memory.alone,
    "by-size": costs.by_size,
    "by-time": costs.by_time,
    "by-nodes": costs.by_nodes,
}

PREPARATIONS: Final[dict[str, Preparation]] = {
    "map": calls.tune_map,
    "data": arrays.warm_data,
    "fan-out": arrays.warm_fan_out,
    "values": values.warm_values,
    "blocks": values.warm_blocks,
}
