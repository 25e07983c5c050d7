"""When CloudWatch's ListMetrics last listed a metric over a whole account and region, or refused to."""

from __future__ import annotations

from typing import Any, NamedTuple

from workermon import errors, models

#: Seconds for which a metric's dimensions are cached, and a listing is fresh.
DIMENSIONS_KEPT = 3600

#: Seconds. One process at a time lists a region's metrics: for at most this long, and at most this often.
LISTING_LEASE = 120

#: Seconds until a listing that AWS refused is tried again.
RETRY_LISTING_AFTER = 300

_KINDS: dict[str, type[errors.AwsError]] = {
    kind.kind: kind for kind in (errors.AwsError, errors.AwsThrottled, errors.AwsUnreachable, errors.AwsDenied)
}


class Listing(NamedTuple):
    """The result of ListMetrics for one metric over a region.

    ``at`` is when the region was last listed, ``spent_at`` when workers that lack the metric were last looked up one by
    one. ``failure`` is why it could not be listed at ``refused_at``.
    """

    at: float = 0.0
    spent_at: float = 0.0
    refused_at: float = 0.0
    failure: errors.AwsError | None = None

    @classmethod
    def of(cls, value: Any) -> Listing:
        """Return a stored listing; an empty one for anything else."""
        try:
            at, spent_at, refused_at, failure = value
            error = _KINDS[failure[0]](*failure[1:4]) if failure else None
            return cls(float(at), float(spent_at), float(refused_at), error)
        except (TypeError, ValueError, KeyError, IndexError):
            return cls()

    def to_json(self) -> list[Any]:
        """Return it as it is stored."""
        error = self.failure
        return [
            self.at,
            self.spent_at,
            self.refused_at,
            [error.kind, error.subject, error.reason, error.todo] if error else None,
        ]

    def is_from(self, at: float) -> bool:
        """Return whether the metric was listed, or refused, at that time."""
        return at in (self.at, self.refused_at)

    def is_fresh(self, at: float) -> bool:
        """Return whether the region need not be listed again yet."""
        return 0 <= at - self.at < DIMENSIONS_KEPT

    def was_refused(self, at: float) -> bool:
        """Return whether it was refused so recently that it is not tried again yet."""
        return self.failure is not None and 0 <= at - self.refused_at < RETRY_LISTING_AFTER

    def error_at(self, at: float) -> errors.AwsError | None:
        """Return why it could not be listed, also while another process tries again."""
        return self.failure if 0 <= at - self.refused_at < DIMENSIONS_KEPT else None

    def may_be_repeated(self, at: float) -> bool:
        """Return whether it is so old that another one may bring something new."""
        return not 0 <= at - self.at < LISTING_LEASE

    def covers(self, worker: models.Worker) -> bool:
        """Return whether what the listing lacks of a worker does not exist."""
        return worker.added_at < self.at


def listing_key(key: str) -> str:
    """Return the name under which the listing of a metric (its key) is stored with its account and region."""
    return f"listing:{key}"
