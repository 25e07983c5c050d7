"""Which listener is active: one of all nodes, by a lease in Redis."""

from __future__ import annotations

import os
import secrets
from typing import Final

from workermon import errors, logs, ports

log = logs.get(__name__)

#: The lease, which is also the name of the listener's mark among the signs of life.
NAME: Final = "listener"
#: Seconds. Another one takes over so long after the last renewal (each sweep), plus at most ``CLAIMED_EVERY``.
LEASE: Final = 3.8
#: Seconds between two attempts to become active.
CLAIMED_EVERY: Final = 1.0


class Leadership:
    """This process' claim to lead."""

    def __init__(self, leases: ports.Leases) -> None:
        self._leases = leases
        #: Renewed by each sweep.
        self.claim = ports.LeaseClaim(NAME, f"{os.getpid()}-{secrets.token_hex(6)}", LEASE)

    def take(self) -> bool:
        """Become active; ``False`` if another one is."""
        return self._leases.hold(*self.claim)

    def release(self) -> None:
        """Release the lead at once. If Redis is unreachable the lease expires."""
        try:
            self._leases.release(NAME, self.claim.owner)
        except errors.WorkermonError as error:
            log.warning("listener.lease_not_released", reason=str(error))
