"""Meshes: nodes that outlive the pool that uses them, looked after by commands that come and go.

described   `skyward.toml`: what meshes shall be
kinds       providers by their names
files       mesh files: which nodes a mesh has, and how they are ended
attached    a pool on the nodes of a mesh
asking      how its nodes are
raising     bringing a mesh up, growing it, shrinking it, ending it
telling     whoever hears how that goes
"""
