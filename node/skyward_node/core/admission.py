"""Who may talk to the node, and until when: hello, refusal, reconnect, lease, goodbye.

A session is bound to the connection that said hello last. Its key is random, so that only its own
client can bind it again. Silence counts only while the node itself was looking.

PURE: no sockets; the clock is a number.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from skyward.wire.messages import PROTOCOL, Bye, Progress, Pulse, Refused, Welcome
from skyward_node.core import crew
from skyward_node.core.actions import Send
from skyward_node.core.sessions import STEP, Session

if TYPE_CHECKING:
    from skyward.wire.messages import Hello
    from skyward_node.core.node import Node

SESSIONS: Final = 1_024  # bounds what strangers can make the node remember
REFUSALS: Final = 4_096  # connections remembered as told; each is told once


def on_hello(node: Node, peer: bytes, hello: Hello) -> None:
    """Bind a session to the connection, new or known; or refuse."""
    bound = node.peers.get(peer)
    node.refused.pop(peer, None)
    if (complaint := _complaint(node, hello)) is not None:
        refuse(node, peer, *complaint)
        return
    if bound is not None and bound.key != hello.session:
        refuse(node, peer, "protocol", "this connection belongs to another session")
        return
    session = node.sessions.get(hello.session)
    resumed = session is not None
    if session is None:
        session = _admit(node, hello)
    _bind(node, session, peer)
    session.configure(hello, node.limits.lease, node.limits.max_payload)
    session.next_pulse = node.now + session.heartbeat
    if resumed and hello.epoch == node.epoch:
        session.outbox.ack(hello.ack)
    _welcome(node, session, resumed=resumed)
    if not resumed:
        crew.prepare(node)


def _complaint(node: Node, hello: Hello) -> tuple[str, str] | None:
    """Return why the client cannot be served, as (code, reason)."""
    mine = node.identity.python
    if hello.protocol != PROTOCOL:
        return "version", f"protocol differs: client has {hello.protocol}, node has {PROTOCOL}"
    if hello.python.split(".")[:2] != mine.split(".")[:2]:
        return "version", f"Python differs: client has {hello.python}, node has {mine}"
    if hello.channel != "data":
        return "protocol", f"there is no channel {hello.channel!r}"
    if node.draining:
        return "full", "the node is shutting down"
    if hello.session not in node.sessions and len(node.sessions) >= SESSIONS:
        return "full", f"the node has {SESSIONS} sessions already"
    return None


def _admit(node: Node, hello: Hello) -> Session:
    session = Session(hello.session)
    node.sessions[hello.session] = session
    node.turns.appendleft(session)  # who has had nothing is next
    node.log("info", "session opened", session=session.key.hex()[:8], client=hello.label)
    return session


def _bind(node: Node, session: Session, peer: bytes) -> None:
    if session.peer is not None:
        node.peers.pop(session.peer, None)
    session.peer = peer
    session.blocked = False
    session.silence = 0.0
    node.peers[peer] = session


def _welcome(node: Node, session: Session, *, resumed: bool) -> None:
    """Greet, and say again what the client may have missed."""
    me = node.identity
    node.say(
        session,
        Welcome(
            protocol=PROTOCOL,
            python=me.python,
            versions=me.versions,
            session=session.key,
            epoch=me.epoch,
            slots=node.limits.concurrency + node.lent,
            executor="thread" if node.limits.threads else "process",
            hostname=me.hostname,
            address=me.address,
            pid=me.pid,
            accelerators=me.accelerators,
            resumed=resumed,
        ),
    )
    held, session.held = session.held, []
    for message, body in [*session.outbox.unacked(), *held]:
        node.say(session, message, body)
    node.print_backlog(session)


def refuse(node: Node, peer: bytes, code: str, reason: str) -> None:
    """Tell the connection, once, that it is not served, and forget whom it belonged to."""
    unbind(node, peer)
    if peer in node.refused:
        return
    node.refused[peer] = None
    if len(node.refused) > REFUSALS:
        del node.refused[next(iter(node.refused))]
    node.log("warning", "client refused", code=code, reason=reason)
    node.actions.append(Send(peer, Refused(code, reason, node.identity.python, PROTOCOL)))


def unbind(node: Node, peer: bytes) -> None:
    """Note that the connection is gone; its session lives on until its lease is over."""
    session = node.peers.pop(peer, None)
    if session is not None:
        session.peer = None


def look(node: Node, gap: float) -> None:
    """Count ``gap`` seconds without a word from anyone, and end the sessions whose lease is over."""
    for session in list(node.sessions.values()):
        session.silence += min(gap, STEP * session.heartbeat)
        if session.silence > session.lease:
            node.log("warning", "session ended: its client fell silent", session=session.key.hex()[:8])
            end(node, session, f"no word from the client for {session.lease:g} s")


def pulse(node: Node) -> None:
    """Show the clients that we live."""
    queued = -1
    for session in node.sessions.values():
        if node.now >= session.next_pulse:
            session.next_pulse = node.now + session.heartbeat
            if not session.blocked:
                queued = sum(s.queued for s in node.sessions.values()) if queued < 0 else queued
                node.say(session, Pulse(node.epoch, max(node.running, 0), queued, session.echo))
            # A worker that has nothing but one task does not report it; by now it is worth knowing.
            started = [task.id for worker in session.workers.values() for task in worker.unannounced()]
            if started:
                node.say(session, Progress(node.epoch, [], started))


def end(node: Node, session: Session, reason: str = "") -> None:
    """Drop everything that belongs to a session; with a ``reason`` the client is told."""
    if reason:
        node.say(session, Bye(node.epoch, 0, reason))
    else:
        node.log("info", "session closed", session=session.key.hex()[:8])
    if session.peer is not None:
        node.peers.pop(session.peer, None)
        session.peer = None
    del node.sessions[session.key]
    node.turns.remove(session)
    for worker in list(session.workers.values()):
        if worker.tasks and not worker.dying:
            crew.kill(node, worker)
        elif not worker.leaving:
            crew.retire(node, worker)
        worker.session = None
        worker.tasks.clear()
        node.running += worker.measure()
    node.finish(list(session.tasks.values()))
    session.workers.clear()
    session.queue.clear()  # its tasks refer to the session, and the GC does not see them
    node.sweep()
