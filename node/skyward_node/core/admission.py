"""Who may talk to the node, and until when: hello, refusal, reconnect, lease, goodbye.

A session is bound to the connection that said hello last. Its key is random, so that only its own
client can bind it again. Silence counts only while the node itself was looking.

PURE: no sockets; the clock is a number.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Final

from skyward.errors import ProtocolError
from skyward.wire.clients import Clients
from skyward.wire.messages import PROTOCOL, Bye, Draining, Progress, Pulse, Refused, Welcome
from skyward_node.core import crew, intake, nesting
from skyward_node.core.actions import Bury, Exit, Forget, List, Send
from skyward_node.core.sessions import LATE, STEP, Session

if TYPE_CHECKING:
    from skyward.wire.clients import Admit
    from skyward.wire.messages import Hello
    from skyward_node.core.actions import Listed
    from skyward_node.core.node import Node

SESSIONS: Final = 1_024  # bounds what clients can make the node remember
SESSIONS_OF_KEY: Final = 256  # of these, so that one client's nonsense leaves room for the others
CONTROL: Final = "control"
CHANNELS: Final = ("data", CONTROL)
LOOK: Final = 2.0  # seconds between two looks that count, when nobody says how often: time asleep does not
SPARED: Final = 0.75  # heartbeats before the next pulse is due: a beat that comes sooner gets no answer of its own
SESSION: Final = 16  # bytes of a session's key, which its own client alone knows
REFUSALS: Final = 4_096  # connections remembered as told; each is told once


def on_hello(node: Node, peer: bytes, hello: Hello, user: str = "") -> None:
    """Bind a session to the connection, new or known; or refuse. ``user`` is the key of who says it."""
    node.refused.pop(peer, None)
    session = node.sessions.get(hello.session)
    complaint = _version_complaint(node, hello) or _key_complaint(node, user, session)
    if session is not None and complaint is None and _was_given_up(node, session, peer, hello):
        end(node, session)
        session = None
    if (complaint := complaint or _room_complaint(node, hello, user, session)) is not None:
        refuse(node, peer, *complaint)
        return
    bound = node.peers.get(peer)
    if bound is not None and (bound is not session or (bound.control == peer) != (hello.channel == CONTROL)):
        refuse(node, peer, "protocol", "this connection belongs to another session or channel")
        return
    resumed = session is not None
    if session is None:
        session = _admit(node, hello, user)
    elif hello.channel == CONTROL:
        _bind_control(node, session, peer)
        return
    _bind(node, session, peer)
    session.configure(hello, node.limits.lease, node.limits.max_payload)
    session.next_pulse = node.now + session.heartbeat
    if resumed and hello.epoch == node.epoch:
        session.outbox.ack(hello.ack)
        session.confirm(hello.heard)
    _welcome(node, session, resumed=resumed)
    if not resumed:
        crew.prepare(node)


def _was_given_up(node: Node, session: Session, peer: bytes, hello: Hello) -> bool:
    """Return whether the client took us for dead meanwhile: on a new connection it does not know our epoch any more.

    It has given the session's tasks to others, and begins to count messages anew.
    """
    return hello.channel != CONTROL and hello.epoch != node.epoch and peer not in (session.peer, session.control)


def _version_complaint(node: Node, hello: Hello) -> tuple[str, str] | None:
    """Return why the client cannot be served, as (code, reason); so do those that follow."""
    mine = node.identity.python
    if hello.protocol != PROTOCOL:
        return "version", f"protocol differs: client has {hello.protocol}, node has {PROTOCOL}"
    if hello.python.split(".")[:2] != mine.split(".")[:2]:
        return "version", f"Python differs: client has {hello.python}, node has {mine}"
    return None


def _key_complaint(node: Node, user: str, session: Session | None) -> tuple[str, str] | None:
    if node.admitted is not None and user not in node.admitted:
        return "auth", "this key is not admitted any more"
    if session is not None and session.user != user:
        return "auth", "this session belongs to another key"
    return None


def _room_complaint(node: Node, hello: Hello, user: str, session: Session | None) -> tuple[str, str] | None:
    if hello.channel not in CHANNELS:
        return "protocol", f"there is no channel {hello.channel!r}"
    if node.draining and session is None:
        return "full", "the node is shutting down"
    if session is None and hello.channel == CONTROL:
        return "session", "there is no such session; say hello on a data channel first"
    if session is None and len(node.sessions) >= SESSIONS:
        return "full", f"the node has {SESSIONS} sessions already"
    if session is None and user and sum(other.user == user for other in node.sessions.values()) >= SESSIONS_OF_KEY:
        return "full", f"this key has {SESSIONS_OF_KEY} sessions already"
    return None


def _admit(node: Node, hello: Hello, user: str) -> Session:
    session = Session(hello.session, user)
    node.sessions[hello.session] = session
    node.turns.appendleft(session)  # who has had nothing is next
    node.log("info", "session opened", session=session.key.hex()[:8], client=hello.label)
    return session


def _bind(node: Node, session: Session, peer: bytes) -> None:
    if session.peer is not None and session.peer != peer:
        node.peers.pop(session.peer, None)
        node.actions.append(Forget(session.peer))
    session.peer = peer
    session.former = None
    session.printed = session.shown = 0
    session.blocked = False
    session.silence = 0.0
    node.peers[peer] = session


def _bind_control(node: Node, session: Session, peer: bytes) -> None:
    """Take a second connection for heartbeats, which what is queued on the first one cannot hold up."""
    if session.control is not None:
        node.peers.pop(session.control, None)
    session.control = peer
    session.former_control = None
    session.control_blocked = False
    session.silence = 0.0
    node.peers[peer] = session
    node.actions.append(Send(peer, _greeting(node, session, resumed=True)))


def _greeting(node: Node, session: Session, *, resumed: bool) -> Welcome:
    me = node.identity
    return Welcome(
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
        heard=session.heard,
        max_payload=node.limits.max_payload,
        calls=True,
        bundles=node.limits.reuse and not node.limits.threads,
        lane=session.peer + session.key if node.limits.lanes and session.peer is not None else b"",
        clients=node.limits.listed,
        keeps=True,
    )


def owner_of(node: Node, token: bytes) -> bytes:
    """Return the connection that a lane belongs to by what it begins with; empty if it is nobody's."""
    peer, key = token[:-SESSION], token[-SESSION:]
    session = node.peers.get(peer)
    return peer if session is not None and session.peer == peer and session.key == key else b""


