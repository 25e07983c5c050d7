"""Who leads: of the listeners of all nodes one, by a lease in Redis."""

from __future__ import annotations

import os
import secrets
from typing import Final

from workermon import errors, logs, ports

log = logs.get(__name__)

#: The lease, and the listener's mark among the signs of life.
NAME: Final = "listener"
#: Seconds. Another takes over that long after the last renewal, at most a second later.
LEASE: Final = 3.0
#: Seconds between two renewals.
RENEWAL: Final = 1.0


class Leadership:
    """This process' claim to lead."""

    def __init__(self, leases: ports.Leases) -> None:
        self._leases = leases
        self._owner = f"{os.getpid()}-{secrets.token_hex(6)}"

    def hold(self) -> bool:
        """Take the lead or keep it; ``False`` if another leads."""
        return self._leases.hold(NAME, self._owner, LEASE)

    def release(self) -> None:
        """Let another lead at once; if Redis is away the lease runs out by itself."""
        try:
            self._leases.release(NAME, self._owner)
        except errors.WorkermonError as why:
            log.warning("listener.lease_not_released", reason=str(why))
