"""PURE decisions of the client: events in, actions out. No bytes, no sockets, no clocks.

- ``tasks``: what a call is once it has been dispatched, and the actions
- ``scheduler``: the life of tasks, and what becomes of those whose node is lost
- ``assignment``: which waiting task goes to which node
- ``queues``: waiting tasks in order
- ``policy``: how much work a node may hold
- ``membership``: how many nodes there are, and which ranks they have
- ``load``, ``demand``, ``idleness``: what a pool has to do, how many nodes that is worth, and which have nothing to do
- ``pace``: how long calls of a function take
- ``liveness``: whether a silent node is dead
- ``ordering``: in which order a stream hands out its results
"""
