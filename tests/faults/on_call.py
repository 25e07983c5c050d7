"""A person on call, who acknowledges alerts as soon as they notify."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Collection

from tests.faults import pager
from workermon import errors, evaluate, models
from workermon.on_redis import alerts, client, silences

#: Seconds. What was acknowledged so shortly before Redis died may be forgotten.
FORGOTTEN = 3.0


class OnCall:
    """Acknowledges each episode of these alerts. ``acknowledged`` has the times, by alert and begin of the episode."""

    def __init__(self, url: str, paged: pager.Pager, keys: Collection[str]) -> None:
        self.acknowledged: dict[tuple[str, str], float] = {}
        self._paged, self._keys = paged, keys
        self._connection = client.connect(url)
        self._stage = evaluate.Acknowledging(
            alerts=alerts.RedisAlerts(self._connection, "storm"),
            silences=silences.RedisSilences(self._connection),
            now=time.time,
        )
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Read the notifications in a thread, because Redis may not answer for a while."""
        self._thread.start()

    def stop(self) -> None:
        """Look at nothing any more."""
        self._stop.set()
        self._thread.join()
        self._connection.close()

    def redis_died(self) -> None:
        """Acknowledge again what the server may have lost."""
        since = time.time() - FORGOTTEN
        for about in [about for about, at in self.acknowledged.items() if at > since]:
            del self.acknowledged[about]

    def ignored(self, key: str, document: dict[str, str]) -> bool:
        """Tell whether a notification was made well after its episode had been acknowledged."""
        at = self.acknowledged.get((key, document["since"]))
        return at is not None and models.moment(document["created_at"]) > at + FORGOTTEN

    def _run(self) -> None:
        while not self._stop.wait(0.5):
            for notification in list(self._paged.received):
                about = notification.key, str(notification.document["since"])
                if notification.firing and notification.key in self._keys and about not in self.acknowledged:
                    with contextlib.suppress(errors.WorkermonError):
                        self.acknowledged[about] = self._stage.acknowledge(notification.key, "eve").acknowledgement.at
