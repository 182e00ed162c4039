"""Futures; the test is the owner of the loop, and the pool of their callbacks."""

from __future__ import annotations

import concurrent.futures
import gc
import logging
import threading
import weakref
from typing import Any

import pytest

from skyward.errors import NodeLostError, PoolClosedError
from skyward.results import CancelledError, Collection
from tests.outcomes import CANCELLED_THERE, Interrupting, raised, tasks, value
from tests.owner import LONG, make, state

# --- states --------------------------------------------------------------------------------


@pytest.mark.rule("R7")
def test_future_goes_from_pending_to_finished() -> None:
    """It is a future of the standard library all the way, and shows where it is."""
    _, future, task = make()
    assert isinstance(future, concurrent.futures.Future)
    assert (state(future), repr(future)) == ((False, False, False), "<Future pending>")
    future.on_started(unstoppable=False)
    assert (state(future), repr(future)) == ((False, True, False), "<Future running>")
    future.deliver(task, value("done"))
    assert (state(future), repr(future)) == ((True, False, False), "<Future finished>")
    assert future.result() == "done"
    assert future.exception() is None
    future.on_started(unstoppable=False)
    assert future.done()


@pytest.mark.parametrize("outcome", [CancelledError(), PoolClosedError("closed"), CANCELLED_THERE])
def test_cancelled_future_says_so(outcome: Any) -> None:
    """Cancelled here, on its node, or by the end of the pool: it is the same to whoever asks."""
    _, future, task = make()
    future.deliver(task, outcome)
    assert (state(future), repr(future)) == ((True, False, True), "<Future cancelled>")
    for ask in (future.result, future.exception):
        with pytest.raises(CancelledError):
            ask()
    assert future.cancel()


def test_failure_is_raised_or_given() -> None:
    """By `result` and by `exception`; the same one each time."""
    _, future, task = make()
    future.deliver(task, raised(KeyError("k")))
    error = future.exception()
    assert isinstance(error, KeyError)
    for _ in range(2):
        with pytest.raises(KeyError) as caught:
            future.result()
        assert caught.value is error
    assert not future.cancelled()
    assert not future.cancel(), "it ended otherwise"


def test_verdict_of_the_client_is_raised() -> None:
    """A lost node, for example."""
    _, future, task = make()
    error = NodeLostError(0, "gone")
    future.deliver(task, error)
    assert future.exception() is error


def test_settled_future_lets_go_of_its_tasks() -> None:
    """And of the serialized outcome when it has been read."""
    _, future, task = make()
    future.deliver(task, value("done"))
    assert future.tasks == ()
    future.result()
    assert future._outcome is None


def test_failed_future_is_freed_without_the_collector() -> None:
    """Its exception does not refer to it."""
    _, future, task = make()
    future.deliver(task, raised(KeyError("k")))
    gone = weakref.ref(future)
    with pytest.raises(KeyError) as caught:
        future.result()
    del caught
    gc.disable()
    try:
        del future
        assert gone() is None
    finally:
        gc.enable()


def test_future_is_small() -> None:
    """Lock and lists are made on first need."""
    _, future, _ = make()
    assert (future._cond, future._notify, future._callbacks, future._watchers) == (None, None, None, None)


# --- waiting -------------------------------------------------------------------------------


def test_result_waits_for_the_outcome() -> None:
    """Whoever asks first drives the pool."""
    owner, future, task = make()
    owner.on_wait.append(lambda: future.deliver(task, value(5)))
    assert future.result() == 5
    assert owner.waits == 1


def test_result_gives_up_after_its_timeout() -> None:
    """With the `TimeoutError` of the standard library; the call goes on."""
    owner, future, task = make()
    for ask in (future.result, future.exception):
        with pytest.raises(TimeoutError):
            ask(timeout=0.01)
    assert owner.cancelled == []
    future.deliver(task, value(5))
    assert future.result(timeout=0) == 5


def test_many_threads_wait_for_one_future() -> None:
    """All get the value, which is unpickled once."""
    _, future, task = make()
    got: list[Any] = []
    threads = [threading.Thread(target=lambda: got.append(future.result())) for _ in range(8)]
    for thread in threads:
        thread.start()
    future.deliver(task, value([1]))
    for thread in threads:
        thread.join(LONG)
    assert len(got) == 8
    assert all(item is got[0] for item in got)


def test_wait_goes_on_after_a_false_alarm() -> None:
    """That it cannot be stopped wakes who wants to stop it, and is no end."""
    owner, future, task = make()
    owner.on_wait.append(lambda: future.on_started(unstoppable=True))
    owner.on_wait.append(lambda: future.deliver(task, value(5)))
    assert future.result() == 5
    assert owner.waits == 2


def test_watcher_hears_of_an_end_that_was_before() -> None:
    """Nothing happens between the look and the wait."""
    _, future, task = make()
    early = future.watch()
    future.deliver(task, value(1))
    late = future.watch()
    assert early.done
    assert late.done
    future.unwatch(early)
    future.unwatch(late)


@pytest.mark.rule("R29")
def test_interrupt_cancels_what_the_thread_waits_on() -> None:
    """Ctrl-C in `result` is raised there, and the call is given up."""
    owner, future, task = make()

    def interrupt() -> None:
        raise KeyboardInterrupt

    owner.on_wait.append(interrupt)
    with pytest.raises(KeyboardInterrupt):
        future.result()
    assert owner.cancelled == [task]
    assert future._watchers == []


def test_interrupted_unpickling_loses_nothing() -> None:
    """The next one who asks gets the value, not the interrupt."""
    _, future, task = make()
    Interrupting.times = 1
    future.deliver(task, value(Interrupting()))
    with pytest.raises(KeyboardInterrupt):
        future.result()
    assert future.result() == "unpickled"


