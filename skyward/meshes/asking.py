"""How the nodes of a mesh are: asked all at once, over a session of our own that ends with the answer.

A node says who it is when it is greeted, and how busy with its next heartbeat; it does so whatever its tasks do. What
cannot be reached, does not admit us, or speaks another version is an answer as well.
"""

from __future__ import annotations

import os
import platform
import socket
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from skyward.errors import ProtocolError
from skyward.machine.versions import package_versions
from skyward.mesh.greeting import refusal
from skyward.mesh.reach import FAILURES, NOT_ADMITTED, NOT_CURVE, NOT_PROVEN
from skyward.providers.running import CONNECT, knock
from skyward.transport.hub import Hub, News
from skyward.transport.links import Connection, Link
from skyward.wire.clients import Admit
from skyward.wire.clients import Clients as Told
from skyward.wire.codec import Decoder, encode
from skyward.wire.kinds import NODE_MESSAGES
from skyward.wire.messages import PROTOCOL, Bye, Hello, Pulse, Refused, Welcome

if TYPE_CHECKING:
    from collections.abc import Sequence

    from skyward.meshes.admitted import Change, Clients
    from skyward.providers.base import Launched
    from skyward.transport.keys import KeyPair

PATIENCE: Final = 5.0  # seconds for an answer: a node answers at once, also far away
SLICE: Final = 0.1  # seconds between looks at whether the answer is still wanted
SOON: Final = 0.02  # seconds between the heartbeats that we ask for: the first one is all that we want
LEASE: Final = 10.0  # seconds after which a node forgets us if our goodbye is lost
LEAST: Final = 0.2  # seconds that a port gets in any case, also the last of very many
AT_ONCE: Final = 32  # nodes that are knocked at side by side

UNANSWERED: Final = "did not answer in time: it is stopped or hangs, or the network is slow"
UNWANTED: Final = "was not asked to the end"

_REASONS: Final = {Connection.REFUSED: NOT_ADMITTED, Connection.STRANGE: NOT_CURVE, Connection.FAILED: NOT_PROVEN}


@dataclass(slots=True)
class Report:
    """What is known of a node. Times are seconds."""

    number: int
    node: Launched
    problem: str = ""  # why it gives no answer
    address: str = ""  # numeric, if somebody listens
    silent: bool = False  # nobody is there who could have answered, not even with a refusal
    round_trip: float = 0.0  # of a greeting
    slots: int = 0
    running: int = 0
    queued: int = 0
    executor: str = ""
    hostname: str = ""
    pid: int = 0
    clients: Clients | None = None  # whom it admits, if that was asked and it keeps a list
    python: str = ""

    @property
    def ok(self) -> bool:
        """Return whether it serves."""
        return not self.problem


class _Question(Report):
    """A report that is being made."""

    link: Link | None = None
    asked: float = 0.0
    failures: int = 0
    waits: bool = False  # for whom it admits


def ask(
    nodes: Sequence[Launched],
    keys: KeyPair | None,
    patience: float = PATIENCE,
    change: Change | None = None,
    cancelled: threading.Event | None = None,
) -> list[Report]:
    """Return how the nodes are, in their order, after ``patience`` seconds at most, or soon after ``cancelled`` is set.

    Where a port took all of them, the others get half as many once more: of their answers none has been read yet.
    With a ``change``, which may be empty, those that keep a list of clients change it, and say how it is then.
    """
    deadline = time.monotonic() + patience
    questions = [_Question(number, node) for number, node in enumerate(nodes)]
    if not questions:
        return []
    with ThreadPoolExecutor(min(AT_ONCE, len(questions)), "skyward-knock") as threads:
        list(threads.map(partial(_knock, deadline), questions))
    asking = _Asking(keys, change, cancelled or threading.Event())
    try:
        deadline = max(deadline, time.monotonic() + patience / 2)
        asking.run([question for question in questions if question.ok], deadline)
    finally:
        asking.close()
    return list(questions)


def _knock(deadline: float, question: _Question) -> None:
    """See whether somebody listens: ZeroMQ would try again and again, and say nothing."""
    try:
        question.address = knock(question.node.endpoint, min(CONNECT, max(LEAST, deadline - time.monotonic())))
    except socket.gaierror as error:
        question.problem, question.silent = f"its name is not known: {error.strerror}", True
    except OSError as error:
        question.problem, question.silent = f"does not answer: {error.strerror or error}", True


