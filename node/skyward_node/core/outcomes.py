"""What workers say: results, progress, tasks handed back, output, and their end.

Blame is fair: when a worker dies, what it was running is to blame, by its own last note if it left one,
else by the order in which it was given. If that note shows that it was idle nobody is, for once. What sat in its
queue goes back to the front of the session's queue as if it had never been given.

PURE: no processes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from skyward.wire.bundles import Interim
from skyward.wire.codec import pack_body, split_body
from skyward.wire.frames import Payload, Ref
from skyward.wire.messages import Release
from skyward.wire.statuses import CANCELLED_FAILURE, CRASHED, TIMED_OUT, Failure
from skyward_node.core import assign, crew, nesting
from skyward_node.core.actions import Bury, Give
from skyward_node.core.lines import PATIENCE, Block
from skyward_node.core.node import PARTIAL
from skyward_node.core.outbox import Part
from skyward_node.core.tasks import (
    CANCEL,
    EXPIRE,
    FINISH,
    GIVE_BACK,
    GIVEN,
    HAND_BACK,
    LOSE,
    OVERDUE,
    RUNNING,
    STOPPING,
    move,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from skyward.wire.frames import Buffer
    from skyward.wire.messages import Output, Results
    from skyward_node.core.library import Code
    from skyward_node.core.node import Node
    from skyward_node.core.sessions import Session
    from skyward_node.core.tasks import Task
    from skyward_node.core.workers import Worker
    from skyward_node.executors.events import Exited


# --- results -----------------------------------------------------------------------------------


def on_results(node: Node, worker: Worker, message: Results, body: Sequence[Buffer]) -> None:
    """Pass on results, and see the worker's next task start."""
    session = worker.session
    if session is None:
        return
    pop = worker.tasks.pop
    tasks = [pop(id, None) for id in message.ids]
    if tasks:
        worker.last = message.ids[-1]
    part = Part(message.ids, message.statuses, message.sizes, message.buffers, message.elapsed, body)
    _flush_lines(node, worker, tasks)
    if session.backlog:
        node.settle_lines(session, message.ids)
    kill = False
    if all(task is not None and task.wish != EXPIRE and task.state != OVERDUE for task in tasks):
        session.outbox.add(part)
        done = cast("list[Task]", tasks)
        _observe(done, message.elapsed)
        node.finish(done)
    else:
        kill = _pass_on_some(node, session, worker, part, tasks)
    if worker.stuck and any(task is not None for task in tasks):
        worker.stuck = False
        node.stuck.pop(worker.id, None)
    if kill:  # what the task has left in the process must not meet the next one
        crew.kill(node, worker)
        crew.replenish(node)
    else:
        crew.account(node, worker)
        assign.start(node, worker)


def _pass_on_some(node: Node, session: Session, worker: Worker, part: Part, tasks: Sequence[Task | None]) -> bool:
    """Pass on results of which not all count; return whether one was of a task stopped for its timeout.

    Nobody waits for the result of an overdue task, nor for one of a task the worker was never given.
    """
    rows = split_body(part.sizes, part.buffers, part.body)
    kept: list[tuple[Task, int, int, tuple[Buffer, tuple[Buffer, ...]]]] = []
    expired: list[tuple[Task, Failure]] = []
    dropped: list[Buffer] = []
    for task, status, elapsed, row in zip(tasks, part.statuses, part.elapsed, rows, strict=True):
        if task is not None and task.state != OVERDUE and task.wish != EXPIRE:
            kept.append((task, status, elapsed, row))
            continue
        dropped += row[1]
        if task is None:
            continue
        if task.state == OVERDUE:
            move([task], FINISH)
        else:
            expired.append((task, timed_out(task)))
    _release(node, worker, dropped)
    if kept:
        sizes, buffers, body = pack_body([Payload(*row) for *_, row in kept])
        done = [task for task, *_ in kept]
        elapsed_column = [elapsed for _, _, elapsed, _ in kept]
        statuses = [status for _, status, _, _ in kept]
        session.outbox.add(Part([task.id for task in done], statuses, sizes, buffers, elapsed_column, body))
        _observe(done, elapsed_column)
        node.finish(done)
    node.fail(expired)
    return bool(expired)


def _release(node: Node, worker: Worker, dropped: Sequence[Buffer]) -> None:
    """Let the worker use the memory again of results that the client never hears of."""
    regions = [buffer.number for buffer in dropped if type(buffer) is Ref]
    if regions:
        node.actions.append(Give(worker.id, Release(0, regions)))


