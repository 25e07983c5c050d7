"""A build that marks a notification as delivered before it is sent. Python runs this file at the start."""

from __future__ import annotations

from workermon import models
from workermon.on_redis import outbox

_claim = outbox.RedisOutbox.claim


def claim(self: outbox.RedisOutbox, alert_id: str, now: float, lease: float) -> list[models.ClaimedNotification]:
    """Claim, and mark at once."""
    claims = _claim(self, alert_id, now, lease)
    for claimed in claims:
        self.delivered(claimed, now)
    return claims


outbox.RedisOutbox.claim = claim  # type: ignore[method-assign]  # the mutant
