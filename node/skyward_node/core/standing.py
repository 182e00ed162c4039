"""How a node stands: what its metrics and its health say.

PURE: what the core cannot know, such as memory, is given to it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

    from skyward_node.core.node import Node


class Standing(NamedTuple):
    """A node at one moment. Sizes are bytes, times seconds."""

    slots: int
    running: int
    queued: int
    waiting: int
    sessions: int
    workers: int
    done: int
    failed: int
    worker_deaths: int
    draining: bool
    uptime: float
    memory: int  # of the daemon and everything below it
    available: int  # memory of the machine


class Metric(NamedTuple):
    """One line of the metrics, by the field that it shows."""

    field: str
    name: str
    kind: str
    help: str


METRICS: Final = (
    Metric("slots", "skyward_slots", "gauge", "Tasks that may run at once."),
    Metric("running", "skyward_tasks_running", "gauge", "Tasks that have a slot."),
    Metric("queued", "skyward_tasks_queued", "gauge", "Tasks that wait for a slot."),
    Metric("waiting", "skyward_tasks_waiting", "gauge", "Tasks that wait for calls of their own, their slots lent."),
    Metric("sessions", "skyward_sessions", "gauge", "Clients that use the node."),
    Metric("workers", "skyward_workers", "gauge", "Worker processes."),
    Metric("done", "skyward_tasks_done_total", "counter", "Tasks that ended with a value."),
    Metric("failed", "skyward_tasks_failed_total", "counter", "Tasks that ended without one."),
    Metric("worker_deaths", "skyward_worker_deaths_total", "counter", "Workers that died and were not told to end."),
    Metric("draining", "skyward_draining", "gauge", "1 if the node takes no more tasks and is about to end."),
    Metric("uptime", "skyward_uptime_seconds", "gauge", "Seconds since the node began to serve."),
    Metric("memory", "skyward_memory_bytes", "gauge", "Resident memory of the daemon and all processes below it."),
    Metric("available", "skyward_memory_available_bytes", "gauge", "Memory of the machine that can still be used."),
)


def take(node: Node, *, uptime: float, memory: int, available: int) -> Standing:
    """Return how the node stands."""
    sessions = node.sessions.values()
    return Standing(
        slots=node.limits.concurrency,
        running=max(node.running, 0),
        queued=sum(session.queued for session in sessions),
        waiting=node.lent,
        sessions=len(sessions),
        workers=len(node.workers),
        done=node.done + sum(session.outbox.done for session in sessions),
        failed=node.failed + sum(session.outbox.failed for session in sessions),
        worker_deaths=node.deaths,
        draining=node.draining,
        uptime=uptime,
        memory=memory,
        available=available,
    )


def exposition(standing: Standing, about: dict[str, str]) -> str:
    """Return the metrics in Prometheus' text format; ``about`` are labels that say what runs."""
    return "\n".join(_lines(standing._asdict(), about)) + "\n"


def _lines(values: dict[str, Any], about: dict[str, str]) -> Iterator[str]:
    labels = ",".join(f'{name}="{_escaped(text)}"' for name, text in about.items())
    yield from ("# HELP skyward_info What runs here.", "# TYPE skyward_info gauge", f"skyward_info{{{labels}}} 1")
    for metric in METRICS:
        yield f"# HELP {metric.name} {metric.help}"
        yield f"# TYPE {metric.name} {metric.kind}"
        value = values[metric.field]
        yield f"{metric.name} {value:.3f}" if isinstance(value, float) else f"{metric.name} {int(value)}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
