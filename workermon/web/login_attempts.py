"""Slows failed logins: after too many failures the next attempt has to wait."""

from __future__ import annotations

import collections
import ipaddress
import threading

from workermon import ports

#: Failures without a wait, and seconds after which one more is allowed.
FREE_FAILURES = 10
SECONDS_EACH = 6.0
#: Maximum remembered failures; the oldest are dropped first.
MAX_FAILURES = 10_000


class Attempts:
    """Counts failures by address and attempted name, so that nobody can lock out somebody else's name."""

    def __init__(self, now: ports.Clock) -> None:
        self._now = now
        self._lock = threading.Lock()
        #: When each one's failures have expired.
        self._due: collections.OrderedDict[tuple[str, str], float] = collections.OrderedDict()

    def wait(self, address: str, name: str) -> float:
        """Return the seconds until another attempt is allowed; 0 if it is now."""
        with self._lock:
            due = self._due.get((_network(address), name), 0.0)
            return max(0.0, due - self._now() - (FREE_FAILURES - 1) * SECONDS_EACH)

    def failed(self, address: str, name: str) -> None:
        """Record a failure."""
        with self._lock:
            key = (_network(address), name)
            self._due[key] = max(self._due.pop(key, 0.0), self._now()) + SECONDS_EACH
            while len(self._due) > MAX_FAILURES:
                self._due.popitem(last=False)


def _network(address: str) -> str:
    """Return what counts as one sender: an IPv4 address, or the /64 of an IPv6 one, which one machine may have."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    return str(ipaddress.ip_network((parsed, 64), strict=False)) if parsed.version == 6 else address
