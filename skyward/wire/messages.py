"""The messages of the skyward protocol, version 1, as typed headers. See ``docs/protocol.md``.

A message is a list of frames. Frame 0 is the header: one byte protocol version, one byte message type, then a
MessagePack array with the fields below, in this order. The frames after it are the *body*: opaque bytes whose number
and meaning the header gives. Only headers are ever decoded by a node; bodies are pickles that only the process which
runs the task may open.

Batches are columns: 64 tasks are five lists of integers, so that coding costs microseconds a batch, not a task. Types
below 64 must be understood: an unknown one ends the session. Those from 64 up are hints, which may be ignored. A later
revision may add fields at the end of a header; others ignore them. PURE: nothing here knows how messages travel.
"""

# No postponed annotations: each process that decodes a message would compile those of its fields first.
from typing import Annotated, ClassVar, Final

from msgspec import Meta, Struct

PROTOCOL: Final = 1

# Bounds on what a peer may claim: far above what we send, far below what hurts.
MAX_BATCH: Final = 16_384  # tasks or ids in one message: 64 a message is already near the optimum
MAX_BUFFERS: Final = 65_536  # body frames in one message
MAX_MODULES: Final = 65_536  # module sources that one function may name
MAX_LINES: Final = 1_048_576  # lines in one message, and bytes of them
MAX_TEXT: Final = 65_536  # characters in a reason, a traceback, an output line
MAX_NODES: Final = 16_384  # members of a roster
MAX_HEADER: Final = 4 * 2**20  # bytes of frame 0: a full roster, or a full batch, with room to spare

HINT: Final = 64  # types from here up are ignored by whoever does not know them

U64 = Annotated[int, Meta(ge=0)]  # MessagePack has no integer above 64 bits, msgspec no bound above 63
U32 = Annotated[int, Meta(ge=0, lt=2**32)]
Byte = Annotated[int, Meta(ge=0, lt=256)]
Seconds = Annotated[float, Meta(ge=0.0, le=1e9)]  # 0 means "none" where a limit is optional
Key = Annotated[bytes, Meta(min_length=16, max_length=16)]  # content hash, session id
PublicKey = Annotated[str, Meta(max_length=64)]
Name = Annotated[str, Meta(max_length=1024)]
Text = Annotated[str, Meta(max_length=MAX_TEXT)]
Ids = Annotated[list[U64], Meta(max_length=MAX_BATCH)]
Sizes = Annotated[list[U64], Meta(max_length=MAX_BATCH)]
Counts = Annotated[list[Annotated[int, Meta(ge=0, le=MAX_BUFFERS)]], Meta(max_length=MAX_BATCH)]
Frames = Annotated[list[Annotated[int, Meta(ge=0, le=MAX_BUFFERS)]], Meta(max_length=MAX_BUFFERS)]
Indexes = Annotated[list[Annotated[int, Meta(ge=0, lt=MAX_BATCH)]], Meta(max_length=MAX_BATCH)]
Keys = Annotated[list[Key], Meta(max_length=MAX_MODULES)]
Versions = Annotated[dict[Name, Name], Meta(max_length=256)]


class Message(Struct, array_like=True, frozen=True, gc=False):
    """Base of all messages: fields are encoded as an array, in declaration order."""

    TYPE: ClassVar[int]


class Member(Struct, array_like=True, frozen=True):
    """One node as all nodes of a mesh know it."""

    rank: U32
    address: Name  # host or path under which peers and users know the node
    private_address: Name
    public_key: PublicKey = ""


# --- client to node ------------------------------------------------------------------------


class Hello(Message, frozen=True):
    """First message of a connection, and again after every reconnect."""

    TYPE: ClassVar[int] = 1
    protocol: U32
    python: Name  # "3.11.7"; major.minor must match
    versions: Versions  # packages that matter for unpickling
    session: Key  # random, one per pool
    epoch: U64  # the node's epoch as this client knows it; 0 on first contact
    ack: U64  # last contiguous Results.seq this client has seen
    lease: Seconds  # 0: the node's default
    heartbeat: Seconds  # interval at which both sides beat on this session
    cancel_grace: Seconds  # between interrupt and kill of a running task
    max_payload: U64  # bytes one result may have; 0: the node's default
    label: Name  # "host:pid", for logs
    channel: Name = "data"  # "control": a second connection of the session, for heartbeats
    retries: Annotated[int, Meta(ge=0, lt=MAX_BATCH)] = 0  # of calls that tasks make and that do not say
    timeout: Seconds = 0.0  # of the same; 0: none
    heard: U64 = 0  # last seq of SUBMIT, REVOKE, ITEMS and CREDIT
    shared: bool = False  # client and workers read each other's memory: they are processes of one machine
    replies: bool = False  # the client knows Reply


