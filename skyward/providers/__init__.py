"""Where nodes come from: `base` is the contract, each other module one kind of place."""
