"""The daemon's decisions, PURE: see `machine` for the loop of events and actions, `node` for the state.

``tasks`` is the table of what can become of a task, ``sessions``, ``workers``, ``library``, ``outbox`` and
``lines`` are what the core remembers, the other modules are what it decides:

    admission   who may talk, until when        assign    which worker gets which tasks
    intake      what clients ask for            crew      how many workers there are
    outcomes    what workers say                nesting   calls that tasks make
    stopping    cancel and timeouts             draining  leaving in good order
    streaming   values that flow while it runs  graves    workers whose memory is read still
    context     what tasks are told of the mesh
"""

from skyward_node.core.machine import Core
from skyward_node.core.node import Identity, Limits

__all__ = ["Core", "Identity", "Limits"]
