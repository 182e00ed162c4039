"""How a task ends, in a byte; and what one without a value sends in place of it. PURE."""

# No postponed annotations, as in `messages`.
from typing import Annotated, Final

from msgspec import Meta, Struct

from skyward.wire.messages import MAX_BATCH, U32, U64, Byte, Name, Seconds, Text

OK: Final = 0  # a value
RAISED: Final = 1  # the function raised
CRASHED: Final = 2  # its process died (also sys.exit and os._exit)
TIMED_OUT: Final = 3
CANCELLED: Final = 4
TOO_LARGE: Final = 5  # the result exceeds max_payload
UNSERIALIZABLE: Final = 6  # the result or the exception cannot be pickled
IMPORT_FAILED: Final = 7  # a module the call needs is missing on the node
NODE_LOST: Final = 8  # only in Answer: the client's verdict on a nested call
REFUSED: Final = 9  # only in Answer: why the nested call has no outcome of a node
MIXED: Final = 10  # of a bundle: its calls ended differently, or not all of them ran; see `skyward.wire.bundles`


class Failure(Struct, array_like=True, frozen=True):
    """Why a task has no value. MessagePack-encoded where the pickle would stand."""

    status: Byte
    type_name: Name = ""
    message: Text = ""
    traceback: Text = ""
    exception: bytes = b""  # the pickled exception; only the client opens it
    signal: Annotated[int, Meta(ge=0, le=128)] = 0
    exitcode: Annotated[int, Meta(ge=-1, le=2**31)] = -1  # -1: unset
    stderr: Annotated[list[Text], Meta(max_length=100)] = []
    peak_memory: U64 = 0  # bytes; 0: unknown
    memory_limit: U64 = 0
    oom: bool = False
    attempts: U32 = 1
    size: U64 = 0  # TOO_LARGE: bytes
    limit: U64 = 0  # TOO_LARGE: bytes
    timeout: Seconds = 0.0
    module: Name = ""  # IMPORT_FAILED
    place: Annotated[int, Meta(ge=-1, lt=MAX_BATCH)] = -1  # CRASHED, of a bundle: the call that ran; -1: unknown


CANCELLED_FAILURE: Final = Failure(CANCELLED, type_name="CancelledError", message="the task was cancelled")
