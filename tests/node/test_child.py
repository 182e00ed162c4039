"""What a worker makes of the tasks it is given."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

import numpy as np
import pytest

from skyward.wire.lone import Reply
from skyward.wire.messages import Progress, Results
from skyward.wire.statuses import CRASHED, IMPORT_FAILED, RAISED, TOO_LARGE, UNSERIALIZABLE
from skyward_node.cells import READY
from skyward_node.executors.events import OutputEnded, Printed, Received
from skyward_node.testing import Rig
from skyward_node.worker.slot import Slot


def test_worker_returns_the_value_of_a_call() -> None:
    """A task's value comes back as the function returned it."""
    with Rig() as rig:
        worker = rig.spawn()
        assert rig.call(worker, lambda a, b: [a, b], 1, "two") == [1, "two"]


def test_worker_can_be_sent_tasks_before_it_exists() -> None:
    """Calls that are sent right after `spawn` wait in the pipe."""
    with Rig() as rig:
        workers = [rig.spawn() for _ in range(3)]
        tasks = [rig.submit(worker, lambda x: x * x, n) for n, worker in enumerate(workers)]
        assert [rig.value(task) for task in tasks] == [0, 1, 4]


@pytest.mark.rule("R38")
def test_idle_process_tells_what_it_began_last() -> None:
    """After its death, too: the task whose result has come, or that it was ready and has begun none."""
    with Rig() as rig:
        used, fresh = rig.spawn(), rig.spawn()
        *_, last = tasks = [rig.submit(used, abs, -1) for _ in range(3)]
        assert [rig.value(task) for task in tasks] == [1, 1, 1]
        rig.until(lambda: rig.supervisor._workers[fresh].cells.tasks() == (READY,))
        for worker in (used, fresh):
            os.kill(rig.pid(worker), signal.SIGKILL)
        assert [rig.exit_of(worker).running for worker in (used, fresh)] == [(last,), (READY,)]


def test_worker_returns_batches_in_order_and_once() -> None:
    """Ten thousand small calls come back once each, first in, first out, in far fewer messages."""
    with Rig() as rig:
        worker = rig.spawn()
        tasks = rig.submit_all(worker, abs, [(-n,) for n in range(10_000)])
        rig.until(lambda: len(rig.results) == len(tasks))
        messages = [e for e in rig.events if isinstance(e, Received) and isinstance(e.message, Results | Reply)]
        assert [rig.value(task) for task in tasks] == list(range(10_000))
        assert rig.order == tasks
        assert not rig.repeated
        assert len(messages) < 2_000


def test_worker_sends_large_arguments_and_results_whole() -> None:
    """Megabytes pass both ways, larger than any socket buffer, as they were."""
    with Rig() as rig:
        worker = rig.spawn()
        data = bytes(range(256)) * 40_000
        tasks = [rig.submit(worker, lambda b: b[::-1], data) for _ in range(3)]
        assert all(rig.value(task) == data[::-1] for task in tasks)


def test_result_is_sent_before_the_next_task_can_change_it() -> None:
    """An array that a task returns and the next one changes arrives as it was returned."""
    with Rig() as rig:
        worker = rig.spawn()

        def bump(step: int) -> object:
            import sys as shared

            array = shared.__dict__.setdefault("_kept_array", np.zeros(100_000))
            array += step
            return array

        tasks = rig.submit_all(worker, bump, [(1,)] * 5)
        assert [rig.value(task)[0] for task in tasks] == [1, 2, 3, 4, 5]


@pytest.mark.rule("R29")
def test_exception_of_a_task_carries_type_message_and_traceback() -> None:
    """What a task raises comes back with the user's frames, and not with ours."""
    with Rig() as rig:
        worker = rig.spawn()

        def fail() -> None:
            raise ValueError("no luck")

        failure = rig.failure(rig.submit(worker, fail))
        assert (failure.status, failure.type_name, failure.message) == (RAISED, "ValueError", "no luck")
        assert "in fail" in failure.traceback
        assert "slot.py" not in failure.traceback
        assert rig.call(worker, abs, -1) == 1


@pytest.mark.rule("F15")
@pytest.mark.rule("R29")
@pytest.mark.parametrize(("code", "expected"), [(3, 3), (None, 0), (-1, 255), ("bye", 1)])
def test_sys_exit_is_a_crash_with_its_code_and_the_worker_goes_on(code: object, expected: int) -> None:
    """``sys.exit`` in a task is reported at once, as what a process would have exited with."""
    with Rig() as rig:
        worker = rig.spawn()
        task = rig.submit(worker, lambda: sys.exit(code))  # type: ignore[arg-type]  # any object is allowed
        failure = rig.failure(task)
        assert (failure.status, failure.exitcode) == (CRASHED, expected)
        assert failure.stderr == (["bye"] if code == "bye" else [])
        assert rig.call(worker, abs, -1) == 1