class _Asking:
    """Some nodes that are being asked."""

    def __init__(self, keys: KeyPair | None, change: Change | None, cancelled: threading.Event) -> None:
        self._change = change
        self._cancelled = cancelled
        self._ours = "" if keys is None else keys.public
        self._hub = Hub(keys)
        self._decode = Decoder(NODE_MESSAGES).decode
        self._open: dict[Link, _Question] = {}

    def run(self, questions: Sequence[_Question], deadline: float) -> None:
        """Ask, and return when all have answered or their time is over."""
        for question in questions:
            self._ask(question)
        problem = UNWANTED
        while self._open and not self._cancelled.is_set():
            left = deadline - time.monotonic()
            if left <= 0:
                problem = UNANSWERED
                break
            for source in self._hub.poll(min(left, SLICE)):
                if isinstance(source, News):
                    self._on_news(source.link, source.what)
                elif isinstance(source, Link) and source in self._open:  # the news may have ended it
                    self._read(source)
        for question in list(self._open.values()):
            question.silent = True
            self._end(question, problem)

    def close(self) -> None:
        """Hang up; goodbyes are given a moment."""
        self._hub.close()

    def _ask(self, question: _Question) -> None:
        node = question.node
        try:
            question.link = link = self._hub.connect(node.endpoint, question.number, node.public_key)
        except OSError as error:
            question.problem = f"cannot be asked: {error}"
            return
        self._open[link] = question
        if link.monitor is None:
            self._greet(question, link)

    def _greet(self, question: _Question, link: Link) -> None:
        """Say hello: over TCP when the handshake is over, so that the time is the node's alone."""
        question.asked = time.monotonic()
        link.greet([encode(_hello())])

    def _on_news(self, link: Link, what: Connection) -> None:
        question = self._open.get(link)
        if question is None:
            return
        if what is Connection.UP:
            self._greet(question, link)
        question.failures += what is Connection.FAILED
        if what in _REASONS and (what is not Connection.FAILED or question.failures >= FAILURES):
            self._end(question, _REASONS[what].format(ours=self._ours, its=question.node.public_key))
        elif what is Connection.DOWN:
            self._end(question, "hung up")

    def _read(self, link: Link) -> None:
        for frames in link.receive():
            question = self._open.get(link)
            if question is None:
                return
            try:
                message = self._decode(frames[0])
            except ProtocolError as error:
                self._end(question, f"sent a message that makes no sense: {error}")
                return
            match message:
                case Welcome():
                    _note(question, message)
                    link.greeted, link.epoch = 0, message.epoch
                    if message.clients and self._change is not None:
                        link.send([encode(Admit(message.epoch, *self._change))])
                        question.waits = True
                case Told(keys=keys, labels=labels, problem=problem) if question.waits:
                    question.clients = tuple(zip(keys, labels, strict=True))
                    self._end(question, problem)
                case Pulse(running=running, queued=queued) if question.slots and not question.waits:
                    question.running, question.queued = running, queued
                    self._end(question, "")
                case Refused():
                    self._end(question, str(refusal(message)))
                case _:
                    pass

    def _end(self, question: _Question, problem: str) -> None:
        link, question.link = question.link, None
        question.problem = problem
        if link is not None:
            del self._open[link]
            if link.is_open:  # else the node has not said who it is
                link.send_last([encode(Bye(link.epoch, 0, ""))])
            self._hub.disconnect(link)


def _hello() -> Hello:
    return Hello(
        protocol=PROTOCOL,
        python=platform.python_version(),
        versions=package_versions(sys.path),
        session=os.urandom(16),
        epoch=0,
        ack=0,
        lease=LEASE,
        heartbeat=SOON,
        cancel_grace=0.0,
        max_payload=0,
        label=f"{platform.node()}:{os.getpid()}, asking",
    )


def _note(question: _Question, message: Welcome) -> None:
    question.round_trip = time.monotonic() - question.asked
    question.slots = message.slots
    question.executor = message.executor
    question.hostname = message.hostname
    question.pid = message.pid
    question.python = message.python
