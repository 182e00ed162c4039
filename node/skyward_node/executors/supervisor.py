"""The supervisor: the daemon's hands on its workers. It performs, and decides nothing.

It owns the daemon's ends of all pipes to workers and to the template, and the poller that watches them,
where the loop registers what else it waits for: whoever finds one descriptor ready knows that nothing else
is. Nothing here blocks: what a pipe does not take is kept and sent later. Guarantees to the core:

- `Exited` comes exactly once per worker, after everything the worker managed to send;
- what a task printed comes before its result, because it was written before it;
- a worker that writes rubbish, or closes its pipes, is killed, and nobody else notices.
"""

from __future__ import annotations

import json
import os
import select
import signal
from collections import deque
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from skyward.errors import ProtocolError
from skyward.machine.passing import receive_fds, send_fds
from skyward.transport.polling import Poller
from skyward.wire.codec import Decoder, check_body, mark_refs
from skyward.wire.frames import Ref
from skyward.wire.lone import REPLIES, Reply
from skyward.wire.messages import Cancel, Items, Output, Results
from skyward_node.executors.arenas import Arenas
from skyward_node.executors.channel import Channel
from skyward_node.executors.ends import close_all, make_ends
from skyward_node.executors.events import Exited, OutputEnded, Printed, Received, Spawned, TemplateLost, WorkerEvent
from skyward_node.executors.last_words import TAIL, last_lines
from skyward_node.pipe_messages import MAX_UP, WORKER_MESSAGES

if TYPE_CHECKING:
    from _socket import socket
    from collections.abc import Callable, Sequence

    from skyward.model import NodeConfig
    from skyward.wire.frames import Buffer
    from skyward_node.cells import Cells
    from skyward_node.template import TemplateHandle

_PIPE: Final = 64 * 1024  # bytes a pipe holds: one read takes all that was written before it
_LAST_WORDS: Final = 2**30  # bytes read from a dead worker's pipe, in case a process we do not know holds it open
_TURN: Final = 64  # descriptors looked after in one turn; the rest stays ready
_REPLY: Final = 4096  # bytes of a template's message
PER_WORKER: Final = 9  # descriptors: two sockets, two pipes, the process, its memory twice, and two that pass through
_SHARING: Final = (Results, Items)
_IN: Final = select.EPOLLIN | select.EPOLLRDHUP


class _Worker:
    """A worker's pipes, and what is known about its process."""

    __slots__ = ("broken", "cells", "control", "data", "id", "killed", "outputs", "pidfd", "tail")

    def __init__(self, id: int, data: Channel, control: Channel, outputs: dict[int, int], cells: Cells) -> None:
        self.id = id
        self.data = data
        self.control = control
        self.outputs = outputs  # fd -> 1 or 2
        self.cells = cells
        self.pidfd = -1
        self.killed = False
        self.broken = False  # its pipes are not read any more
        self.tail = b""


