"""The commands of `skyward-mesh` that look after meshes. Each is thin: it asks `skyward.meshes`, and shows the answer.

exits       exit codes, and which error ends in which
showing     plain lines, or rich in a terminal; whoever waits is told for what
lifecycle   up, down, resize, gc
looking     status, nodes, ping, logs; `following`: what is new in a log
running     run, exec; `flags` and `docstrings`: a function's signature as options
admitting   keys
diagnosis   doctor
"""