def _observe(done: Sequence[Task], elapsed: Sequence[int]) -> None:
    """Learn how long the functions take."""
    first = done[0].code if done else None
    if first is not None and all(task.code is first for task in done):
        first.observe(sum(elapsed) / sum([task.count for task in done]))
        return
    seen: dict[bytes, tuple[Code, list[Task], list[int]]] = {}
    for task, microseconds in zip(done, elapsed, strict=True):
        _, tasks, values = seen.setdefault(task.code.key, (task.code, [], []))
        tasks.append(task)
        values.append(microseconds)
    for code, tasks, values in seen.values():
        code.observe(sum(values) / sum([task.count for task in tasks]))


def timed_out(task: Task) -> Failure:
    """Return what a task over its time limit ends with."""
    return Failure(TIMED_OUT, type_name="TaskTimeoutError", timeout=task.timeout)


# --- progress ----------------------------------------------------------------------------------


def on_progress(node: Node, worker: Worker, started: Sequence[int]) -> None:
    """Note that tasks take longer than a moment: nothing is queued behind them any more."""
    session = worker.session
    known = [id for id in dict.fromkeys(started) if id in worker.tasks]
    if session is None or not known:
        return
    assign.mark_started(node, [task for id in known if (task := worker.tasks[id]).state == GIVEN])
    worker.stuck = True
    node.stuck[worker.id] = worker
    session.started.extend(task.id for task in worker.unannounced())


def on_interim(node: Node, worker: Worker, message: Interim) -> None:
    """Pass on what has become of a bundle so far; its calls go elsewhere, so it does not run again as a whole."""
    session, task = worker.session, worker.tasks.get(message.id)
    if session is not None and task is not None and task.count > 1:
        task.committed = True
        task.interim = Interim(node.epoch, message.id, message.data)
        if session.backlog:
            node.settle_lines(session, [task.id])
        node.say(session, task.interim)


def on_returned(node: Node, worker: Worker, ids: Sequence[int]) -> None:
    """Take back what the worker has not started and will not run."""
    session = worker.session
    if session is None:
        return
    held = worker.tasks
    back = [held.pop(id) for id in dict.fromkeys(ids) if id in held and held[id].state in (GIVEN, RUNNING, STOPPING)]
    requeue(node, session, back, HAND_BACK)
    crew.account(node, worker)
    assign.start(node, worker)


def requeue(node: Node, session: Session, tasks: Sequence[Task], event: str) -> None:
    """Put tasks that a worker had back to the front of the queue, or do with them what was wished meanwhile."""
    node.shift(tasks, event)
    ended: list[tuple[Task, Failure]] = []
    returned: list[Task] = []
    for task in tasks:
        task.worker = None
        task.recalled = False
        task.waits, task.paused = 0, 0.0
        if task.wish == EXPIRE:
            ended.append((task, timed_out(task)))
        elif task.wish == CANCEL:
            ended.append((task, CANCELLED_FAILURE))
        elif task.wish == GIVE_BACK and not (task.crashes or task.spared):  # the client would not know
            returned.append(task)
    session.enqueue(tasks, front=True)
    node.fail(ended)
    give_back(node, session, returned)


def give_back(node: Node, session: Session, tasks: Sequence[Task]) -> None:
    """Return tasks to the client, which may run them elsewhere."""
    session.returned.extend(task.id for task in tasks)
    node.finish(tasks)


# --- output ------------------------------------------------------------------------------------


def on_printed(node: Node, worker: Worker, stream: int, data: bytes) -> None:
    """Forward what a worker prints, line by line."""
    session = worker.session
    lines = worker.lines[stream]
    begun = lines.begun
    complete = lines.feed(data)
    if session is None:
        if complete:
            text = complete.text.decode(errors="replace").split("\n")[:10]
            node.log("info", "a worker without work printed", worker=worker.id, lines=text)
        return
    node.print_lines(session, _speaker(worker), stream, complete)
    if lines.partial and lines.begun != begun:
        node.at(node.now + PATIENCE, PARTIAL, (worker, stream, lines.begun))


def flush_partial(node: Node, worker: Worker, stream: int, begun: int) -> None:
    """Forward a line that has begun some time ago, if it still has not ended."""
    lines = worker.lines[stream]
    if worker.session is not None and lines.begun == begun:
        node.print_lines(worker.session, _speaker(worker), stream, lines.flush())


def on_output(node: Node, worker: Worker, message: Output, body: Sequence[Buffer]) -> None:
    """Forward lines of which the worker itself says whose they are."""
    if worker.session is not None:
        task = message.id if message.id in worker.tasks else 0
        node.print_lines(worker.session, task, message.stream, Block(message.lines, bytes(body[0])))


def on_output_ended(node: Node, worker: Worker, stream: int) -> None:
    """Let a worker go whose task has closed its output: the next one would print to nobody, or into somebody's file.

    On threads what Python prints goes another way, and a process that has many tasks is not given up for the rest.
    """
    if worker.threads or worker.leaving or worker.spent:
        return
    node.log("info", "a task closed its output: another worker takes its place", worker=worker.id, stream=stream)
    if ids := [task.id for task in worker.not_started() if not task.recalled]:
        assign.recall(node, worker, ids)
    crew.spend(node, worker)


