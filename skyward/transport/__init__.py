"""All of ZeroMQ on the client's side, and who polls it.

- ``sockets``: the two kinds of socket, with the settings that guarantees rest on
- ``links``: one connection to one node
- ``hub``: all links of a pool under one poller
- ``loop``: which thread polls
- ``signals``: interrupts wait while the main thread does
- ``library``: what the ZeroMQ library of this installation can do
"""
