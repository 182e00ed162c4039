"""What travels on the pipes between a daemon and its workers: wire messages, and four of their own.

    down, data      Context (before the first tasks, and when the roster changes), Module, Function, Tasks, Call,
                    Forget, Release, Cancel (a copy of each on the control pipe, in its place among the tasks)
    down, control   Cancel, Answer, Items, Credit, Release, Deadlock
    up, data        Results, Reply, Progress, Interim, Returned, Waiting, Items, Credit; Output of tasks on threads;
                    of nested calls Module, Function, Submit, Revoke

``epoch``, ``ack`` and ``seq`` mean nothing here: a worker belongs to one daemon, and its pipes lose nothing. They are 0
but in a `Call` that is passed on as it came; nor does a worker care about its ``retries`` and ``timeout``.
The framing is `skyward.wire.pipe`. PURE.
"""

# No postponed annotations, as in `skyward.wire.messages`.
from typing import Annotated, ClassVar, Final

from msgspec import Meta

from skyward.wire.bundles import Interim
from skyward.wire.lone import Call, Reply
from skyward.wire.messages import (
    MAX_HEADER,
    MAX_NODES,
    U32,
    U64,
    Answer,
    Cancel,
    Credit,
    Function,
    Items,
    Key,
    Keys,
    Member,
    Message,
    Module,
    Name,
    Output,
    Progress,
    Release,
    Results,
    Returned,
    Revoke,
    Seconds,
    Submit,
    Tasks,
    Text,
)

MAX_UP: Final = (
    MAX_HEADER - 64
)  # bytes of a worker's header: the daemon puts its epoch and a seq in when it passes it on


class Context(Message, frozen=True):
    """Whom the worker serves, and where it stands in the mesh."""

    TYPE: ClassVar[int] = 128
    session: Key
    rank: U32  # of this node
    job: Name
    members: Annotated[list[Member], Meta(max_length=MAX_NODES)]
    slots: Annotated[list[U32], Meta(max_length=MAX_NODES)]  # workers of each member
    head_port: Annotated[int, Meta(ge=0, lt=65536)]
    index: U32  # of this worker on the node; of its first slot in thread mode
    cancel_grace: Seconds
    max_payload: U64  # bytes of one result; 0: no limit
    accelerators: Annotated[list[Name], Meta(max_length=1024)] = []  # noqa: RUF012 - msgspec copies it; of the node
    retries: U32 = 0  # of calls that tasks make and that do not say
    timeout: Seconds = 0.0  # of the same; 0: none
    shared: bool = False  # the client reads the worker's memory


class Waiting(Message, frozen=True):
    """The task waits for others, or goes on: its slot is lent, or taken back.

    ``idle``: it waits for the other end of a stream; that time does not count for its timeout. A task whose threads
    wait for both says both; each is said once, however many wait.
    """

    TYPE: ClassVar[int] = 129
    task: U64
    waiting: bool
    idle: bool = False


class Deadlock(Message, frozen=True):
    """The task may not wait for the other end of a stream: too many tasks wait already."""

    TYPE: ClassVar[int] = 130
    task: U64
    reason: Text


class Forget(Message, frozen=True):
    """Code of which the worker has no task, and which comes again before it is needed."""

    TYPE: ClassVar[int] = 131
    functions: Keys
    modules: Keys


DATA_MESSAGES: Final = (Context, Module, Function, Tasks, Call, Forget, Cancel, Release)
CONTROL_MESSAGES: Final = (Cancel, Answer, Items, Credit, Release, Deadlock)
WORKER_MESSAGES: Final = (
    Results, Reply, Progress, Interim, Returned, Waiting, Module, Function, Submit, Revoke, Items, Credit, Output,
)  # fmt: skip
