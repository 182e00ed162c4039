"""Makespan ÷ ideal as a picture, and how a pool follows a load. Only this needs matplotlib: `uv run --group bench`."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

import click

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from skyward_scripts.simulation.scaling import Row
    from skyward_scripts.simulation.script import Story

SIZE: Final = (11.0, 4.2)  # inches
COLOURS: Final = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00")  # told apart by everyone (Okabe, Ito)
TICKS: Final = (1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 15.0)
MARKS: Final = "osD^v"


def library() -> tuple[Any, Any]:
    """Return matplotlib and what draws with it; says what to do if it is not there."""
    try:
        matplotlib: Any = importlib.import_module("matplotlib")
    except ModuleNotFoundError as error:
        raise click.ClickException(
            "--plot needs matplotlib: say `pip install matplotlib`, or `uv run --group bench` in a checkout"
        ) from error
    matplotlib.use("Agg")
    return matplotlib, importlib.import_module("matplotlib.pyplot")


def draw(panels: Sequence[tuple[str, Sequence[Row]]], path: str) -> None:
    """Save one panel for each title and its rows, side by side."""
    matplotlib, pyplot = library()
    figure, axes = pyplot.subplots(1, len(panels), figsize=SIZE, squeeze=False, sharey=True)
    for axis, (title, rows) in zip(axes[0], panels, strict=True):
        names = list(dict.fromkeys(row.distribution for row in rows))
        for name, colour, mark in zip(names, COLOURS, MARKS, strict=False):
            some = [row for row in rows if row.distribution == name]
            axis.plot(
                [row.nodes for row in some], [row.ratio for row in some],
                color=colour, marker=mark, markersize=4, linewidth=1.4, label=name,
            )  # fmt: skip
        axis.axhline(1.0, color="0.6", linewidth=0.8)
        axis.set_xscale("log")
        axis.set_yscale("log")
        axis.set_yticks(TICKS)
        axis.yaxis.set_minor_locator(matplotlib.ticker.NullLocator())
        axis.xaxis.set_major_formatter(matplotlib.ticker.FormatStrFormatter("%g"))
        axis.yaxis.set_major_formatter(matplotlib.ticker.FormatStrFormatter("%g"))
        axis.set_xlabel("nodes of one slot")
        axis.set_title(title, fontsize=10)
        axis.grid(visible=True, which="major", color="0.9")
    axes[0][0].set_ylabel("makespan ÷ ideal")
    axes[0][0].legend(frameon=False, fontsize=9)
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def draw_stories(stories: Mapping[str, Story], path: str) -> None:
    """Save how many calls there were and, below, how many nodes, over time."""
    matplotlib, pyplot = library()
    figure, (calls, nodes) = pyplot.subplots(2, 1, figsize=(9.0, 5.0), sharex=True)
    for (name, story), colour, width in zip(stories.items(), COLOURS, (1.2, 2.2), strict=False):
        times = [moment.at for moment in story.moments]
        waiting = [moment.waiting for moment in story.moments]
        calls.step(times, waiting, where="post", color=colour, linewidth=width, label=name)
        ready = [moment.ready for moment in story.moments]
        wanted = [moment.ready + moment.starting for moment in story.moments]
        nodes.step(times, ready, where="post", color=colour, linewidth=width, label=f"{name}: ready")
        nodes.step(
            times, wanted, where="post", color=colour, linewidth=1, linestyle=":", label=f"{name}: with starting"
        )
    calls.set_ylabel("calls that wait")
    nodes.set_ylabel("nodes")
    nodes.set_xlabel("seconds")
    nodes.yaxis.set_major_locator(matplotlib.ticker.MaxNLocator(integer=True))
    for axis in (calls, nodes):
        axis.grid(visible=True, color="0.9")
        axis.legend(frameon=False, fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