class Tasks(Message, frozen=True):
    """A batch of tasks. Body: one blob of concatenated pickles, then the out-of-band buffers.

    Task i takes ``sizes[i]`` bytes of the blob and the next ``buffers[i]`` body frames. With ``sizes[i] == 0`` its
    pickle is the first of those frames. Optional columns are empty when every entry has the default.
    """

    TYPE: ClassVar[int] = 2
    epoch: U64
    ack: U64
    functions: Keys  # the functions this batch uses
    ids: Ids  # unique in the session, never reused
    fns: Indexes  # into functions
    sizes: Sizes
    buffers: Counts
    retries: Indexes = []  # re-runs still allowed after a loss; default 0
    timeouts: Annotated[list[Seconds], Meta(max_length=MAX_BATCH)] = []  # 0: none
    shared: Frames = []  # which body frames are references to shared memory; see docs/protocol.md
    counts: Indexes = []  # calls in each entry: above 1 it is a bundle; see `skyward.wire.bundles`
    crashes: Indexes = []  # workers that have died under each; default 0


class Function(Message, frozen=True):
    """A function's code. Body: one frame, opaque to the node. Travels in both directions."""

    TYPE: ClassVar[int] = 3
    epoch: U64
    key: Key  # hash of body and modules
    modules: Keys  # module sources the function needs, all sent before
    name: Name


class Module(Message, frozen=True):
    """A module's source. Body: one frame, opaque to the node. Travels in both directions."""

    TYPE: ClassVar[int] = 4
    epoch: U64
    key: Key
    name: Name


class Cancel(Message, frozen=True):
    """Drop tasks. With ``running`` false, only those that have not started (take back)."""

    TYPE: ClassVar[int] = 5
    epoch: U64
    ids: Ids
    running: bool


class Beat(Message, frozen=True):
    """The client is alive and has seen results up to ``ack``."""

    TYPE: ClassVar[int] = 6
    epoch: U64
    ack: U64
    at: Seconds  # the sender's monotonic clock, echoed
    heard: U64 = 0  # last seq of SUBMIT, REVOKE, ITEMS and CREDIT
    shown: U64 = 0  # bytes of lines that have come over this connection, each with its end


class Credit(Message, frozen=True):
    """The consumer of a stream has room for so much more. Travels in both directions."""

    TYPE: ClassVar[int] = 7
    epoch: U64
    id: U64  # task
    stream: U32  # 0: what the task yields; n: its n-th iterator parameter
    items: U64
    size: U64  # bytes
    read: U64 = 0  # elements so far whose shared memory is not read any more
    seq: U64 = 0  # 1, 2, 3, … per session, over all that have one; 0 inside a node
    call: U64 = 0  # not 0: it is about a stream of this call, which the task has made


class Items(Message, frozen=True):
    """Elements of a stream. Body as in Tasks. Travels in both directions."""

    TYPE: ClassVar[int] = 8
    epoch: U64
    id: U64
    stream: U32
    first: U64  # index of the first element
    sizes: Sizes
    buffers: Counts
    end: bool  # no element follows; stream 0 ends with its task instead
    failed: bool = False  # the last element is a Failure that ends the stream
    shared: Frames = []  # which body frames are references to shared memory; see docs/protocol.md
    seq: U64 = 0  # as in Credit
    call: U64 = 0  # the same
    counts: Counts = []  # elements that each pickle holds, as a list if they are several; empty: one each


class Answer(Message, frozen=True):
    """Outcome of nested calls. Body: as in Results. Client to node."""

    TYPE: ClassVar[int] = 9
    epoch: U64
    parent: U64  # task that submitted
    calls: Ids  # its own numbers for the calls
    statuses: Annotated[list[Byte], Meta(max_length=MAX_BATCH)]
    sizes: Sizes
    buffers: Counts
    ranks: Annotated[list[U32], Meta(max_length=MAX_BATCH)]  # where each ran
    seq: U64 = 0  # as in Credit


class Roster(Message, frozen=True):
    """Who the nodes of this mesh are, as of now; and which of them the receiver is."""

    TYPE: ClassVar[int] = 10
    epoch: U64
    rank: U32
    job: Name
    members: Annotated[list[Member], Meta(max_length=MAX_NODES)]
    slots: Annotated[list[U32], Meta(max_length=MAX_NODES)]  # workers of each member
    head_port: Annotated[int, Meta(ge=0, lt=65536)] = 0  # for what tasks set up among themselves


class Drain(Message, frozen=True):
    """Finish what runs, hand back the rest, then say Bye."""

    TYPE: ClassVar[int] = 11
    epoch: U64
    deadline: Seconds  # from receipt


class Bye(Message, frozen=True):
    """The session ends. The node drops all that belongs to it. Travels in both directions."""

    TYPE: ClassVar[int] = 12
    epoch: U64
    ack: U64
    reason: Text


class Release(Message, frozen=True):
    """The client does not read these results in shared memory any more."""

    TYPE: ClassVar[int] = 13
    epoch: U64
    regions: Ids


class Part(Message, frozen=True):
    """A piece of a large frame of a later message. Body: one frame. Travels in both directions."""

    TYPE: ClassVar[int] = 14
    epoch: U64
    number: U64  # of the parcel: 1, 2, 3, … per connection and direction
    size: U64  # bytes of the whole frame
    offset: U64  # of this piece


