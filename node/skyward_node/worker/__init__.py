"""Inside a worker process: what `skyward_node.child` is made of. Its theory is ``docs/workers.md``."""
