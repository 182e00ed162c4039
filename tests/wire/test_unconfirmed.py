"""Messages that are kept until the other side has heard them."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyward.errors import ProtocolError
from skyward.wire.messages import Revoke
from skyward.wire.unconfirmed import Unconfirmed, is_new

if TYPE_CHECKING:
    from hypothesis.strategies import DataObject


def revoke(call: int, seq: int = 0) -> Revoke:
    """Return a message."""
    return Revoke(7, 1, [call], seq)


def kept(box: Unconfirmed) -> list[int]:
    """Return the numbers of the messages that may have to be sent again."""
    return [message.seq for message, _ in box]


def test_messages_are_numbered_and_kept_in_order() -> None:
    """With their bodies, as they were sent."""
    box = Unconfirmed()
    assert [box.add(revoke(call), [b"body"]) for call in (8, 9)] == [revoke(8, 1), revoke(9, 2)]
    assert list(box) == [(revoke(8, 1), [b"body"]), (revoke(9, 2), [b"body"])]
    assert len(box) == 2


def test_confirmed_messages_are_forgotten() -> None:
    """Up to and including the number; hearing of it again, or of an older one, changes nothing."""
    box = Unconfirmed()
    for call in range(4):
        box.add(revoke(call))
    box.confirm(2)
    assert kept(box) == [3, 4]
    box.confirm(2)
    box.confirm(0)
    assert kept(box) == [3, 4]
    box.confirm(4)
    assert kept(box) == []
    assert box.add(revoke(4)).seq == 5


@pytest.mark.rule("R43")
def test_what_was_never_sent_cannot_be_confirmed() -> None:
    """It is nonsense, and nothing is forgotten for it."""
    box = Unconfirmed()
    box.add(revoke(1))
    with pytest.raises(ProtocolError, match="2 calls and answers are confirmed, but only 1 were sent"):
        box.confirm(2)
    assert kept(box) == [1]


def test_next_message_is_new_and_an_older_one_is_not() -> None:
    """Each counts once, however often it is sent."""
    assert is_new(1, 0)
    assert is_new(6, 5)
    assert not is_new(5, 5)
    assert not is_new(1, 5)


@pytest.mark.rule("R43")
@pytest.mark.parametrize("seq", [0, 7, 2**64 - 1])
def test_gap_is_nonsense(seq: int) -> None:
    """Connections keep order: one that is missing was never sent; so was one without a number."""
    with pytest.raises(ProtocolError, match=f"number {seq} of calls and answers came after number 5"):
        is_new(seq, 5)


@pytest.mark.rule("R37")
@given(st.data())
def test_each_message_is_heard_once_whatever_breaks(data: DataObject) -> None:
    """Over connections that lose what is under way, with greetings that are repeated and answers that cross."""
    box = Unconfirmed()
    wire: deque[int] = deque()  # under way
    heard: list[int] = []
    for _ in range(data.draw(st.integers(0, 40))):
        match data.draw(st.sampled_from(["send", "deliver", "beat", "greet", "greet twice"])):
            case "send":
                wire.append(box.add(revoke(1)).seq)
            case "deliver" if wire:
                seq = wire.popleft()
                if is_new(seq, len(heard)):
                    heard.append(seq)
            case "beat":
                box.confirm(len(heard))
            case "greet" | "greet twice" as greeting:
                wire.clear()
                said = len(heard)
                box.confirm(said)
                wire.extend(kept(box))
                if greeting == "greet twice":
                    wire.extend(kept(box))
            case _:
                pass
    box.confirm(len(heard))
    for seq in kept(box):
        if is_new(seq, len(heard)):
            heard.append(seq)
    assert heard == list(range(1, box.add(revoke(1)).seq))