def _welcome(node: Node, session: Session, *, resumed: bool) -> None:
    """Greet, and say again what the client may have missed."""
    node.say(session, _greeting(node, session, resumed=resumed))
    # Before the results: a parent's calls, and the elements of a stream, never come after the task's end.
    nesting.repeat(node, session)
    node.settle_lines(session, session.outbox.tasks())
    for message, body in session.outbox.unacked():
        node.say(session, message, body)
    for interim in [task.interim for task in session.tasks.values() if task.interim is not None]:
        node.say(session, interim)
    if session.draining < inf:
        node.say(session, Draining(node.epoch, max(0.0, session.draining - node.now), "it was draining before"))
    intake.ask_again(node, session)
    node.print_backlog(session)


def refuse(node: Node, peer: bytes, code: str, reason: str) -> None:
    """Tell the connection, once, that it is not served, and forget whom it belonged to."""
    unbind(node, peer)
    if peer in node.refused:
        node.actions.append(Forget(peer))  # pieces of large frames may have come meanwhile
        return
    _note_told(node, peer)
    node.log("warning", "client refused", code=code, reason=reason)
    node.actions.append(Send(peer, Refused(code, reason, node.identity.python, PROTOCOL)))
    node.actions.append(Forget(peer))


def _note_told(node: Node, peer: bytes) -> None:
    """Remember that this connection is not served, and need not hear it (again)."""
    node.refused[peer] = None
    if len(node.refused) > REFUSALS:
        del node.refused[next(iter(node.refused))]


def lose(node: Node, peer: bytes) -> None:
    """Note that nothing can be sent over the connection any more; a goodbye that it has brought may be unread."""
    session = node.peers.get(peer)
    if session is not None and session.control == peer:
        session.former_control = peer
    elif session is not None:
        session.former = peer
    unbind(node, peer)


def left_by(node: Node, peer: bytes) -> Session | None:
    """Return the session that had this connection until it was gone, and that has no other in its place."""
    return next(
        (session for session in node.sessions.values() if peer in (session.former, session.former_control)), None
    )


