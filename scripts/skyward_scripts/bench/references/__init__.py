"""What plain pyzmq and the machine allow: the least code that does a workload's core, with nothing on top.

No retries, no leases, no functions that travel: workers are forked with what they do.
"""
