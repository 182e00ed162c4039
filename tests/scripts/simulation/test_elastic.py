"""Simulated pools that grow and shrink by the shipped policy."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from skyward.model import Nodes
from skyward_scripts.simulation.elastic import Elastic, follow
from skyward_scripts.simulation.script import Burst, Moment, Script, Story

pytestmark = pytest.mark.rule("R33")


def play(load: str, least: int, most: int, **pool: float) -> Story:
    """Play a load on a pool."""
    return follow(Script.parse(load), Elastic(Nodes(least, least, most), **pool))  # type: ignore[arg-type]  # numbers


def test_pool_wakes_grows_shrinks_and_sleeps() -> None:
    """(0, 4): one node for the first call, all for many, none at the end; twice."""
    story = play("1:40x0.5 30:40x0.5", 0, 4, start_up=1.0, idle_timeout=5.0)
    nodes = story.nodes()
    assert (nodes[0], max(nodes), nodes[-1]) == (0, 4, 0)
    assert nodes.count(0) == 3
    assert story.launches == 8
    awake = [moment for moment in story.moments if moment.waiting]
    assert max(moment.at for moment in awake) < 40.0


def test_work_of_one_node_starts_one() -> None:
    """A trickle is no reason to grow, however long it lasts."""
    assert play("0-100:1x0.5", 0, 8, start_up=5.0, idle_timeout=10.0).most == 1


def test_trickle_leaves_the_other_nodes_idle() -> None:
    """After a burst the pool goes back to the one node that the trickle needs."""
    story = play("0:200x1 60-200:1x0.2", 1, 8, start_up=2.0, idle_timeout=20.0)
    assert story.most == 8
    assert all(moment.ready == 1 for moment in story.moments if 110.0 < moment.at < 195.0)


def test_pool_is_worth_its_price() -> None:
    """A burst costs little more node time than the work takes, and start-ups and idle ends."""
    story = play("0:400x2", 0, 16, start_up=10.0, idle_timeout=30.0)
    assert story.paid < story.script.work + story.launches * (10.0 + 30.0 + 5.0)
    assert story.finished < 10.0 + 2 * 400 * 2 / 16


def test_failing_provider_is_not_hammered() -> None:
    """Of twenty launches that fail one after the other, few happen in a minute; the calls are done all the same."""
    story = play("0:60x1", 1, 4, start_up=0.5)
    broken = follow(Script.parse("0:60x1"), Elastic(Nodes(1, 1, 4), 0.5, 60.0, failing=frozenset(range(1, 200))))
    assert story.launches == 4
    assert broken.launches < 40
    assert broken.most == 4
    assert 60.0 < broken.finished < 63.0


def test_lost_node_is_replaced() -> None:
    """And its calls are done elsewhere."""
    story = follow(Script.parse("0:60x1"), Elastic(Nodes(1, 1, 4), 0.5, 5.0, lost={6.0: 1, 7.0: 0}))
    assert story.launches == 6
    assert story.nodes()[-1] == 1


def steady(share: float, needed: int, seconds: float, start_up: float, slots: int) -> None:
    """Play a steady load of a little less than ``needed`` nodes, and see how many there are in its second half."""
    rate = (needed - 1 + share) * slots / seconds  # calls a second
    idle = 4.0 * (start_up + seconds) / share  # the last node has pauses
    settle = 20.0 * (start_up + seconds) + 2.0 * idle
    end = settle + 2.0 * idle
    bursts = tuple(Burst(number / rate, 1, seconds) for number in range(int(end * rate)))
    story = follow(Script(bursts), Elastic(Nodes(0, 0, 12), start_up, idle, slots))
    before = [moment for moment in story.moments if moment.at <= settle][-1]
    during = [before, *(moment for moment in story.moments if settle < moment.at < end - seconds)]
    counts = {moment.ready + moment.starting for moment in during}
    assert len(counts) == 1, counts
    assert counts.pop() <= 2 * needed
    assert story.nodes()[-1] == 0


steady_loads = given(
    share=st.floats(0.3, 0.9),
    needed=st.integers(1, 4),
    seconds=st.sampled_from([1.0, 5.0]),
    start_up=st.sampled_from([0.3, 3.0, 10.0]),
    slots=st.sampled_from([1, 2]),
)


@steady_loads
@settings(max_examples=5, deadline=None)
def test_steady_load_makes_no_node_come_and_go(**load: Any) -> None:
    """After some start-ups and idle timeouts there are as many as the load needs, or a few more, and that stays so."""
    steady(**load)


@pytest.mark.slow
@pytest.mark.timeout(500)
@steady_loads
@settings(max_examples=80, deadline=None)
def test_steady_loads_make_no_node_come_and_go(**load: Any) -> None:
    """The same for longer."""
    steady(**load)


@given(
    pieces=st.lists(
        st.tuples(st.floats(0.0, 60.0), st.integers(1, 60), st.sampled_from([0.01, 0.3, 2.0, 20.0])),
        min_size=1,
        max_size=5,
    ),
    least=st.integers(0, 2),
    room=st.integers(1, 6),
    failing=st.sets(st.integers(2, 20)),
    start_up=st.sampled_from([0.05, 1.0, 20.0]),
)
@example([(0.0, 3, 20.0)], 2, 1, {2}, 20.0)  # one is let go while another starts, which fails
@settings(max_examples=15, deadline=None)
def test_pool_stays_within_its_bounds_and_comes_to_rest(
    pieces: list[tuple[float, int, float]], least: int, room: int, failing: set[int], start_up: float
) -> None:
    """Whatever comes, and whatever fails, all calls are done, and in the end `min` nodes are there."""
    script = Script(tuple(sorted((Burst(*piece) for piece in pieces), key=lambda burst: burst.at)))
    pool = Elastic(Nodes(least, least, least + room), start_up, 10.0, failing=failing)
    story = follow(script, pool)
    assert story.most <= least + room
    assert story.moments[-1].ready == least
    opened = next(number for number, moment in enumerate(story.moments) if moment.ready >= least)
    assert all(moment.ready + moment.starting >= least for moment in story.moments[opened:])


def test_script_says_what_it_cannot_read() -> None:
    """By the piece that makes no sense."""
    for text in ("", "1", "1:2", "1:2.5x1", "5-4:1x1", "0:0x1", "0:1x0"):
        with pytest.raises(ValueError, match="pieces" if not text else text.replace(".", r"\.")):
            Script.parse(text)
    assert Script.parse("2:3x0.5 0-1:2x1").bursts == (Burst(0, 1, 1), Burst(0.5, 1, 1), Burst(2, 3, 0.5))


def test_story_is_summed_up() -> None:
    """Node seconds, waiting, and the numbers of ready nodes in their order."""
    script = Script.parse("0:4x1")
    moments = [
        Moment(0, 0, 1, 4, 0),
        Moment(2, 1, 1, 2, 1),
        Moment(4, 2, 0, 0, 2),
        Moment(5, 2, 0, 0, 0),
        Moment(9, 0, 0, 0, 0),
    ]
    story = Story(script, moments, 2, 5.0)
    assert (story.most, story.paid, story.waited, story.nodes()) == (2, 2 + 4 + 2 + 8, 3.0, [0, 1, 2, 0])
