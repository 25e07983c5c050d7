"""A port for a server that a test is about to start."""

from __future__ import annotations

import random
import socket


def free_port() -> int:
    """Return a port of 127.0.0.1 that nothing listens on, below those that the kernel hands out by itself.

    A port of the kernel's own range may be taken by somebody's outgoing connection before the server listens.
    """
    chance = random.SystemRandom()  # not the seeded one: two test processes would draw the same ports
    for _ in range(100):
        port = chance.randrange(15000, 32000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no port of 127.0.0.1 is free between 15000 and 32000")
