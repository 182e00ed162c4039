"""How the shipped policy behaves on clusters that are not at hand.

A discrete-event simulation of one client and many nodes. The decisions are the real ones: the client's
`skyward.dispatch.scheduler.Scheduler` and the daemon's `skyward_node.core.Core`, as they are shipped. Only what
takes time is made up: links, pipes, processes, and the run time of tasks.

    durations.py   how long tasks take
    costs.py       what messages and tasks cost
    clock.py       time, and threads that take it
    worker.py      a worker process
    node.py        a daemon around the real core
    client.py      a client around the real scheduler
    watching.py    what must hold, and what is counted
    cluster.py     all of these together: `simulate`
    script.py      calls that come at given moments, and what becomes of a pool meanwhile
    elastic.py     a pool that grows and shrinks, around the real membership
    rehearsal.py   the same with real daemons
    scaling.py     makespan ÷ ideal for many sizes
    drawing.py     the same as a picture
    validation.py  real daemons beside the model
    calibration.py the costs of this machine
    command.py     `skyward-mesh simulate`
    following.py   `skyward-mesh elastic`
"""
