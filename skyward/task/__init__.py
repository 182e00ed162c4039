"""What a task uses of the library: the pool it runs in, its node's part of some data, and who sees what it prints."""
