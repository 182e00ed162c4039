"""What goes into the core, and what comes out of it. Frozen values, no behaviour.

Events of workers are defined with the executors: see `skyward_node.executors.events`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec import Struct

from skyward_node.executors.events import WorkerEvent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from skyward.wire.frames import Buffer
    from skyward.wire.messages import Message

# --- events ----------------------------------------------------------------------------------


class Incoming(Struct, frozen=True, gc=False):
    """A message came over a connection. Frames of the body are owned by the receiver."""

    peer: bytes
    message: Message
    body: Sequence[Buffer] = ()
    user: str = ""  # the key of who sent it; "" on links that need none


class Nonsense(Struct, frozen=True):
    """What came over a connection is no message."""

    peer: bytes
    code: str  # of the refusal: "protocol" or "version"; or "body": it is a message, but not what belongs to it
    reason: str


class Gone(Struct, frozen=True):
    """A connection does not exist any more."""

    peer: bytes


class Blocked(Struct, frozen=True):
    """A connection takes no more messages for now, or takes them again."""

    peer: bytes
    blocked: bool


class Admitted(Struct, frozen=True):
    """These are the keys of the clients that may use the node, and no others."""

    keys: frozenset[str]
    problem: str = ""  # why the file of keys does not count


class Crowded(Struct, frozen=True):
    """No connection can be taken in: there are no descriptors left."""


class Unguarded(Struct, frozen=True):
    """Whoever admits clients is gone."""


class Listed(Struct, frozen=True):
    """The list of clients, as somebody has asked for it over a connection."""

    peer: bytes
    clients: Sequence[tuple[str, str]]  # keys and labels
    problem: str = ""  # why it was not changed


class Shutdown(Struct, frozen=True):
    """The daemon shall finish what runs, for at most ``grace`` seconds, and end."""

    grace: float
    reason: str


# --- actions ---------------------------------------------------------------------------------


class Send(Struct, frozen=True, gc=False):
    """Send a message over a connection."""

    peer: bytes
    message: Message
    body: Sequence[Buffer] = ()


class Forget(Struct, frozen=True):
    """Nothing of a connection is wanted any more."""

    peer: bytes


class List(Struct, frozen=True):
    """Change the list of clients, if anything is to be changed, and say how it is then: `Listed` comes next."""

    peer: bytes  # who wants to know
    add: str  # a key; "": nobody
    label: str
    remove: str  # a key or a label; "": nobody


class Spawn(Struct, frozen=True):
    """Start a worker. It may be given work before it has started."""

    worker: int
    slots: int
    place: int  # among the workers of the node, from 0; which accelerators it gets depends on it


class Give(Struct, frozen=True, gc=False):
    """Put a message on a worker's data pipe."""

    worker: int
    message: Message
    body: Sequence[Buffer] = ()


class Control(Struct, frozen=True, gc=False):
    """Put a message on a worker's control pipe."""

    worker: int
    message: Message
    body: Sequence[Buffer] = ()


class Kill(Struct, frozen=True):
    """Kill a worker and all it has started. Its `Exited` comes later."""

    worker: int


class Retire(Struct, frozen=True):
    """Let an idle worker end. Its `Exited` comes later."""

    worker: int


class Bury(Struct, frozen=True):
    """Forget the memory of a worker that is gone: nobody reads it any more."""

    worker: int


class Log(Struct, frozen=True):
    """Something that a person may want to read."""

    level: str  # "debug" | "info" | "warning" | "error"
    event: str
    fields: dict[str, Any]


class Exit(Struct, frozen=True):
    """End the daemon."""

    code: int


Event = Incoming | Nonsense | Gone | Blocked | Admitted | Crowded | Unguarded | Listed | Shutdown | WorkerEvent
Action = Send | Forget | List | Spawn | Give | Control | Kill | Retire | Bury | Log | Exit
