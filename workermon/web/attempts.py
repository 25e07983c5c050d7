"""Failed logins are slowed: who fails too often waits before the next try is looked at."""

from __future__ import annotations

import collections
import ipaddress
import threading

from workermon import ports

#: Failures that are free, and seconds after which one more is.
FREE = 10
SECONDS = 6.0
#: What is remembered at most; the ones that failed longest ago are forgotten first.
REMEMBERED = 10_000


class Attempts:
    """Counts failures by address and by the name that was tried, so that nobody locks out somebody else's name."""

    def __init__(self, now: ports.Clock) -> None:
        self._now = now
        self._lock = threading.Lock()
        #: When the last failure of each will have been worked off.
        self._due: collections.OrderedDict[tuple[str, str], float] = collections.OrderedDict()

    def wait(self, address: str, name: str) -> float:
        """Return the seconds until a try is looked at again; 0 if it is now."""
        with self._lock:
            due = self._due.get((_network(address), name), 0.0)
            return max(0.0, due - self._now() - (FREE - 1) * SECONDS)

    def failed(self, address: str, name: str) -> None:
        """Note a failure."""
        with self._lock:
            key = (_network(address), name)
            self._due[key] = max(self._due.pop(key, 0.0), self._now()) + SECONDS
            while len(self._due) > REMEMBERED:
                self._due.popitem(last=False)


def _network(address: str) -> str:
    """Return what counts as one sender: an address of IPv4, or the /64 of one of IPv6, which one machine may have."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    return str(ipaddress.ip_network((parsed, 64), strict=False)) if parsed.version == 6 else address
