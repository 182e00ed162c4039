"""The supervisor: never blocks, reports every death once, and leaves nothing."""

from __future__ import annotations

import os
import resource
import select
import signal
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from skyward.wire.codec import encode
from skyward.wire.lone import Reply
from skyward.wire.messages import Results
from skyward_node.executors.events import Exited, Printed, Received, Spawned
from skyward_node.executors.last_words import STDERR_LINES, last_lines
from skyward_node.testing import PATIENCE, Rig, descendants

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def rig() -> Iterator[Rig]:
    """A rig in process mode."""
    with Rig() as rig:
        yield rig


def open_fds() -> int:
    """Return how many descriptors this process has."""
    return len(os.listdir("/proc/self/fd"))


def test_close_leaves_neither_descriptors_nor_processes() -> None:
    """After `close`, whatever the workers were at, processes and descriptors are as before."""
    fds, family = open_fds(), descendants(os.getpid())

    def litter() -> None:
        import os
        import time

        if os.fork():
            print("x", flush=True)
        time.sleep(600)

    for _ in range(3):
        with Rig() as rig:
            busy, idle, unborn = rig.spawn(), rig.spawn(), rig.spawn()
            rig.submit(busy, litter)
            rig.call(idle, abs, -1)
            rig.until(lambda busy=busy, rig=rig: busy in rig.printed)  # type: ignore[misc]  # a lambda's defaults
            rig.submit(unborn, len, bytes(10**7))
            rig.supervisor.spawn(100, 1, {})
        assert descendants(os.getpid()) <= family
    assert open_fds() == fds


def test_dead_workers_leave_no_descriptors(rig: Rig) -> None:
    """A worker's end closes all that was open for it."""
    rig.pid(rig.spawn())
    fds = open_fds()
    for _ in range(20):
        worker = rig.spawn()
        rig.call(worker, abs, -1)
        rig.supervisor.kill(worker)
        rig.exit_of(worker)
        rig.supervisor.bury(worker)
    assert open_fds() == fds


def test_memory_of_a_dead_worker_stays_until_it_is_buried(rig: Rig) -> None:
    """A result in it may not have been opened yet; burying twice, or a stranger, is harmless."""
    worker = rig.spawn()
    rig.call(worker, abs, -1)
    rig.supervisor.kill(worker)
    rig.exit_of(worker)
    before = open_fds()
    for _ in range(2):
        rig.supervisor.bury(worker)
        rig.supervisor.bury(99)
        assert open_fds() == before - 1


def test_template_keeps_no_descriptors_and_no_zombies(rig: Rig) -> None:
    """The template is after a hundred workers as it was after one."""
    rig.pid(rig.spawn())
    path = f"/proc/{rig.template.pid}/fd"
    fds = len(os.listdir(path))  # some of them for a moment
    for _ in range(20):
        some = [rig.spawn() for _ in range(5)]
        for worker in some:
            rig.supervisor.kill(worker)
        for worker in some:
            rig.exit_of(worker)
    deadline = time.monotonic() + PATIENCE
    while len(os.listdir(path)) > fds and time.monotonic() < deadline:
        os.sched_yield()
    assert len(os.listdir(path)) <= fds
    assert len(descendants(rig.template.pid)) == 1


def test_send_never_blocks(rig: Rig) -> None:
    """What a stopped worker does not read is kept, and read when it goes on."""
    worker = rig.spawn()
    os.kill(rig.pid(worker), signal.SIGSTOP)
    data = [bytes([n]) * 2_000_000 for n in range(20)]
    tasks = [rig.submit(worker, lambda b: (len(b), b[:1]), some) for some in data]
    rig.pump()
    os.kill(rig.pid(worker), signal.SIGCONT)
    assert [rig.value(task) for task in tasks] == [(2_000_000, some[:1]) for some in data]


def test_everything_a_worker_sent_comes_before_its_exit(rig: Rig) -> None:
    """Results and output that were written before a sudden death are reported, then the death, once."""
    for _ in range(20):
        worker = rig.spawn()

        def work(n: int) -> int:
            import os

            if n == 100:
                os._exit(5)
            print(n)
            return n

        rig.submit_all(worker, work, [(n,) for n in range(101)])
        assert rig.exit_of(worker).exitcode == 5
        mine = [event for event in rig.events if getattr(event, "worker", 0) == worker]
        assert sum(isinstance(event, Spawned) for event in mine) == 1
        assert isinstance(mine[-1], Exited)
        assert sum(isinstance(event, Exited) for event in mine) == 1
        assert rig.printed[worker][1].split()[-1] == b"99"


