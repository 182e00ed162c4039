"""Commands that bootstrap and look after meshes. `cli` is the click group; the other modules do the work."""
