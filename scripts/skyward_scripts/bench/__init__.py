"""``skyward-mesh bench``: how fast skyward is, beside plain ZeroMQ and beside its peers, in one run.

    command        the click command
    workloads      what is measured: names, sizes, figures
    catalogue      who takes part: skyward, references in plain pyzmq, peers
    rounds         the run: all contestants of a workload in turn, round by round
    session        one contestant's process, seen from outside; processes: whatever it leaves behind
    launches       what is measured from outside: process start, import
    environments   virtual environments of contestants; stage: the files that contestants' processes find

    curves/        ``skyward-mesh curves``: what a call of skyward alone costs, from small to large

    runner         one contestant's process, seen from inside
    contestant     what a contestant can do; ours, references/, peers/: those who do
    measures/      how each workload is measured; durations: of random work
    tasks, marked  the functions that run on workers, plain and marked for skyward

    summary, targets, results   what figures mean (pure)
    report, chart, facts        how they are shown, and where they were measured

Every contestant has a process of its own, and skyward and its peers have environments of their own, so nothing here may
be imported by a contestant but the standard library and what its environment holds.
"""
