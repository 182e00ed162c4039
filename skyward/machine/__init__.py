"""This machine, as one process of it sees it: its CPUs, shared memory, private files, and installed versions."""
