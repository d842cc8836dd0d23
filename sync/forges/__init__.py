"""Forges: how each signs its webhook deliveries, and what those say about refs."""
