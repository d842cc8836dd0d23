"""Runs folders of conformance cases through the real engine."""
