"""Signatures of commits: who signed what becomes active, with which key, and whether that key counts."""
