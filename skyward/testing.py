"""Checks that an extension keeps its contract; for the tests of whoever writes one.

    @pytest.mark.parametrize("check", skyward.testing.PROVIDER_CHECKS, ids=lambda check: check.__name__)
    def test_provider_keeps_the_contract(check):
        check(MyProvider)

A check takes a function that makes an unused provider, and raises `AssertionError` that says what is wrong.
It leaves nothing behind if the provider does not.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from skyward.errors import ProvisionError
from skyward.providers.base import LaunchSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from skyward.providers.base import Launched, Provider

    Make = Callable[[], Provider]
    Check = Callable[[Make], None]

SPEC: Final = LaunchSpec()
PATIENCE: Final = 20.0  # seconds for what should take milliseconds
SOON: Final = 5.0  # seconds in which a provider heeds a cancelled launch


@contextmanager
def _opened(make: Make) -> Generator[Provider]:
    provider = make()
    provider.prepare()
    try:
        yield provider
    finally:
        provider.close()


def _launch(provider: Provider, index: int = 0, spec: LaunchSpec = SPEC) -> Launched:
    return provider.launch(spec, index, threading.Event())


def _lives(launched: Launched) -> bool:
    """Return whether the node's process exists, as far as that can be seen from here."""
    if launched.pid is None:
        return False
    try:
        os.kill(launched.pid, 0)
    except ProcessLookupError:
        return False
    return True


def _answers(launched: Launched) -> bool:
    """Return whether somebody listens where the node is."""
    kind, _, place = launched.endpoint.partition("://")
    if kind == "ipc":
        with socket.socket(socket.AF_UNIX) as probe:
            return probe.connect_ex(place) == 0
    host, _, port = place.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), SOON).close()
    except OSError:
        return False
    return True


def _is_left_right(provider: Provider, launched: Launched) -> bool:
    """Return whether a node that was ended does not exist, or runs on if the provider has not launched it."""
    return not _lives(launched) if provider.launches else _answers(launched)


def _is_readable(fd: int, patience: float = 0.0) -> bool:
    return bool(select.select([fd], [], [], patience)[0])


def _wrong(provider: Provider) -> str:
    return "a node is left" if provider.launches else "a node that somebody else has started was ended"


def check_launched_node_is_described(make: Make) -> None:
    """A node that serves has an endpoint, and its death can be told from its life."""
    with _opened(make) as provider:
        launched = _launch(provider)
        assert launched.ident, "a node needs a name"
        assert launched.endpoint.startswith(("ipc://", "tcp://")), f"{launched.endpoint!r} is no endpoint"
        assert launched.public_key or launched.endpoint.startswith("ipc://"), "a TCP endpoint needs a public key"
        assert launched.address, "a node needs an address"
        assert launched.death_fd is None or not _is_readable(launched.death_fd), "the node is said to be dead"
        for lines in (provider.log_tail(launched), provider.read_log(launched)):
            assert all(isinstance(line, str) for line in lines), "a log is made of lines"