def test_last_words_are_read_although_the_death_is_heard_first(rig: Rig) -> None:
    """When the template's report is read before the data pipe, results and output come before the exit all the same."""
    worker = rig.spawn()
    rig.call(worker, abs, -1)

    def leave() -> int:
        import os
        import threading

        def last_words() -> None:
            print("last words", flush=True)
            os._exit(3)

        threading.Timer(0.05, last_words).start()
        return 7

    task = rig.submit(worker, leave)
    ready = select.poll()
    ready.register(rig.template.socket, select.POLLIN)
    assert ready.poll(PATIENCE * 1000)
    rig.supervisor._on_template(select.EPOLLIN)
    assert rig.exit_of(worker).exitcode == 3
    assert rig.value(task) == 7
    assert rig.printed[worker][1] == b"last words\n"


def wait_for_data(rig: Rig, worker: int) -> None:
    """Wait until the worker has written to its data pipe, and read nothing."""
    ready = select.poll()
    ready.register(rig.supervisor._workers[worker].data.socket, select.POLLIN)
    assert ready.poll(PATIENCE * 1000)


def test_small_outcome_is_read_by_itself(rig: Rig) -> None:
    """If nothing else has happened; what has is left for `events`."""
    worker = rig.spawn()
    rig.call(worker, abs, -1)
    assert rig.lone_outcome() is None
    task = rig.submit(worker, abs, -7)
    wait_for_data(rig, worker)
    outcome = rig.lone_outcome()
    assert outcome is not None
    assert (outcome[0], outcome[1].id, outcome[1].status) == (worker, task, 0)
    large = rig.submit(worker, lambda: "x" * 100_000)
    wait_for_data(rig, worker)
    assert rig.lone_outcome() is None
    assert len(rig.value(large)) == 100_000
    rig.supervisor.kill(worker)
    wait_for_data(rig, worker)
    rig.until(lambda: rig.lone_outcome() is None and worker in rig.exits)


@pytest.mark.rule("R28")
def test_small_outcome_does_not_overtake_output(rig: Rig) -> None:
    """What its task has printed is reported before it."""
    worker = rig.spawn()
    rig.call(worker, abs, -1)
    task = rig.submit(worker, print, "hello")
    wait_for_data(rig, worker)
    assert rig.lone_outcome() is None
    printed, received = rig.events[-2:]
    assert printed == Printed(worker, 1, b"hello\n")
    assert isinstance(received, Received)
    assert isinstance(received.message, Reply)
    assert received.message.id == task


def test_half_a_message_of_a_dead_worker_is_dropped(rig: Rig) -> None:
    """A worker that dies while it sends a large result is reported, and the half is not."""
    worker = rig.spawn()
    rig.call(worker, abs, -1)
    pid = rig.pid(worker)
    task = rig.submit(worker, lambda: list(range(10_000_000)))

    def sending() -> bool:  # blocked in sendmsg: its result is larger than the socket's buffer, and we do not read
        with suppress(OSError), open(f"/proc/{pid}/wchan", encoding="ascii") as wchan:
            return "sock_alloc_send" in wchan.read()
        return False

    deadline = time.monotonic() + PATIENCE
    while not sending() and time.monotonic() < deadline:
        os.sched_yield()
    os.kill(pid, signal.SIGKILL)
    assert rig.exit_of(worker).signal == signal.SIGKILL
    assert task not in rig.results


def test_kill_before_birth_is_a_death(rig: Rig) -> None:
    """A worker that is killed right after `spawn` is reported as killed, once."""
    for _ in range(10):
        worker = rig.spawn()
        rig.supervisor.kill(worker)
        assert rig.exit_of(worker).signal == signal.SIGKILL
    assert all(len(exits) == 1 for exits in rig.exits.values())


