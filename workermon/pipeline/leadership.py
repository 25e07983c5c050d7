"""Who leads: of the listeners of all nodes one, by a lease in Redis."""

from __future__ import annotations

import os
import secrets
from typing import Final

from workermon import errors, logs, ports

log = logs.get(__name__)

#: The lease, and the listener's mark among the signs of life.
NAME: Final = "listener"
#: Seconds. Another takes over that long after the last renewal, which each sweep is, at most ``CLAIMED_EVERY`` later.
LEASE: Final = 3.8
#: Seconds between two tries to take the lead.
CLAIMED_EVERY: Final = 1.0


class Leadership:
    """This process' claim to lead."""

    def __init__(self, leases: ports.Leases) -> None:
        self._leases = leases
        #: What each sweep renews.
        self.claim = ports.LeaseClaim(NAME, f"{os.getpid()}-{secrets.token_hex(6)}", LEASE)

    def take(self) -> bool:
        """Take the lead; ``False`` if another leads."""
        return self._leases.hold(*self.claim)

    def release(self) -> None:
        """Let another lead at once; if Redis is away the lease runs out by itself."""
        try:
            self._leases.release(NAME, self.claim.owner)
        except errors.WorkermonError as why:
            log.warning("listener.lease_not_released", reason=str(why))