def check_nodes_come_up_side_by_side(make: Make) -> None:
    """Launching works from several threads at once, and the nodes are different ones."""
    with _opened(make) as provider:
        launched: list[Launched] = []

        def launch(index: int) -> None:
            launched.append(_launch(provider, index))

        threads = [threading.Thread(target=launch, args=(index,)) for index in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(launched) == len(threads), "a launch failed"
        assert len({node.ident for node in launched}) == len(launched), "two nodes have the same name"
        assert len({node.endpoint for node in launched}) == len(launched), "two nodes have the same endpoint"


def check_terminated_node_is_gone(make: Make) -> None:
    """When `terminate` returns the node does not exist; ending it twice, or from two threads, does nothing more.

    A node that the provider has not launched runs on.
    """
    with _opened(make) as provider:
        launched, other = _launch(provider, 0), _launch(provider, 1)
        threads = [threading.Thread(target=provider.terminate, args=[launched]) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert _is_left_right(provider, launched), _wrong(provider)
        provider.terminate(launched)
        assert other.pid is None or _lives(other), "the wrong node was ended"


def check_node_that_does_not_obey_is_ended(make: Make) -> None:
    """`terminate` ends a node that is stopped, and so does `close`."""
    with _opened(make) as provider:
        stopped = [_launch(provider, index) for index in range(2)]
        for launched in stopped:
            if launched.pid is not None:
                os.kill(launched.pid, signal.SIGSTOP)
        provider.terminate(stopped[0])
        assert not _lives(stopped[0]), "terminate left a stopped node"
        provider.close()
        assert not _lives(stopped[1]), "close left a stopped node"


def check_death_is_told(make: Make) -> None:
    """``death_fd`` becomes readable when the node dies, and the dead node can be terminated."""
    with _opened(make) as provider:
        launched = _launch(provider)
        if launched.pid is None or launched.death_fd is None:
            return
        os.kill(launched.pid, signal.SIGKILL)
        assert _is_readable(launched.death_fd, PATIENCE), "the death was not told"
        provider.terminate(launched)
        assert not _lives(launched), "a zombie is left"


def check_cancelled_launch_ends_soon(make: Make) -> None:
    """A launch that is not wanted any more fails, within seconds, and leaves nothing."""
    with _opened(make) as provider:
        cancelled = threading.Event()
        cancelled.set()
        start = time.monotonic()
        _expect_failure(lambda: provider.launch(SPEC, 0, cancelled), "a cancelled launch succeeded")
        assert time.monotonic() - start < SOON, "a cancelled launch took its time"


def check_launch_that_takes_too_long_fails(make: Make) -> None:
    """A node that is not ready in time is an error that says so; one that runs already may be faster than that."""
    with _opened(make) as provider:
        hasty = replace(SPEC, start_timeout=0.001)
        if not provider.launches:
            with suppress(ProvisionError):
                assert _answers(_launch(provider, 0, hasty)), "nobody listens there"
            return
        error = _expect_failure(lambda: _launch(provider, 0, hasty), "no launch takes only a millisecond")
        assert "start_timeout" in str(error), f"{error} does not name start_timeout"


def check_close_leaves_nothing(make: Make) -> None:
    """`close` ends all nodes, may be repeated, works on an unused provider, and ends what it can be used for."""
    unused = make()
    unused.close()
    unused.close()
    with _opened(make) as provider:
        nodes = [_launch(provider, index) for index in range(2)]
        provider.close()
        assert all(_is_left_right(provider, node) for node in nodes), _wrong(provider)
        provider.terminate(nodes[0])
        provider.close()
        _expect_failure(lambda: _launch(provider, 2), "a closed provider launched a node")


def check_close_during_launch_leaves_nothing(make: Make) -> None:
    """`close` while nodes are being launched, in other threads, ends these too, or leaves them as they were."""
    provider = make()
    provider.prepare()
    outcomes: list[Launched | None] = []

    def launch(index: int) -> None:
        outcome: Launched | None = None
        with suppress(ProvisionError):
            outcome = _launch(provider, index)
        outcomes.append(outcome)

    threads = [threading.Thread(target=launch, args=[index]) for index in range(3)]
    for thread in threads:
        thread.start()
    provider.close()
    for thread in threads:
        thread.join(PATIENCE)
    assert len(outcomes) == len(threads), "a launch outlived close"
    assert all(_is_left_right(provider, node) for node in outcomes if node is not None), _wrong(provider)


def check_pools_do_not_share(make: Make) -> None:
    """What `for_pool` gives is of the same kind, and closing it leaves another's nodes alone."""
    first = make()
    second = first.for_pool()
    assert type(second) is type(first), "for_pool made something else"
    try:
        launched = _launch(first)
        second.prepare()
        second.close()
        assert launched.pid is None or _lives(launched), "closing one provider ended another's node"
    finally:
        first.close()


def check_persisting_node_outlives_its_provider(make: Make) -> None:
    """A node that shall persist is left by `close`, and ended by another provider that knows no more than its ident.

    For a provider whose nodes are of this machine; of others whether they live is not seen from here.
    """
    from skyward.transport.keys import make_pair

    spec = replace(SPEC, persist=True, mesh="contract", client_key=make_pair().public)
    with _opened(make) as provider:
        launched = replace(_launch(provider, 0, spec), death_fd=None)
        assert launched.endpoint.startswith("tcp://"), "whoever comes later reaches it over TCP"
        provider.close()
    other = make()
    try:
        assert launched.pid is None or _lives(launched), "close ended a node that shall persist"
    finally:
        other.terminate(launched)
        assert not _lives(launched), "the node still exists"
        assert not other.sweep("contract"), "something of the node is left"
        other.close()


def _expect_failure(action: Callable[[], Any], otherwise: str) -> ProvisionError:
    try:
        action()
    except ProvisionError as error:
        return error
    raise AssertionError(otherwise)


PROVIDER_CHECKS: Final[tuple[Callable[[Callable[[], Provider]], None], ...]] = (
    check_launched_node_is_described,
    check_nodes_come_up_side_by_side,
    check_terminated_node_is_gone,
    check_node_that_does_not_obey_is_ended,
    check_death_is_told,
    check_cancelled_launch_ends_soon,
    check_launch_that_takes_too_long_fails,
    check_close_leaves_nothing,
    check_close_during_launch_leaves_nothing,
    check_pools_do_not_share,
    check_persisting_node_outlives_its_provider,
)