def test_orders_for_workers_that_are_gone_are_ignored(rig: Rig) -> None:
    """Sending to, killing or retiring a worker that is dead or never was does nothing."""
    worker = rig.spawn()
    os.kill(rig.pid(worker), signal.SIGKILL)
    for number in (worker, 12345):
        rig.supervisor.send(number, [encode(rig.context())])
        rig.supervisor.retire(number)
        rig.supervisor.kill(number)
    rig.exit_of(worker)
    rig.supervisor.kill(worker)


@pytest.mark.rule("F58")
def test_flood_of_output_stalls_nobody(rig: Rig) -> None:
    """A worker that prints without end is read in bounded portions, and another is served meanwhile."""
    loud, quiet = rig.spawn(), rig.spawn()

    def flood() -> None:
        import os

        while True:
            os.write(1, b"x" * 65536)
            os.write(2, b"y" * 65536)

    rig.call(quiet, abs, -1)
    rig.submit(loud, flood)
    rig.until(lambda: loud in rig.printed)
    for n in range(100):
        assert rig.call(quiet, abs, -n) == n
    portions = [event for event in rig.events if isinstance(event, Printed)]
    assert max(len(event.data) for event in portions) <= 65536


def test_last_lines_are_few_short_and_decoded() -> None:
    """The end of stderr is cut to lines that an error can show."""
    text = "".join(f"{n} é{'x' * 3000}\n" for n in range(100)).encode()
    lines = last_lines(text)
    assert len(lines) == STDERR_LINES
    assert lines[-1].startswith("99 éxx")
    assert {len(line) for line in lines} == {1000}
    assert last_lines(b"") == ()
    assert last_lines(b"\xff\n") == ("�",)


def test_last_lines_show_the_top_of_a_fatal_error() -> None:
    """Of a long stack that faulthandler printed, the lines nearest to the crash are kept."""
    stack = "Fatal Python error: Segmentation fault\n" + "".join(f"  frame {n}\n" for n in range(80))
    lines = last_lines(b"before\n" + stack.encode())
    assert lines[:3] == ("before", "Fatal Python error: Segmentation fault", "  frame 0")
    assert len(lines) == STDERR_LINES
    assert last_lines(b"before\n" * 50 + stack.encode())[STDERR_LINES // 2 - 1 :][:2] == lines[:2]


@pytest.mark.rule("F61")
def test_descriptor_shortage_is_an_error_and_passes(rig: Rig) -> None:
    """`spawn` raises when descriptors run out, leaks none, and works again later (F61)."""
    rig.pid(rig.spawn())
    fds = open_fds()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for room in range(1, 9):
        highest = max(map(int, os.listdir("/proc/self/fd")))
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest + room, hard))
        try:
            filler: list[int] = []
            with suppress(OSError):
                while True:
                    filler.append(os.dup(0))
            for fd in filler[: room - 1]:
                os.close(fd)
            with pytest.raises(OSError, match="Too many open files"):
                rig.supervisor.spawn(1000 + room, 1, {})
            for fd in filler[room - 1 :]:
                os.close(fd)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert open_fds() == fds
    assert rig.call(rig.spawn(), abs, -2) == 2


def test_many_workers_can_be_ordered_at_once() -> None:
    """More orders than the template's socket holds are sent as it takes them."""
    with Rig() as rig:
        os.kill(rig.template.pid, signal.SIGSTOP)
        workers = [rig.spawn() for _ in range(40)]
        os.kill(rig.template.pid, signal.SIGCONT)
        tasks = [rig.submit(worker, abs, -n) for n, worker in enumerate(workers)]
        assert [rig.value(task) for task in tasks] == list(range(40))


def test_received_bodies_belong_to_the_receiver(rig: Rig) -> None:
    """A large result arrives in a buffer of its own, which the receiver may keep."""
    worker = rig.spawn()
    tasks = [rig.submit(worker, lambda n: [n] * 300_000, n) for n in range(5)]
    for task in tasks:
        rig.value(task)
    bodies = [e.body for e in rig.events if isinstance(e, Received) and isinstance(e.message, Results)]
    kept = [
        bytes(memoryview(frame)[-1:])[:1] for body in bodies for frame in body if memoryview(frame).nbytes > 100_000
    ]
    assert len(kept) == 5
