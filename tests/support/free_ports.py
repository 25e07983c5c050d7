"""A port for a server that a test is about to start."""

from __future__ import annotations

import random
import socket


def free_port() -> int:
    """Return a free port of 127.0.0.1 below the kernel's ephemeral range.

    An outgoing connection may take a port of that range before the server listens.
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
