"""Inside a worker process: what `skyward_node.child` is made of.

- ``inbox``: tasks that have come and not started, and who may still take them away
- ``slot``: runs one task at a time: unpickle, call, pickle
- ``interrupts``: when a cancel may break into the user's code
- ``outbox``: outcomes that have not been sent, and the only hand on the data pipe
- ``control``: the thread that hears cancels and reports tasks that take long
- ``waits``: who waits in each task, whose slot is lent meanwhile
- ``pipes``: blocking ends of the pipes
- ``instance``: what tasks are told about where they run
- ``process``: what makes a fresh fork a decent Python process
"""
