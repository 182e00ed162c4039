"""`skyward-mesh elastic`: how a pool that grows and shrinks follows a load."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

import click

from skyward_scripts.simulation import drawing
from skyward_scripts.simulation.script import Script

if TYPE_CHECKING:
    from collections.abc import Sequence

    from skyward_scripts.simulation.script import Story

LOAD: Final = "1:24x0.5 8-16:1x0.5 16:60x0.25"  # a burst, a trickle, a larger burst
HEAD: Final = ("", "most nodes", "launched", "node seconds", "waited s", "last result s", "nodes that were ready")


def _parse(_context: click.Context, _parameter: click.Parameter, text: str) -> Script:
    try:
        return Script.parse(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


@click.command()
@click.option("--least", default=0, show_default=True, type=click.IntRange(min=0), help="The pool's min.")
@click.option("--most", default=4, show_default=True, type=click.IntRange(min=1), help="The pool's max.")
@click.option(
    "--load", "script", default=LOAD, show_default=True, callback=_parse, metavar="PIECES",
    help="Pieces AT:CALLSxSECONDS and FROM-TO:RATExSECONDS.",
)  # fmt: skip
@click.option(
    "--start-up", default=0.5, show_default=True, type=click.FloatRange(min=0, min_open=True),
    help="Seconds that a node takes to start, in the simulation.",
)  # fmt: skip
@click.option(
    "--idle-timeout", default=3.0, show_default=True, type=click.FloatRange(min=0, min_open=True),
    help="Seconds after which an idle node is let go.",
)  # fmt: skip
@click.option("--slots", default=1, show_default=True, type=click.IntRange(min=1), help="Tasks a node runs at once.")
@click.option("--real", is_flag=True, help="Play the load on nodes of this machine, too.")
@click.option("--plot", type=click.Path(dir_okay=False), help="Save a picture there; needs `uv run --group bench`.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for each row.")
def elastic(
    *,
    least: int,
    most: int,
    script: Script,
    start_up: float,
    idle_timeout: float,
    slots: int,
    real: bool,
    plot: str | None,
    as_json: bool,
) -> None:
    """Show how the nodes of an elastic pool follow a load, by the shipped policy."""
    from skyward.errors import ConfigError
    from skyward.model import Nodes
    from skyward_scripts.simulation.elastic import Elastic, follow

    if plot:
        drawing.library()  # what is missing is said before anything is played
    try:
        nodes = Nodes(least, least, most)
    except ConfigError as error:
        raise click.UsageError(str(error)) from error
    stories = {"simulated": follow(script, Elastic(nodes, start_up, idle_timeout, slots))}
    if real:
        from skyward_scripts.simulation.rehearsal import rehearse

        stories["real"] = rehearse(script, nodes, idle_timeout=idle_timeout, slots=slots)
    if as_json:
        for name, story in stories.items():
            click.echo(json.dumps({"story": name, **facts(story)}))
    else:
        click.echo(table(stories))
    if plot:
        drawing.draw_stories(stories, plot)


def facts(story: Story) -> dict[str, object]:
    """Return what a story comes to."""
    return {
        "most": story.most,
        "launched": story.launches,
        "node_seconds": round(story.paid, 2),
        "waited": round(story.waited, 3),
        "finished": round(story.finished, 2),
        "nodes": story.nodes(),
    }


def table(stories: dict[str, Story]) -> str:
    """Return stories as a table in Markdown."""
    lines: list[Sequence[str]] = [HEAD, ["---", *["---:"] * (len(HEAD) - 2), "---"]]
    for name, story in stories.items():
        *numbers, _ = facts(story).values()
        lines.append([name, *map(str, numbers), " ".join(map(str, story.nodes()))])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
