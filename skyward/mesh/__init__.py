"""The client's side of a mesh: its nodes, and what is said to them.

What is decided is decided in `skyward.dispatch`; what is polled is polled in `skyward.transport`. `engine` drives one
pool; each module opens with what it answers for, and ``docs/client.md`` tells how they go together.
"""
