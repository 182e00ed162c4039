"""Process and thread workers, as the daemon sees them. `supervisor` is the driver, `events` what it reports."""
