"""The client's side of a mesh: its nodes, and what is said to them.

- ``engine``: drives one pool: scheduler, links and nodes, under one loop
- ``crew``: the nodes of the pool: launching, joining, losing, letting go
- ``talk``: messages to and from nodes
- ``nesting``: calls that tasks make
- ``launching``: threads in which providers start and end nodes
- ``window``: how many bytes may be under way
- ``console``: what tasks print; ``watching``, ``view``, ``area``: how the pool stands, live

What is decided is decided in `skyward.dispatch`; what is polled is polled in `skyward.transport`.
"""
