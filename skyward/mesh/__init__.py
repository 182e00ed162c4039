"""The client's side of a mesh: its nodes, and what is said to them.

- ``engine``: drives one pool: scheduler, links and nodes, under one loop
- ``crew``: the nodes of the pool: launching, joining, losing, letting go
- ``mate``: one node as the client knows it; ``verdicts``: why a task has no value
- ``greeting``: hello, refusal, and going on after a break; ``reach``: whether somebody still listens there
- ``talk``: messages to and from nodes
- ``nesting``: calls that tasks make; ``streaming``: values that flow while a task runs
- ``sharing``: memory that this machine's workers read and write
- ``spares``: memory for large results, used again
- ``launching``: threads in which providers start and end nodes
- ``window``: how many bytes may be under way; ``timers``: what is to be done later
- ``console``: what tasks print; ``watching``, ``view``, ``area``: how the pool stands, live

What is decided is decided in `skyward.dispatch`; what is polled is polled in `skyward.transport`.
"""
