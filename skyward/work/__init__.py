"""Work that is described, and not yet run: calls, groups of calls, and what their operators say to mistakes."""