# --- cancelling ----------------------------------------------------------------------------


@pytest.mark.rule("R7")
@pytest.mark.parametrize("stops", [True, False])
def test_cancel_says_whether_it_stopped_the_call(stops: bool) -> None:
    """The pool decides."""
    owner, future, task = make()
    owner.stops = stops
    assert future.cancel() is stops
    assert owner.cancelled == [task]
    assert future.cancelled() is stops


# --- callbacks -----------------------------------------------------------------------------


@pytest.mark.rule("R7")
def test_callbacks_run_in_order_in_their_own_thread() -> None:
    """Each with the future, when it has ended."""
    _, future, task = make()
    seen: list[tuple[str, str, bool]] = []
    done = threading.Event()
    future.add_done_callback(lambda f: seen.append(("first", threading.current_thread().name, f.done())))
    future.add_done_callback(lambda _: done.set())
    assert seen == []
    future.deliver(task, value(1))
    assert done.wait(LONG)
    assert seen == [("first", "callbacks", True)]


def test_late_callback_runs_at_once() -> None:
    """Of a future that has ended, in the thread that adds it."""
    _, future, task = make()
    future.deliver(task, value(1))
    seen: list[Any] = []
    future.add_done_callback(lambda f: seen.append((f, threading.current_thread())))
    assert seen == [(future, threading.current_thread())]


@pytest.mark.parametrize("error", [ZeroDivisionError, SystemExit])
def test_bad_callback_is_logged(caplog: pytest.LogCaptureFixture, error: type[BaseException]) -> None:
    """The others run all the same."""
    _, future, task = make()
    done = threading.Event()

    def fail(_: object) -> None:
        raise error

    future.add_done_callback(fail)
    future.add_done_callback(lambda _: done.set())
    with caplog.at_level(logging.ERROR, "concurrent.futures"):
        future.deliver(task, value(1))
        assert done.wait(LONG)
    assert "exception calling callback for <Future finished>" in caplog.text


def test_bad_late_callback_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """As in the standard library."""
    _, future, task = make()
    future.deliver(task, value(1))
    with caplog.at_level(logging.ERROR, "concurrent.futures"):
        future.add_done_callback(lambda _: 1 / 0)
    assert "exception calling callback" in caplog.text


@pytest.mark.rule("R7")
def test_removed_callback_does_not_run() -> None:
    """As often as it was added; others stay, and one that is not there is none."""
    owner, future, task = make()
    seen: list[str] = []
    done = threading.Event()

    def removed(_: object) -> None:
        seen.append("removed")

    for callback in (removed, lambda _: seen.append("kept"), removed, lambda _: done.set()):
        future.add_done_callback(callback)
    assert future.remove_done_callback(removed) == 2
    assert future.remove_done_callback(removed) == 0
    future.deliver(task, value(1))
    assert done.wait(LONG)
    assert seen == ["kept"]
    assert future.remove_done_callback(removed) == 0
    assert make()[1].remove_done_callback(removed) == 0
    assert owner.cancelled == []


# --- of groups -----------------------------------------------------------------------------


def test_future_of_a_group_is_a_tuple() -> None:
    """Settled with the last member."""
    owner, future, _ = make()
    members = tasks(2)
    collection = Collection(2, return_exceptions=False, cancel=owner.cancel_tasks)
    collection.tasks, collection.future = members, future
    collection.on_started(unstoppable=False)
    assert future.running()
    collection.deliver(members[1], value("b"))
    assert not future.done()
    collection.deliver(members[0], value("a"))
    assert future.result() == ("a", "b")
    assert collection.future is None


def test_future_of_a_group_fails_with_its_first_failure() -> None:
    """And the rest is cancelled."""
    owner, future, _ = make()
    members = tasks(2)
    collection = Collection(2, return_exceptions=False, cancel=owner.cancel_tasks)
    collection.tasks, collection.future = members, future
    collection.deliver(members[1], raised(KeyError("k")))
    assert isinstance(future.exception(), KeyError)
    assert owner.cancelled == members


@pytest.mark.rule("R7")
@pytest.mark.parametrize("last", [CANCELLED_THERE, value("b")], ids=["stopped", "faster"])
def test_group_that_is_being_cancelled_ends_with_its_last_member(last: Any) -> None:
    """Whatever that one's outcome is; a failure of its own shows at once."""
    owner, future, _ = make()
    members = tasks(2)
    collection = Collection(2, return_exceptions=False, cancel=owner.cancel_tasks)
    collection.tasks, collection.future = members, future
    collection.on_cancel()
    collection.deliver(members[0], CancelledError())
    assert not future.done()
    collection.deliver(members[1], last)
    assert future.cancelled()


@pytest.mark.rule("R7")
def test_group_that_is_being_cancelled_shows_a_failure() -> None:
    """A member that raises meanwhile has not been cancelled."""
    owner, future, _ = make()
    members = tasks(3)
    collection = Collection(3, return_exceptions=False, cancel=owner.cancel_tasks)
    collection.tasks, collection.future = members, future
    collection.on_cancel()
    collection.deliver(members[0], CancelledError())
    collection.deliver(members[1], raised(KeyError("k")))
    assert isinstance(future.exception(), KeyError)


def test_future_of_a_cancelled_group_is_cancelled() -> None:
    """One cancelled member ends all."""
    owner, future, _ = make()
    members = tasks(2)
    collection = Collection(2, return_exceptions=False, cancel=owner.cancel_tasks)
    collection.tasks, collection.future = members, future
    collection.deliver(members[0], CancelledError())
    assert future.cancelled()