def unbind(node: Node, peer: bytes) -> None:
    """Have a connection belong to nobody; its session lives on until its lease is over."""
    session = node.peers.pop(peer, None)
    if session is None:
        return
    if session.control == peer:
        session.control = None
    else:
        session.peer = None


def admit_only(node: Node, keys: frozenset[str]) -> None:
    """Serve the owners of these keys only; the sessions of others end."""
    node.admitted = keys
    for session in [session for session in node.sessions.values() if session.user not in keys]:
        node.log("warning", "session ended: its key is not admitted any more", session=session.key.hex()[:8])
        end(node, session, "this key is not admitted any more")


def on_change(node: Node, session: Session, message: Admit) -> None:
    """Have the list looked at or changed; whoever is on it may: tasks could do the same."""
    if not node.limits.listed:
        raise ProtocolError("this node keeps no list of clients")
    if session.peer is not None:
        node.actions.append(List(session.peer, message.add, message.label, message.remove))


def on_listed(node: Node, event: Listed) -> None:
    """Tell who has asked whom the node admits."""
    keys, labels = [key for key, _ in event.clients], [label for _, label in event.clients]
    node.actions.append(Send(event.peer, Clients(node.epoch, keys, labels, event.problem)))


def look(node: Node, gap: float) -> None:
    """Count ``gap`` seconds without a word from anyone, and end the sessions whose lease is over."""
    for session in list(node.sessions.values()):
        session.silence += min(gap, STEP * session.heartbeat)
        if session.silence > session.lease:
            node.log("warning", "session ended: its client fell silent", session=session.key.hex()[:8])
            end(node, session, f"no word from the client for {session.lease:g} s")
    node.alone = 0.0 if node.sessions else node.alone + min(gap, LOOK)
    if node.limits.alone and node.alone > node.limits.alone and not node.over:
        node.log("info", "no client any more: the node ends", seconds=node.limits.alone)
        node.over = True
        node.actions.append(Exit(0))


def answer(node: Node, session: Session, at: float) -> None:
    """Show a client that we have heard its beat, over both connections: either may have been forgotten on the way."""
    if at <= session.echo:
        return  # it came over the other connection, too
    session.echo = at
    if node.now < session.next_pulse - SPARED * session.heartbeat:
        return  # it beats faster than it said
    if session.control is not None and session.peer is not None and not session.blocked:
        node.actions.append(Send(session.peer, _pulse(node, session)))
    pulse(node, session)
    session.next_pulse = node.now + LATE * session.heartbeat


def pulse(node: Node, session: Session) -> None:
    """Show a client that we live."""
    session.next_pulse = node.now + session.heartbeat
    peer, blocked = session.peer, session.blocked
    if session.control is not None:
        peer, blocked = session.control, session.control_blocked
    if peer is not None and not blocked:  # one that does not read has enough to read
        node.actions.append(Send(peer, _pulse(node, session)))
    # A worker that has nothing but one task does not report it; by now it is worth knowing.
    started = [task.id for worker in session.workers.values() for task in worker.unannounced()]
    if started:
        node.say(session, Progress(node.epoch, [], started))


def _pulse(node: Node, session: Session) -> Pulse:
    queued = sum([other.queued for other in node.sessions.values()])
    return Pulse(node.epoch, max(node.running, 0), queued, session.echo, session.heard)


def end(node: Node, session: Session, reason: str = "") -> None:
    """Drop everything that belongs to a session; with a ``reason`` the client is told."""
    if reason:
        node.say(session, Bye(node.epoch, 0, reason))
    else:
        node.log("info", "session closed", session=session.key.hex()[:8])
    for peer in (session.peer, session.control):
        if peer is not None:
            node.peers.pop(peer, None)
            node.actions.append(Forget(peer))
    # Of goodbyes over two connections one comes first: what comes by the other, the second one too, is for nobody.
    over = [session.control, session.former_control]
    if not reason:
        over += [session.peer, session.former]
    for peer in over:
        if peer is not None:
            _note_told(node, peer)
    session.peer = session.control = None
    node.actions += [Bury(worker) for worker in session.graves.clear()]
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
    node.done += session.outbox.done
    node.failed += session.outbox.failed
    session.workers.clear()
    session.queue.clear()  # its tasks refer to the session, and the GC does not see them
    node.sweep()
