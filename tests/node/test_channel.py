"""The daemon's end of a pipe: whole messages, no waiting."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from skyward.errors import ProtocolError
from skyward.wire import pipe
from skyward.wire.codec import encode
from skyward.wire.lone import CALLS, REPLIES, Call, Reply
from skyward_node.executors.channel import Channel
from skyward_node.worker.pipes import PipeReader, PipeWriter

if TYPE_CHECKING:
    from collections.abc import Iterator

    from skyward.wire.frames import Buffer


@pytest.fixture
def pair() -> Iterator[tuple[Channel, socket.socket]]:
    """A channel, and the blocking socket at its other end."""
    ours, theirs = socket.socketpair()
    channel = Channel(ours)
    yield channel, theirs
    channel.close()
    theirs.close()


def received(channel: Channel) -> list[list[bytes]]:
    """Return what has come, as bytes."""
    return [[bytes(frame) for frame in frames] for frames in channel.receive()]


def test_messages_pass_both_ways(pair: tuple[Channel, socket.socket]) -> None:
    """Frames arrive as they were sent, empty ones too."""
    channel, theirs = pair
    channel.send([b"header", b"", b"body"])
    assert PipeReader(theirs).read() == [[b"header", b"", b"body"]]
    PipeWriter(theirs).write([b"a"], [b"b", b"c"])
    assert received(channel) == [[b"a"], [b"b", b"c"]]
    assert channel.receive() == []
    assert not channel.eof


def test_reader_that_does_not_wait_takes_what_is_there(pair: tuple[Channel, socket.socket]) -> None:
    """Nothing, a part of a message, which stays, or whole ones; what ends the stream is told as ever."""
    channel, theirs = pair
    reader = PipeReader(theirs)
    assert reader.read(wait=False) == []
    (whole,) = pipe.pack([b"a message"])
    channel.socket.send(bytes(whole)[:10])
    assert reader.read(wait=False) == []
    channel.socket.send(bytes(whole)[10:])
    assert reader.read(wait=False) == [[b"a message"]]
    large = [b"head", bytes(1_000_000)]
    channel.send(large)
    got: list[list[Buffer]] = []
    while not got:
        got += reader.read(wait=False) or []
        channel.flush()
    assert [[bytes(frame) for frame in frames] for frames in got] == [large]
    channel.close()
    assert reader.read(wait=False) is None


def test_backlog_keeps_order_and_content(pair: tuple[Channel, socket.socket]) -> None:
    """What the socket does not take is sent later, in order, whatever its size and number of frames."""
    channel, theirs = pair
    messages = [[b"h%d" % n, os.urandom(200_000), *([b"x"] * (3000 if n == 5 else 1))] for n in range(10)]
    for message in messages:
        channel.send(message)
    assert channel.blocked
    reader = PipeReader(theirs)
    got: list[list[bytes]] = []
    while len(got) < len(messages):
        channel.flush()
        some = reader.read()
        assert some is not None
        got += [[bytes(frame) for frame in frames] for frames in some]
    assert got == messages
    channel.flush()
    assert not channel.blocked


def test_finish_comes_after_the_backlog(pair: tuple[Channel, socket.socket]) -> None:
    """The peer reads all that was sent, then EOF, and can still answer."""
    channel, theirs = pair
    channel.send([bytes(1_000_000)])
    channel.finish()
    reader = PipeReader(theirs)
    got: list[object] = []
    while True:
        channel.flush()
        some = reader.read()
        if some is None:
            break
        got += some
    assert len(got) == 1
    PipeWriter(theirs).write([b"answer"])
    assert received(channel) == [[b"answer"]]


def test_reading_stops_at_the_budget(pair: tuple[Channel, socket.socket]) -> None:
    """One turn does not read for ever, and the next goes on where it stopped."""
    channel, theirs = pair
    for n in range(80):
        PipeWriter(theirs).write([b"%d" % n, bytes(1000)])
    first = channel.receive(budget=1)
    assert 0 < len(first) < 80
    assert len(first) + len(channel.receive()) == 80


def test_end_and_rubbish_are_told_apart(pair: tuple[Channel, socket.socket]) -> None:
    """EOF sets a flag; bytes that are no message raise."""
    channel, theirs = pair
    theirs.sendall(b"rubbish " * 10)
    with pytest.raises(ProtocolError):
        channel.receive()
    theirs.close()
    other, gone = socket.socketpair()
    gone.close()
    ended = Channel(other)
    assert ended.receive() == []
    assert ended.eof
    ended.send([b"nobody reads this"])
    assert not ended.blocked
    ended.close()


# --- lone messages ---------------------------------------------------------------------------

CALL = Call(0, 0, bytes(16), 5, b"args")
REPLY = Reply(0, 0, 5, 0, 17, b"value")


def test_lone_message_is_received_by_itself(pair: tuple[Channel, socket.socket]) -> None:
    """Whatever else comes, or has begun to, is left for the usual way, in its order."""
    channel, theirs = pair
    assert channel.receive_alone(REPLIES) is None
    whole = REPLIES.to_stream(REPLY)
    PipeWriter(theirs).write_packed(whole)
    assert channel.receive_alone(REPLIES) == REPLY
    for stream in (whole * 2, b"".join(map(bytes, pipe.pack([encode(REPLY), b"body"])))):
        theirs.sendall(stream)
        assert channel.receive_alone(REPLIES) is None
        assert b"".join(bytes(part) for frames in received(channel) for part in pipe.pack(frames)) == stream
    theirs.sendall(whole[:9])
    assert channel.receive_alone(REPLIES) is None
    assert received(channel) == []
    theirs.sendall(whole[9:] + whole)
    assert channel.receive_alone(REPLIES) is None
    assert received(channel) == [[encode(REPLY)]] * 2
    theirs.close()
    assert channel.receive_alone(REPLIES) is None
    assert received(channel) == []
    assert channel.eof


def test_packed_message_waits_behind_others(pair: tuple[Channel, socket.socket]) -> None:
    """A socket that is full takes it later, after what came before it."""
    channel, theirs = pair
    packed = CALLS.to_stream(CALL)
    assert not channel.send_packed(packed)
    assert channel.send([b"large", bytes(1_000_000)])
    assert not channel.send_packed(packed)  # which is watched already
    reader, got = PipeReader(theirs), list[object]()
    while len(got) < 3:
        got += [[bytes(frame) for frame in frames] for frames in reader.read() or ()]
        channel.flush()
    assert got == [[encode(CALL)], [b"large", bytes(1_000_000)], [encode(CALL)]]


def test_socket_that_is_full_is_to_be_watched(pair: tuple[Channel, socket.socket]) -> None:
    """The message that it does not take is kept; a socket that is gone takes none, and says nothing."""
    channel, theirs = pair
    packed = CALLS.to_stream(CALL)
    sent = 1
    while not channel.send_packed(packed):
        sent += 1
    reader, got = PipeReader(theirs), 0
    while channel.blocked or got < sent:
        got += len(reader.read() or ())
        channel.flush()
    theirs.close()
    assert not channel.send_packed(packed)


def test_reader_takes_a_lone_message_by_itself(pair: tuple[Channel, socket.socket]) -> None:
    """An idle worker's, too; and what is not alone is read as ever."""
    channel, theirs = pair
    reader = PipeReader(theirs)
    packed = CALLS.to_stream(CALL)
    channel.send_packed(packed)
    assert reader.read_alone(CALLS) == CALL
    channel.socket.send(packed * 2 + packed[:5])
    assert reader.read_alone(CALLS) == [[encode(CALL)]] * 2
    channel.socket.send(packed[5:])
    assert reader.read_alone(CALLS) == [[encode(CALL)]]
    channel.send([b"other"])
    assert reader.read_alone(CALLS) == [[b"other"]]
    channel.finish()
    assert reader.read_alone(CALLS) is None


@pytest.mark.rule("R17")
def test_idle_reader_sleeps_while_the_peer_reads(pair: tuple[Channel, socket.socket]) -> None:
    """What it has written is read, which makes room in its socket and concerns it not: it would get in the way."""
    channel, theirs = pair
    PipeWriter(theirs).write([b"an outcome"])
    got = list[object]()
    thread = threading.Thread(target=lambda: got.append(PipeReader(theirs).read_alone(CALLS)))
    thread.start()
    sleeps = _sleeps_of(thread)
    assert received(channel) == [[b"an outcome"]]
    assert _sleeps_of(thread) == sleeps
    channel.send_packed(CALLS.to_stream(CALL))
    thread.join()
    assert got == [CALL]


def _sleeps_of(thread: threading.Thread) -> int:
    """Return how often a thread has gone to sleep, once it sleeps waiting for a socket."""
    place = Path("/proc/self/task", str(thread.native_id))
    while (where := (place / "wchan").read_text()) == "0" or "futex" in where:  # it runs, or waits for the interpreter
        os.sched_yield()
    status = dict(line.split(":", 1) for line in (place / "status").read_text().splitlines())
    return int(status["voluntary_ctxt_switches"])