def test_base_exceptions_do_not_end_the_worker() -> None:
    """Whatever a task raises, the worker reports it and runs the next task."""
    with Rig() as rig:
        worker = rig.spawn()

        def fail(name: str) -> None:
            import builtins

            raise getattr(builtins, name)

        for name in ("KeyboardInterrupt", "GeneratorExit", "StopIteration", "MemoryError", "RecursionError"):
            assert rig.failure(rig.submit(worker, fail, name)).type_name == name
        assert rig.call(worker, abs, -1) == 1


@pytest.mark.rule("F30")
def test_result_that_cannot_be_pickled_fails_with_its_repr() -> None:
    """An unpicklable result is a failure that shows what it was."""
    with Rig() as rig:
        worker = rig.spawn()

        def lock() -> object:
            import threading

            return threading.Lock()

        failure = rig.failure(rig.submit(worker, lock))
        assert failure.status == UNSERIALIZABLE
        assert "_thread.lock" in failure.message
        assert "cannot serialize" not in failure.message, "the client's error says that"


@pytest.mark.rule("F31")
@pytest.mark.rule("R21")
def test_result_over_max_payload_fails_with_size_and_limit() -> None:
    """A result larger than the limit is not sent; the failure names both sizes."""
    with Rig() as rig:
        worker = rig.spawn(max_payload=1000)
        failure = rig.failure(rig.submit(worker, lambda: bytes(5000)))
        assert failure.status == TOO_LARGE
        assert failure.limit == 1000
        assert failure.size > 5000
        assert rig.call(worker, lambda: bytes(500)) == bytes(500)


@pytest.mark.rule("F29")
def test_module_that_is_missing_on_the_node_is_named() -> None:
    """Arguments that need an absent module fail as an import, with its name."""
    with Rig() as rig:
        worker = rig.spawn()

        class Alien:
            def __reduce__(self) -> tuple[Any, ...]:
                return __import__, ("no_such_module_anywhere",)

        failure = rig.failure(rig.submit(worker, lambda x: x, Alien()))
        assert (failure.status, failure.module) == (IMPORT_FAILED, "no_such_module_anywhere")


def test_arguments_that_fail_to_unpickle_fail_their_task_alone() -> None:
    """An exception while arguments are unpickled is the failure of that task."""
    with Rig() as rig:
        worker = rig.spawn()

        class Mine:
            def __reduce__(self) -> tuple[Any, ...]:
                return int, ("not a number",)

        tasks = [rig.submit(worker, lambda x: x, Mine()), rig.submit(worker, lambda x: x, 1)]
        assert rig.failure(tasks[0]).type_name == "ValueError"
        assert rig.value(tasks[1]) == 1


@pytest.mark.rule("R49")
def test_coroutine_functions_share_one_event_loop() -> None:
    """``async def`` tasks run on one loop per worker, which keeps what is bound to it."""
    with Rig() as rig:
        worker = rig.spawn()

        async def which() -> int:
            import asyncio

            await asyncio.sleep(0)
            return id(asyncio.get_running_loop())

        assert rig.call(worker, which) == rig.call(worker, which)


def test_hidden_generators_are_refused() -> None:
    """A function that returns a generator without being a generator function fails with a TypeError that says so."""
    with Rig() as rig:
        worker = rig.spawn()

        def numbers() -> object:
            return (number for number in range(3))

        failure = rig.failure(rig.submit(worker, numbers))
        assert failure.type_name == "TypeError"
        assert "is no generator function" in failure.message


def test_finished_results_do_not_wait_for_the_long_task_behind_them() -> None:
    """The result of a short task is sent while the long task of the same chunk runs, which is reported as started."""
    with Rig() as rig:
        worker = rig.spawn()

        def nap(seconds: float) -> None:
            import time

            time.sleep(seconds)

        short, long, last = rig.submit_all(worker, nap, [(0,), (60,), (0,)])
        rig.until(lambda: short in rig.results and long in rig.started)
        assert long not in rig.results
        assert last not in rig.started


def test_progress_never_follows_the_result() -> None:
    """A task is reported as started at most once, and not after its result."""
    with Rig() as rig:
        worker = rig.spawn()

        def nap(seconds: float) -> None:
            import time

            time.sleep(seconds)

        tasks = rig.submit_all(worker, nap, [(n % 3 * 0.0015,) for n in range(300)])
        rig.until(lambda: len(rig.results) == len(tasks))
        done: set[int] = set()
        for event in rig.events:
            if isinstance(event, Received) and isinstance(event.message, Results | Reply):
                done.update(event.message.ids)
            elif isinstance(event, Received) and isinstance(event.message, Progress):
                assert not done & set(event.message.started)
        assert len(rig.started) == len(set(rig.started))


