"""``skyward-mesh curves``: what a call costs, from small to large, on pools of this machine with every default on.

    command   the click command
    points    which curves there are: their points and figures (pure)
    tour      the run: all points of all curves, round by round
    report    what was found, as text (pure)

Skyward runs as the contestant that it is in ``skyward-mesh bench``, in a process of its own; how a point is measured
is in `skyward_scripts.bench.measures`.
"""
