"""Which messages may come from whom. PURE."""

from __future__ import annotations

from typing import Final

from skyward.wire.bundles import Interim
from skyward.wire.clients import Admit, Clients
from skyward.wire.lone import Call, Reply
from skyward.wire.messages import (
    Answer,
    Beat,
    Bye,
    Cancel,
    Credit,
    Drain,
    Draining,
    Function,
    Hello,
    Items,
    Message,
    Module,
    Need,
    Output,
    Parcels,
    Part,
    Progress,
    Pulse,
    Refused,
    Release,
    Results,
    Returned,
    Revoke,
    Roster,
    Slots,
    Submit,
    Tasks,
    Welcome,
)

CLIENT_MESSAGES: Final[tuple[type[Message], ...]] = (
    Hello, Tasks, Function, Module, Cancel, Beat, Credit, Items, Answer, Roster, Drain, Bye, Release, Part, Parcels,
    Call, Admit,
)  # fmt: skip
NODE_MESSAGES: Final[tuple[type[Message], ...]] = (
    Welcome, Progress, Results, Returned, Need, Submit, Revoke, Output, Pulse, Slots, Draining, Refused,
    Function, Module, Credit, Items, Bye, Part, Parcels, Reply, Interim, Clients,
)  # fmt: skip
