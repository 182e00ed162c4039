"""PURE decisions of the client: events in, actions out. No bytes, no sockets, no clocks.

`scheduler` is where events come in; each module opens with what it decides.
"""
