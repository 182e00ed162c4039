"""The instances of a provider: nothing is called, nothing waits but for events."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, cast

import pytest

from skyward.errors import ProvisionError
from skyward.providers.aws.alive import SignsOfLife
from skyward.providers.aws.fleet import Fleet

if TYPE_CHECKING:
    from skyward.providers.aws.launching import Launching


class Wanted:
    """What a fleet sees of a launch."""

    def __init__(self) -> None:
        self.refused = threading.Event()

    @property
    def unwanted(self) -> bool:
        """As a launch reads it."""
        return self.refused.is_set()

    @unwanted.setter
    def unwanted(self, value: bool) -> None:
        assert value
        self.refused.set()


def launch() -> Launching:
    """Return one that does nothing."""
    return cast("Launching", Wanted())


def test_what_stands_and_what_ends_with_it() -> None:
    """An instance that persists stands, and does not end with the provider; one that has ended does neither."""
    fleet = Fleet(outlives=False)
    for ident, persist in (("i-1", False), ("i-2", True), ("i-3", False)):
        fleet.add(ident, f"token of {ident}", persist=persist)
    fleet.end("i-3")
    assert (fleet.standing(), fleet.mortal()) == (["i-1", "i-2"], {"i-1"})
    assert (fleet.token("i-2"), fleet.token("i-9")) == ("token of i-2", "")


@pytest.mark.parametrize(
    ("mesh", "persist", "outlives"), [(True, False, True), (False, True, True), (False, False, False)]
)
def test_what_it_needs_outlives_it_for_a_mesh_or_a_node_that_persists(
    mesh: bool, persist: bool, outlives: bool
) -> None:
    """As soon as the launch begins: it may come to have an instance before anybody knows."""
    fleet = Fleet(outlives=mesh)
    fleet.begin(launch(), persist=persist)
    assert fleet.outlives is outlives


def test_instance_is_fresh_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that another process has launched never is."""
    fleet = Fleet(outlives=False)
    fleet.add("i-1", "token", persist=False)
    assert (fleet.is_fresh("i-1"), fleet.is_fresh("i-2")) == (True, False)
    monkeypatch.setattr("skyward.providers.aws.fleet.FRESH", 0.0)
    assert not fleet.is_fresh("i-1")


@pytest.mark.rule("F45")
def test_closing_waits_for_launches_and_takes_nothing_more() -> None:
    """A launch that has begun is told, what it still gets is refused and remembered, and a second close is none."""
    fleet, begun = Fleet(outlives=False), Wanted()
    fleet.begin(cast("Launching", begun), persist=False)
    closed: list[bool] = []
    closing = threading.Thread(target=lambda: closed.append(fleet.close()), daemon=True)
    closing.start()
    assert begun.refused.wait(10)
    with pytest.raises(ProvisionError, match="its pool was closed"):
        fleet.add("i-1", "token", persist=False)
    with pytest.raises(ProvisionError, match="make another one"):
        fleet.begin(launch(), persist=False)
    assert (fleet.mortal(), closed) == ({"i-1"}, [])
    fleet.finish(cast("Launching", begun))
    closing.join(30)
    assert (closed, fleet.close()) == ([True], False)


@pytest.mark.rule("F46")
def test_no_sign_of_life_comes_after_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is on its way when it ends is waited for."""
    monkeypatch.setattr("skyward.providers.aws.garbage.BEAT", 0.0)
    begun, may_end = threading.Event(), threading.Event()
    over: list[str] = []

    def say() -> None:
        begun.set()
        may_end.wait(30)
        over.append("sign")

    signs = SignsOfLife(say)
    signs.start()
    signs.start()
    assert begun.wait(30)
    end = threading.Timer(0.05, may_end.set)
    end.start()
    signs.stop()
    over.append("stopped")
    end.join()
    assert over[0] == "sign"
    assert over[-1] == "stopped"