def _speaker(worker: Worker) -> int:
    """Return the task that the worker runs; 0 if it cannot be told."""
    return 0 if worker.threads else next(iter(worker.tasks), 0)


def _flush_lines(node: Node, worker: Worker, ended: Sequence[Task | None]) -> None:
    """Forward what ended tasks have begun to print, before their results; of threads once none runs that may go on."""
    last = ended[-1] if ended else None
    if last is None or (worker.threads and worker.tasks):
        return
    speaker = 0 if worker.threads else last.id
    for stream, lines in worker.lines.items():
        if lines.open:
            node.print_lines(last.session, speaker, stream, lines.flush(ended=True))


# --- the end of a worker -----------------------------------------------------------------------


def on_exited(node: Node, worker: Worker, event: Exited) -> None:
    """Decide about the tasks of a worker that is gone."""
    session = worker.session
    if session is not None:
        for stream, lines in worker.lines.items():
            node.print_lines(session, _speaker(worker), stream, lines.flush(ended=True))
        node.settle_lines(session, worker.tasks)
    tasks = list(worker.tasks.values())
    worker.tasks.clear()
    node.running += worker.measure()
    crew.remove(node, worker)
    if session is not None and (session.shared or session.outbox.lends):
        session.graves.add(worker.id)
    else:
        node.actions.append(Bury(worker.id))
    if not worker.leaving or (worker.retiring and event.signal and not worker.dying):
        node.deaths += 1
        node.log(
            "warning", "a worker died", worker=worker.id, signal=event.signal, exitcode=event.exitcode, oom=event.oom
        )
    if session is not None:
        for task in tasks:
            nesting.forget(node, task)
        _decide(node, session, worker, tasks, event)
    if node.sessions:
        crew.replenish(node)


def _decide(node: Node, session: Session, worker: Worker, tasks: Sequence[Task], event: Exited) -> None:
    ended: list[tuple[Task, Failure]] = []
    back: list[Task] = []
    ran = set(event.running).intersection(task.id for task in tasks)
    idle = not ran and _was_idle(worker, event)
    for task in tasks:
        guilty = task.id in ran if ran else task.state != GIVEN
        if task.state == OVERDUE:
            move([task], FINISH)
        elif task.wish == EXPIRE:
            ended.append((task, timed_out(task)))
        elif task.wish == CANCEL:
            ended.append((task, CANCELLED_FAILURE))
        elif _may_run_again(task, guilty=guilty, idle=idle):
            back.append(task)
        else:
            ended.append((task, crashed(task, event, guilty=guilty)))
    node.fail(ended)
    requeue(node, session, back, LOSE)


def _was_idle(worker: Worker, event: Exited) -> bool:
    """Return whether it is certain that a worker had begun none of its tasks.

    A task may write rubbish into the cells, so it takes more than that none of them is named there. Where memory ran
    out, what the next one brings may be why. Threads do not tell of tasks in the order in which they begin.
    """
    return event.running == (worker.last,) and not (worker.threads or event.oom)


def _may_run_again(task: Task, *, guilty: bool, idle: bool) -> bool:
    """Return whether the task runs once more; if it is ``guilty`` it is charged with the crash.

    An ``idle`` worker would have begun it next: that is its fault only if it happens again.
    """
    if task.committed:
        return False
    if idle and task.state == RUNNING:
        again, task.spared = not task.spared, True
        return again
    if not guilty:
        # It may have run to its end before the guilty one began, and its result be lost.
        return task.state == GIVEN or task.retries > 0
    if task.crashes or not task.retries or task.count > 1:  # the client runs the calls of a bundle apart
        return False
    task.crashes = 1
    task.retries -= 1
    return True


def crashed(task: Task, event: Exited, *, guilty: bool) -> Failure:
    """Return what a task ends with whose worker has died under it; ``guilty`` if it was the one that ran."""
    return Failure(
        CRASHED,
        type_name="WorkerCrashedError",
        signal=event.signal or 0,
        exitcode=-1 if event.exitcode is None else event.exitcode,
        stderr=list(event.stderr),
        peak_memory=event.peak_memory or 0,
        memory_limit=event.memory_limit or 0,
        oom=event.oom,
        attempts=task.crashes + 1,
        place=_place(task, event) if guilty else -1,
    )


def _place(task: Task, event: Exited) -> int:
    """Return which call of a bundle its worker ran when it died; -1 if none, or if it is no bundle."""
    place = event.calls.get(task.id, task.count)
    return place if 1 < task.count > place else -1
