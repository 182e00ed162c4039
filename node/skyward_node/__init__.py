"""The daemon `skyward-node`: a ROUTER in front of workers; ``docs/node.md`` and ``docs/workers.md`` explain it."""
