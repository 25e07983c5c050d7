"""The ledger of samples, its channel, and learned values."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple, Protocol

from workermon.models import AccountRegion, CollectionError, Condition, Datapoint, RollUp, Sample, Series, Worker


class Written(NamedTuple):
    """The outcome of writing a sample.

    ``accepted``; ``repeated``: its slot was complete already, so datapoints were kept but no event was published;
    ``gone``: the incarnation is gone and nothing was written.
    """

    outcome: Literal["accepted", "repeated", "gone"]


#: Seconds. A slot at most this long before the last completed one is complete too: a node was slow, or the clock was
#: set back a little. Longer than a task's time limit.
SLOT_TOLERANCE: Final = 120

#: The outcome of a claim: the caller has it; the slot is complete; another node has it; the incarnation is gone.
Claim = Literal["claimed", "complete", "held", "gone"]


class Samples(Protocol):
    """The ledger of samples. A datapoint is stored at its slot, so writing it again changes nothing.

    A slot of a worker is claimed by a lease and completed by writing its sample; see ``SLOT_TOLERANCE``.
    """

    def claim(self, workers: Sequence[Worker], now: float, lease: float) -> list[Claim]:
        """Claim the slot of each worker at a time, for ``lease`` seconds of Redis' own time, all in one step."""

    def write(self, sample: Sample, condition: Condition, event: str, *, force: bool = False) -> Written:
        """Write datapoints and condition, mark the worker as pending and publish the event, in one step.

        There is no mark if the evaluation may wait, as ``sample.steady_revision`` allows for a steady worker. ``force``
        writes even if the slot is complete: a user asked for this collection.
        """

    def write_many(self, writes: Sequence[tuple[Sample, Condition, str]], *, force: bool = False) -> list[Written]:
        """Write many samples, each in a step of its own, in few round trips; one outcome each, in order."""

    def failed(self, worker: Worker, last_error: CollectionError) -> None:
        """Store why a collection failed, and release the slot's claim. Nothing else of the worker changes."""

    def failed_many(self, failures: Sequence[tuple[Worker, CollectionError]]) -> None:
        """Do that for many in one round trip."""

    def read(
        self, series_keys: Sequence[tuple[str, str, int]], since: float, until: float
    ) -> dict[tuple[str, str], Series]:
        """Return the series of each (worker id, metric, period in seconds), ``since`` and ``until`` included.

        A series without a datapoint is empty.
        """

    def periods(self, worker_id: str, metric: str, since: float, until: float) -> list[int]:
        """Return the periods in seconds at which the ledger holds datapoints of a metric."""

    def pending(self, now: float, limit: int, age: float = 0.0) -> list[str]:
        """Return workers with a sample at least ``age`` seconds old that is not evaluated yet, oldest first.

        They include those with a mark too far ahead (``models.MAX_LEAD``): a clock was ahead when it was written.
        """

    def marked(self, worker_ids: Sequence[str]) -> list[str]:
        """Return the pending ones of these workers, in their order."""

    def mark_pending(self, worker_ids: Iterable[str], at: float) -> None:
        """Mark workers as pending, for example because their rules changed."""


#: Seconds after an hour's end, and after a late datapoint in it, until its roll-up: others may arrive until then.
ROLLUP_DELAY: Final = 900


class LedgerHour(NamedTuple):
    """An hour of a ledger to roll up; ``lease_ends_at`` and ``incarnation`` say what that is based on."""

    worker_id: str
    incarnation: str
    hour: int
    lease_ends_at: float
    points: Mapping[str, tuple[Datapoint, ...]]


class RollUps(Protocol):
    """Hourly roll-ups of every series. Writing datapoints marks their hour for a roll-up once it is over."""

    def claim(self, now: float, limit: int, lease: float) -> list[LedgerHour]:
        """Claim due hours, for ``lease`` seconds, the longest due first, with their datapoints by metric."""

    def save(self, rolled: Sequence[tuple[LedgerHour, Mapping[str, RollUp]]], now: float) -> None:
        """Write roll-ups by metric, and remove the marks.

        A mark stays if a datapoint arrived meanwhile. Nothing is written if the incarnation is gone. A roll-up of more
        datapoints than the new one stays: a part of the ledger has already expired.
        """

    def read(self, worker_id: str, metric: str, since: float, until: float) -> dict[int, RollUp]:
        """Return the stored roll-ups by the start of their hours, between these times."""


class LearnedDelays(Protocol):
    """Learned values of an account and region, by name: few small JSON values, none about a single worker.

    Lost values are learned again.
    """

    def load(self, scope: AccountRegion) -> dict[str, Any]:
        """Return all values, without unreadable ones."""

    def save(self, scope: AccountRegion, values: Mapping[str, Any]) -> None:
        """Store these beside the others, for another week."""


def alerts_channel(channel: str) -> str:
    """Name the pub/sub channel of notifications, beside the one of samples."""
    return f"{channel}:alerts"


def canary_channel(channel: str) -> str:
    """Name the pub/sub channel of canaries, beside the one of samples."""
    return f"{channel}:canary"


class Feed(Protocol):
    """The channel of samples and the feed of alert notifications, for subscribers."""

    def listen(
        self,
        *,
        alerts: bool = True,
        timeout: float | Callable[[], float] = 1.0,
        canary: Callable[[str], None] | None = None,
        until: int | None = None,
    ) -> Generator[str | None, None, None]:
        """Yield each message as text when it arrives, ``None`` if none arrived for ``timeout`` seconds.

        A callable ``timeout`` is called before each wait. ``canary`` is called with each message of the canary's
        channel; without it that channel is not subscribed. The first ``None`` means that the subscription is active.
        ``until`` is a file descriptor: once it is readable, a wait ends, and with it the messages.
        Raises ``errors.RedisUnavailable`` if the connection breaks.
        """