class Supervisor:
    """All workers of a node. One thread uses it."""

    def __init__(self, config: NodeConfig, template: TemplateHandle) -> None:
        self.config = config
        self._template = template
        self._workers: dict[int, _Worker] = {}
        self.arenas = Arenas()
        self.poller = Poller(_TURN)
        self._output_poll = select.epoll()  # apart, so that output can be read between results and their report
        self._handlers: dict[int, Callable[[int], None]] = {}
        self._talkers: dict[int, _Worker] = {}  # by fd of a data pipe
        self._speakers: dict[int, _Worker] = {}  # by fd of an output pipe
        self._requests: deque[tuple[bytes, tuple[socket | int, ...]]] = deque()
        self._decoder = Decoder(WORKER_MESSAGES, MAX_UP)
        self._spawned: list[WorkerEvent] = []
        self._printed: list[WorkerEvent] = []
        self._received: list[WorkerEvent] = []
        self._ended: list[WorkerEvent] = []
        template.socket.setblocking(False)
        self._watch(template.socket.fileno(), self._on_template)
        self.poller.register(self._output_poll.fileno())

    # --- orders -----------------------------------------------------------------------------

    def spawn(self, worker: int, slots: int, env: dict[str, str]) -> None:
        """Order a worker; it can be sent to at once. Raises `OSError` when descriptors run out."""
        mine, theirs, cells = make_ends(slots, self.arenas)
        arena = mine[-1]
        self.arenas.add(worker, arena)
        self._adopt(worker, mine[:-1], cells)
        where = (self.arenas.size, os.getpid(), arena)
        request = {"do": "spawn", "worker": worker, "slots": slots, "env": env, "arena": where}
        self._request(json.dumps(request).encode(), tuple(theirs))

    def _adopt(self, id: int, ends: list[Any], cells: Cells) -> None:
        data, control, stdout, stderr = ends
        worker = _Worker(id, Channel(data), Channel(control), {stdout: 1, stderr: 2}, cells)
        self._workers[id] = worker
        self._talkers[data.fileno()] = worker
        self._watch(data.fileno(), partial(self._on_data, worker))
        self._watch(control.fileno(), partial(self._on_control, worker))
        for fd in worker.outputs:
            os.set_blocking(fd, False)
            self._output_poll.register(fd, select.EPOLLIN)
            self._speakers[fd] = worker

    def send(self, worker: int, frames: Sequence[Buffer], control: bool = False) -> None:
        """Send a message; what the pipe does not take waits. A worker that is gone gets nothing.

        A Cancel also takes its place on the data pipe: it may be about tasks that wait there, and once
        the worker has read the copy it has seen all tasks the Cancel can be about.
        """
        record = self._workers.get(worker)
        if record is None or record.broken:
            return
        if control:
            self._send(record.control, frames)
            if frames[0][1] != Cancel.TYPE:
                return
        self._send(record.data, frames)

    def send_packed(self, worker: int, data: bytes) -> None:
        """Send what a message is on the data pipe; as `send`."""
        record = self._workers.get(worker)
        if record is not None and not record.broken and record.data.send_packed(data):
            self.poller.modify(record.data.socket.fileno(), _IN | select.EPOLLOUT)

    def _send(self, channel: Channel, frames: Sequence[Buffer]) -> None:
        if channel.send(frames):
            self.poller.modify(channel.socket.fileno(), _IN | select.EPOLLOUT)

    def kill(self, worker: int) -> None:
        """SIGKILL the worker; the template kills what it leaves. `Exited` follows."""
        record = self._workers.get(worker)
        if record is not None:
            record.killed = True
            self._strike(record)

    def _strike(self, worker: _Worker) -> None:
        if worker.pidfd < 0:  # not born yet, or we were out of descriptors
            self._request(json.dumps({"do": "kill", "worker": worker.id}).encode(), ())
            return
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(worker.pidfd, signal.SIGKILL)

    def retire(self, worker: int) -> None:
        """Close the worker's data pipe: it finishes what it has and exits. `Exited` follows."""
        record = self._workers.get(worker)
        if record is not None:
            record.data.finish()

    def bury(self, worker: int) -> None:
        """Forget the memory of a worker that is gone."""
        self.arenas.bury(worker)

    def close(self) -> None:
        """Kill and reap everything. Nothing is left, and no event comes any more."""
        self._template.stop()
        for _, fds in self._requests:
            close_all(fds)
        for worker in list(self._workers.values()):
            self._release(worker)
        self.arenas.close()
        self._output_poll.close()
        self.poller.close()

    # --- events -----------------------------------------------------------------------------

    def outcome(self, ready: Sequence[tuple[Any, int]]) -> tuple[int, Reply] | None:
        """Return a worker and its small outcome, if that is all that is ready; else it is for `events`."""
        if len(ready) != 1:  # what was printed before an outcome is ready no later than that
            return None
        fd, mask = ready[0]
        worker = self._talkers.get(fd)
        if worker is None or mask != select.EPOLLIN:
            return None
        reply = worker.data.receive_alone(REPLIES)
        return None if reply is None else (worker.id, reply)

    def events(self, ready: Sequence[tuple[Any, int]]) -> list[WorkerEvent]:
        """Return what has happened at those of these descriptors that are ours, without waiting."""
        for fd, mask in ready:
            handler = self._handlers.get(fd)
            if handler is not None:
                handler(mask)
        # After the pipes: what a worker printed before a result that we have read is in its pipe by now.
        for fd, _ in self._output_poll.poll(0, len(self._speakers) or 1):
            worker = self._speakers.get(fd)
            if worker is not None:
                self._read_output(worker, fd)
        events, self._received = self._received, []
        if self._spawned or self._printed or self._ended:
            events = self._spawned + self._printed + events + self._ended
            self._spawned, self._printed, self._ended = [], [], []
        return events

    def _watch(self, fd: int, handler: Callable[[int], None]) -> None:
        self._handlers[fd] = handler
        self.poller.register(fd, _IN)

    def _unwatch(self, fd: int) -> None:
        self._talkers.pop(fd, None)
        if self._handlers.pop(fd, None) is not None:
            self.poller.unregister(fd)

    # --- pipes ------------------------------------------------------------------------------

    def _on_data(self, worker: _Worker, mask: int) -> None:
        if mask & select.EPOLLOUT:
            self._flush(worker.data)
        if mask & ~select.EPOLLOUT:
            self._read(worker)
            if worker.data.eof:  # it is exiting, or has closed its descriptors: the status of the dead is set by now
                worker.broken = True
                self._unwatch(worker.data.socket.fileno())
                self._strike(worker)

    def _on_control(self, worker: _Worker, mask: int) -> None:
        if mask & select.EPOLLOUT:
            self._flush(worker.control)
        if mask & ~select.EPOLLOUT:
            self._unwatch(worker.control.socket.fileno())
            try:
                rubbish = bool(worker.control.socket.recv(1))
            except OSError:
                rubbish = False
            if rubbish:  # nothing is ever sent up this pipe
                self._reject(worker, "it wrote to its control pipe")
            else:
                self._strike(worker)

    def _flush(self, channel: Channel) -> None:
        channel.flush()
        if not channel.blocked:
            self.poller.modify(channel.socket.fileno(), _IN)

    def _read(self, worker: _Worker, **budget: int) -> None:
        try:
            for header, *body in worker.data.receive(**budget):
                message = self._decoder.decode(header)
                if message is None:
                    raise ProtocolError("unknown message")
                if body or type(message) is not Reply:
                    check_body(message, body)
                if isinstance(message, _SHARING) and message.shared:
                    for frame in mark_refs(message, body):
                        if type(frame) is Ref:
                            self.arenas.check(worker.id, frame)
                elif isinstance(message, Output) and message.stream == 2:
                    worker.tail = (worker.tail + bytes(body[0]) + b"\n")[-TAIL:]
                self._received.append(Received(worker.id, message, body))
        except ProtocolError as error:
            self._reject(worker, str(error))

    def _reject(self, worker: _Worker, reason: str) -> None:
        """Kill a worker that does not keep to the protocol: what it runs has written to our descriptors."""
        worker.broken = True
        worker.tail += f"\nskyward: the worker was killed: rubbish on its pipes ({reason})\n".encode()
        self._unwatch(worker.data.socket.fileno())
        self._unwatch(worker.control.socket.fileno())
        worker.killed = True
        self._strike(worker)

    def _read_output(self, worker: _Worker, fd: int) -> None:
        try:
            data = os.read(fd, _PIPE)
        except BlockingIOError:
            return
        if not data:
            if not worker.broken:  # else it is about to be gone
                self._printed.append(OutputEnded(worker.id, worker.outputs[fd]))
            self._close_output(worker, fd)
            return
        stream = worker.outputs[fd]
        if stream == 2:
            worker.tail = (worker.tail + data)[-TAIL:]
        self._printed.append(Printed(worker.id, stream, data))

    def _close_output(self, worker: _Worker, fd: int) -> None:
        del worker.outputs[fd], self._speakers[fd]
        self._output_poll.unregister(fd)
        os.close(fd)

    # --- the template -----------------------------------------------------------------------

    def _request(self, data: bytes, fds: tuple[socket | int, ...]) -> None:
        self._requests.append((data, fds))
        if len(self._requests) == 1:
            self._send_requests()
            if self._requests and self._template.socket.fileno() >= 0:
                self.poller.modify(self._template.socket.fileno(), _IN | select.EPOLLOUT)

    def _send_requests(self) -> None:
        while self._requests:
            data, fds = self._requests[0]
            try:
                numbers = [fd if isinstance(fd, int) else fd.fileno() for fd in fds]
                send_fds(self._template.socket, data, numbers)
            except BlockingIOError:
                return
            except (BrokenPipeError, ConnectionResetError):
                pass  # the template is gone, which we are about to read
            self._requests.popleft()
            close_all(fds)

    def _on_template(self, mask: int) -> None:
        sock = self._template.socket
        if mask & select.EPOLLOUT:
            self._send_requests()
            if not self._requests:
                self.poller.modify(sock.fileno(), _IN)
        while True:
            try:
                data, fds = receive_fds(sock, _REPLY, 1)
            except BlockingIOError:
                return
            except OSError:
                data, fds = b"", []
            if not data:
                self._unwatch(sock.fileno())
                self._ended.append(TemplateLost())
                return
            self._on_reply(json.loads(data), fds)

    def _on_reply(self, reply: dict[str, Any], fds: list[int]) -> None:
        worker = self._workers.get(reply["worker"])
        if worker is None:
            close_all(fds)
        elif reply["is"] == "spawned":
            self._spawned.append(Spawned(worker.id, reply["pid"]))
            if fds:
                worker.pidfd = fds[0]
        else:
            self._on_exit(worker, reply)

    def _on_exit(self, worker: _Worker, reply: dict[str, Any]) -> None:
        if not worker.broken:
            self._read(worker, budget=_LAST_WORDS)
        worker.broken = True
        for fd in list(worker.outputs):
            self._read_output(worker, fd)
        code = os.waitstatus_to_exitcode(reply["status"])
        self._ended.append(
            Exited(
                worker.id,
                exitcode=code if code >= 0 else None,
                signal=-code if code < 0 else None,
                peak_memory=reply["peak"] or None,
                memory_limit=reply["limit"],
                oom=reply["oom"] and not worker.killed,
                stderr=last_lines(worker.tail),
                running=worker.cells.tasks(),
                calls=worker.cells.calls(),
            )
        )
        self._release(worker)

    def _release(self, worker: _Worker) -> None:
        del self._workers[worker.id]
        for channel in (worker.data, worker.control):
            self._unwatch(channel.socket.fileno())
            channel.close()
        for fd in list(worker.outputs):
            self._close_output(worker, fd)
        worker.cells.close()
        if worker.pidfd >= 0:
            os.close(worker.pidfd)