class Parcels(Message, frozen=True):
    """Which frames of the next message, empty there, have come as parcels; or what is dropped. In both directions."""

    TYPE: ClassVar[int] = 15
    epoch: U64
    frames: Frames
    numbers: Annotated[list[U64], Meta(max_length=MAX_BUFFERS)]
    kept: Ids = []  # those of them that are named again later
    dropped: Ids = []  # those that are not any more


# --- node to client ------------------------------------------------------------------------


class Welcome(Message, frozen=True):
    """Answer to Hello: the session is bound to this connection."""

    TYPE: ClassVar[int] = 33
    protocol: U32
    python: Name
    versions: Versions
    session: Key
    epoch: U64  # random, one per life of the daemon
    slots: U32
    executor: Name  # "process" | "thread"
    hostname: Name
    address: Name
    pid: U32
    accelerators: Annotated[list[Name], Meta(max_length=1024)]
    resumed: bool  # the node still had this session
    heard: U64 = 0  # last seq of ANSWER, ITEMS and CREDIT
    max_payload: U64 = 0  # bytes of the arguments of one call that the node takes; 0: it does not say
    calls: bool = False  # the node knows Call
    bundles: bool = False  # it takes bundles, and Tasks.crashes
    lane: Annotated[bytes, Meta(max_length=64)] = b""  # what a lane to this node begins with; empty: it takes none
    clients: bool = False  # the node keeps a list of clients, and knows Admit
    keeps: bool = False  # it keeps parcels, `max_payload` bytes of them


class Progress(Message, frozen=True):
    """What the node has taken in and started. Left out for tasks whose result comes first."""

    TYPE: ClassVar[int] = 34
    epoch: U64
    accepted: Ids
    started: Ids


class Results(Message, frozen=True):
    """A batch of outcomes. Body: one blob, then buffers, as in Tasks.

    A status other than OK has a Failure, MessagePack-encoded, in place of the pickle.
    """

    TYPE: ClassVar[int] = 35
    epoch: U64
    seq: U64  # 1, 2, 3, … per session; kept by the node until acknowledged
    ids: Ids
    statuses: Annotated[list[Byte], Meta(max_length=MAX_BATCH)]
    sizes: Sizes
    buffers: Counts
    elapsed: Annotated[list[U64], Meta(max_length=MAX_BATCH)]  # microseconds each task ran
    shared: Frames = []  # which body frames are references to shared memory; see docs/protocol.md


class Returned(Message, frozen=True):
    """Tasks that were not started and that the node will not run."""

    TYPE: ClassVar[int] = 36
    epoch: U64
    ids: Ids


class Need(Message, frozen=True):
    """The node lacks these and holds the tasks that use them until they come."""

    TYPE: ClassVar[int] = 37
    epoch: U64
    functions: Keys
    modules: Keys


class Submit(Message, frozen=True):
    """Nested calls of a running task. Body as in Tasks; functions come before. Ranks: -1 any node."""

    TYPE: ClassVar[int] = 38
    epoch: U64
    parent: U64
    functions: Keys
    calls: Ids  # the parent's own numbers; Answer refers to them
    fns: Indexes
    sizes: Sizes
    buffers: Counts
    retries: Indexes
    timeouts: Annotated[list[Seconds], Meta(max_length=MAX_BATCH)]
    ranks: Annotated[list[Annotated[int, Meta(ge=-1, lt=MAX_NODES)]], Meta(max_length=MAX_BATCH)]
    names: Annotated[list[Name], Meta(max_length=MAX_BATCH)]  # function names, for errors
    seq: U64 = 0  # as in Credit


class Revoke(Message, frozen=True):
    """The running task no longer wants these nested calls."""

    TYPE: ClassVar[int] = 39
    epoch: U64
    parent: U64
    calls: Ids
    seq: U64 = 0  # as in Credit


class Output(Message, frozen=True):
    """Lines a task printed. Body: one frame, the lines joined by newlines."""

    TYPE: ClassVar[int] = 40
    epoch: U64
    id: U64  # 0: the node cannot tell which task
    stream: Annotated[int, Meta(ge=1, le=2)]  # 1 stdout, 2 stderr
    lines: Annotated[int, Meta(ge=1, le=MAX_LINES)]
    dropped: U64  # lines lost before these, because the reader was too slow


class Pulse(Message, frozen=True):
    """The node is alive; its load, and the client's clock sent back."""

    TYPE: ClassVar[int] = 41
    epoch: U64
    running: U64
    queued: U64
    echo: Seconds
    heard: U64 = 0  # last seq of ANSWER, ITEMS and CREDIT


class Slots(Message, frozen=True):
    """How many tasks the node runs at once now: lent slots come and go."""

    TYPE: ClassVar[int] = 42
    epoch: U64
    slots: U32


class Draining(Message, frozen=True):
    """The node takes no new tasks. What it had not started comes back as Returned."""

    TYPE: ClassVar[int] = 43
    epoch: U64
    deadline: Seconds
    reason: Text


class Refused(Message, frozen=True):
    """The node does not talk to this client. Nothing follows."""

    TYPE: ClassVar[int] = 44
    code: Name  # "version" | "auth" | "protocol" | "session" | "full"
    reason: Text
    python: Name
    protocol: U32
