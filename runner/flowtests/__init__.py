"""Tests of flows: cases with fixtures and assertions, run by the real engine without a server."""
