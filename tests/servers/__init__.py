"""Real servers that tests start, treat badly and ask."""
