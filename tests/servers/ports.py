"""Ports for servers that cannot be asked to choose one by themselves."""

from __future__ import annotations

import random
import socket

# Below all that kernels give to clients by default: a client of another test cannot take one of these meanwhile.
_FIRST, _LAST = 15_000, 31_999


def free_port() -> int:
    """Return a port of this machine on which nobody listens, nor will by chance before the server does."""
    draw = random.SystemRandom()  # `random` itself is seeded alike in all processes of a run
    while True:
        port = draw.randint(_FIRST, _LAST)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