@pytest.mark.rule("R38")
@pytest.mark.parametrize("executor", ["process", "thread"])
def test_worker_that_cannot_tell_an_outcome_ends(executor: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of ours in a thread that runs tasks is a crash, which is told: the call would wait for ever."""

    def fail(*_: object) -> object:
        raise MemoryError

    monkeypatch.setattr(Slot, "run", fail)  # as the worker, a fork of this process, has it
    with Rig(executor=executor) as rig:
        worker = rig.spawn()
        rig.submit(worker, abs, -1)
        assert rig.exit_of(worker).exitcode == 1


def test_worker_without_reuse_runs_one_task() -> None:
    """With ``reuse_processes=False`` the worker ends after its first task, with code 0."""
    with Rig(reuse_processes=False) as rig:
        worker = rig.spawn()
        assert rig.call(worker, abs, -1) == 1
        assert rig.exit_of(worker).exitcode == 0


def test_retired_worker_finishes_what_it_has() -> None:
    """After `retire` a worker runs the tasks it was given, runs its atexit handlers, and exits with 0."""
    with Rig() as rig:
        worker = rig.spawn()

        def hello() -> None:
            import atexit

            atexit.register(print, "goodbye")

        tasks = [rig.submit(worker, hello), *rig.submit_all(worker, abs, [(-n,) for n in range(500)])]
        rig.supervisor.retire(worker)
        assert rig.exit_of(worker).exitcode == 0
        assert set(tasks) <= rig.results.keys()
        assert rig.printed[worker][1] == b"goodbye\n"


@pytest.mark.rule("R31")
def test_worker_lives_in_the_world_of_the_config(tmp_path: object) -> None:
    """Directory, umask, import path, environment and stdin are as configured; ``__main__`` is empty."""
    config = {
        "cwd": str(tmp_path), "umask": 0o27, "sys_path": ("/somewhere", ""), "env": {"COLOUR": "red", "SHAPE": "round"},
    }  # fmt: skip
    with Rig(**config) as rig:
        worker = rig.spawn(env={"SHAPE": "square"})

        def look() -> tuple[object, ...]:
            import os
            import sys

            old = os.umask(0)
            os.umask(old)
            main = sys.modules["__main__"]
            names = {name for name in vars(main) if not name.startswith("__")}
            return (
                os.getcwd(), old, sys.path[:2], os.environ["COLOUR"], os.environ["SHAPE"], sys.stdin.read(),
                main.__name__, names, sys.argv, os.getsid(0) == os.getpid(),
            )  # fmt: skip

        assert rig.call(worker, look) == (
            str(tmp_path), 0o27, ["/somewhere", ""], "red", "square", "", "__main__", set(), ["skyward-worker"], True,
        )  # fmt: skip

        def ours() -> str:
            import importlib

            return importlib.import_module("skyward_node.worker.slot").__name__

        assert rig.call(worker, ours) == "skyward_node.worker.slot"


def test_missing_directory_does_not_stop_the_worker() -> None:
    """A working directory that is gone is complained about on stderr, and the worker works."""
    with Rig(cwd="/no/such/directory") as rig:
        worker = rig.spawn()
        assert rig.call(worker, abs, -1) == 1
        assert b"cannot enter /no/such/directory" in rig.printed[worker][2]


def test_output_comes_before_the_result() -> None:
    """What a task printed, also without a line's end, is reported before its result."""
    with Rig() as rig:
        worker = rig.spawn()
        for n in range(200):
            rig.call(worker, lambda n=n: print(n, end=" "))
        printed, done = b"", 0
        for event in rig.events:
            if isinstance(event, Printed):
                printed += event.data
            elif isinstance(event, Received) and isinstance(event.message, Results | Reply):
                done += 1
                assert printed.endswith(b"%d \n" % (done - 1))
        assert done == 200


def test_closed_stdout_harms_nobody_but_the_task() -> None:
    """A task that closes sys.stdout, or descriptor 1, does not end its worker."""
    with Rig() as rig:
        worker = rig.spawn()

        def close() -> None:
            import os
            import sys

            sys.stdout.close()
            os.close(1)

        rig.call(worker, close)
        assert OutputEnded(worker, 1) in rig.events  # no later than the outcome
        assert rig.call(worker, abs, -1) == 1


def test_instance_info_says_where_the_task_runs() -> None:
    """Tasks see the rank of their node and the index of their worker."""
    with Rig() as rig:
        worker = rig.spawn(rank=3, index=2)

        def where() -> tuple[int, int]:
            from skyward import runtime

            info = runtime.instance_info()
            assert info is not None
            return info.node, info.worker

        assert rig.call(worker, where) == (3, 2)
