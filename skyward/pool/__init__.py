"""What can be done with a pool, wherever it is: how calls become tasks, alone, in groups, in bundles and in maps."""
