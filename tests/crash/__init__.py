"""Real servers that are killed, frozen and stopped under load, and what must be true afterwards."""
