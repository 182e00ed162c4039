"""Peers as contestants, each set up as its documentation advises, with two workers on this machine.

Modules are named after what they drive, and import it only when they are opened, in its own environment.
"""
