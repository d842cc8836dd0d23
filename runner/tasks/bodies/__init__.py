"""Modules that Python bodies can import; they run in the body's interpreter and are never imported by the server."""
