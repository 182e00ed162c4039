"""The daemon's decisions, PURE: see `machine` for the loop of events and actions, `node` for the state.

`tasks` is the table of what can become of a task; each module opens with what it decides, or remembers.
"""

from skyward_node.core.machine import Core
from skyward_node.core.node import Identity, Limits

__all__ = ["Core", "Identity", "Limits"]
