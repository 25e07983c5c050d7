"""Is the monitor itself alive."""
