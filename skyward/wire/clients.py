"""The list of clients that a node admits, as those who are on it ask for it and change it: see `messages`. PURE."""

# No postponed annotations: as in `messages`.
from typing import Annotated, Final

from msgspec import Meta

from skyward.wire.messages import U64, Message, Name, PublicKey, Text

MAX_CLIENTS: Final = 16_384  # whom one list may have

Listed = Annotated[list[PublicKey], Meta(max_length=MAX_CLIENTS)]
Labels = Annotated[list[Name], Meta(max_length=MAX_CLIENTS)]


class Admit(Message, frozen=True):
    """Admit one client more, or one fewer, or neither: the answer is the list as it is then."""

    TYPE = 17
    epoch: U64
    add: PublicKey = ""  # "": nobody
    label: Name = ""  # of the one that is added
    remove: Name = ""  # a key or a label; "": nobody


class Clients(Message, frozen=True):
    """Whom the node admits, beside those that it was started for."""

    TYPE = 47
    epoch: U64
    keys: Listed
    labels: Labels  # one each
    problem: Text = ""  # why nothing was changed
