"""The daemon `skyward-node`: a ROUTER process in front of workers. ``docs/node.md`` and ``docs/workers.md`` explain it."""
