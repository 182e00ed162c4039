"""What runs on a machine that becomes a node, before and beside the daemon: nothing beyond the standard library.

`start` runs under whichever Python the machine has, until there is an environment (`environment`); then `keeper` runs
in that, starts the daemon, and stays as its parent. `words` is what both say, and to whom they listen.
"""
