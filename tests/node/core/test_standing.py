"""How a node stands, in numbers and in Prometheus' words."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from skyward.wire.messages import Bye
from skyward.wire.statuses import RAISED
from skyward_node.core import standing
from skyward_node.core.standing import METRICS, Standing

if TYPE_CHECKING:
    from tests.node.core.conftest import Rig

EPOCH = 77

LINE = re.compile(r'[a-z_]+(\{([a-z]+="([^"\\\n]|\\.)*",?)*\})? -?[0-9.]+')


def stands(rig: Rig) -> Standing:
    """Return how the rig's node stands."""
    return standing.take(rig.core.node, uptime=1.5, memory=2, available=3)


def worker_of(rig: Rig, task: int) -> int:
    """Return which worker has a task."""
    return next(worker.id for worker in rig.core.node.workers.values() if task in worker.tasks)


def test_counts_follow_tasks(rig: Rig) -> None:
    """Queued, running, done and failed; a session that has ended is still counted in the latter."""
    before = stands(rig)
    assert (before.slots, before.running, before.queued, before.sessions, before.done) == (2, 0, 0, 0, 0)
    rig.open()
    rig.submit(0, 1, 2, retries=[0, 0, 0])
    now = stands(rig)
    assert (now.sessions, now.running, now.queued, now.workers) == (1, 2, 1, len(rig.core.node.workers))
    rig.finish(worker_of(rig, 0), 0)
    rig.finish(worker_of(rig, 1), 1, status=RAISED)
    assert (stands(rig).done, stands(rig).failed) == (1, 1)
    rig.say(Bye(EPOCH, 0, ""))
    after = stands(rig)
    assert (after.sessions, after.queued, after.done, after.failed) == (0, 0, 1, 1)


def test_death_of_a_worker_is_counted(rig: Rig) -> None:
    """One that was told to end is none."""
    rig.open()
    rig.submit(0, retries=[0])
    rig.die(worker_of(rig, 0))
    assert (stands(rig).worker_deaths, stands(rig).failed) == (1, 1)


def test_every_number_has_its_metric() -> None:
    """With a name, a kind and a word of help; and no two the same."""
    assert {metric.field for metric in METRICS} == set(Standing._fields)
    assert len({metric.name for metric in METRICS}) == len(METRICS)
    for metric in METRICS:
        assert metric.help.endswith(".")
        assert metric.name.endswith("_total") == (metric.kind == "counter")


def test_exposition_is_what_prometheus_reads() -> None:
    """Each metric with its help and type before it; labels are escaped."""
    values = Standing._make([7] * len(Standing._fields))._replace(uptime=1.25, draining=True)
    text = standing.exposition(values, {"host": 'a"b\\c\nd'})
    lines = text.splitlines()
    assert text.endswith("\n")
    assert r'skyward_info{host="a\"b\\c\nd"} 1' in lines
    assert "skyward_uptime_seconds 1.250" in lines
    assert "skyward_draining 1" in lines
    assert "skyward_tasks_done_total 7" in lines
    for line in lines:
        assert line.startswith(("# HELP skyward_", "# TYPE skyward_")) or LINE.fullmatch(line), line
    for metric in METRICS:
        place = lines.index(f"# TYPE {metric.name} {metric.kind}")
        assert lines[place - 1].startswith(f"# HELP {metric.name} ")
        assert lines[place + 1].startswith(f"{metric.name} ")
