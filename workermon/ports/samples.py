"""The ledger of samples, its channel, and what is learned from them."""

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


#: Seconds. A slot that passed at most this long before the last complete one is complete too: somebody was slow, or the
#: clock was set back a little. Above a task's time limit.
SLOT_TOLERANCE: Final = 120

#: The outcome of a claim: it is the caller's; the slot is complete; somebody else holds it; the incarnation is gone.
Claim = Literal["claimed", "complete", "taken", "gone"]


class Samples(Protocol):
    """The ledger of samples. A datapoint is kept at its slot, so writing it again changes nothing.

    A slot of a worker is claimed by a lease and completed by the writing of its sample; see ``SLOT_TOLERANCE``.
    """

    def claim(self, workers: Sequence[Worker], now: float, lease: float) -> list[Claim]:
        """Claim the slot of each worker at a time, for ``lease`` seconds of Redis' own time, all in one step."""

    def write(self, sample: Sample, condition: Condition, event: str, *, force: bool = False) -> Written:
        """Write datapoints and condition, mark the worker as pending and publish the event, in one step.

        There is no mark if the evaluation may wait, which ``sample.steady_revision`` says of a worker that is steady.
        ``force`` writes even if the slot is complete: a user asked for this collection.
        """

    def write_many(self, writes: Sequence[tuple[Sample, Condition, str]], *, force: bool = False) -> list[Written]:
        """Write many samples, each in a step of its own, in few round trips; one outcome each, in order."""

    def failed(self, worker: Worker, last_error: CollectionError) -> None:
        """Keep why a collection failed and give the slot's claim back; nothing else of the worker changes."""

    def failed_many(self, failures: Sequence[tuple[Worker, CollectionError]]) -> None:
        """Do that for many in one round trip."""

    def read(
        self, series_keys: Sequence[tuple[str, str, int]], since: float, until: float
    ) -> dict[tuple[str, str], Series]:
        """Return the series of each (worker id, metric, period in seconds), ``since`` and ``until`` included.

        A series without a datapoint is empty.
        """

    def periods(self, worker_id: str, metric: str, since: float, until: float) -> list[int]:
        """Return the periods in seconds under which the ledger holds datapoints of a metric."""

    def pending(self, now: float, limit: int, age: float = 0.0) -> list[str]:
        """Return workers with a sample that is ``age`` seconds old or more and is not evaluated yet, oldest first.

        Those are among them whose mark leads the present (``models.MAX_LEAD``): a clock was ahead when it was written.
        """

    def marked(self, worker_ids: Sequence[str]) -> list[str]:
        """Return which of these are marked as pending, in their order."""

    def mark_pending(self, worker_ids: Iterable[str], at: float) -> None:
        """Mark workers as to be evaluated, for example because their rules changed."""


#: Seconds after an hour's end, and after a late datapoint of it, when it is rolled up: others may come until then.
ROLLUP_DELAY: Final = 900


class LedgerHour(NamedTuple):
    """An hour of a ledger to roll up; ``lease_ends_at`` and ``incarnation`` say what that is based on."""

    worker_id: str
    incarnation: str
    hour: int
    lease_ends_at: float
    points: Mapping[str, tuple[Datapoint, ...]]


class RollUps(Protocol):
    """Hourly roll-ups of every series. A write of datapoints marks its hour to be rolled up, once that is over."""

    def claim(self, now: float, limit: int, lease: float) -> list[LedgerHour]:
        """Claim hours that are due, for ``lease`` seconds, the longest due first, with their datapoints by metric."""

    def save(self, rolled: Sequence[tuple[LedgerHour, Mapping[str, RollUp]]], now: float) -> None:
        """Write roll-ups by metric, and take the marks away.

        A mark stays if a datapoint came meanwhile. Nothing is written if the incarnation is gone. A roll-up of more
        datapoints than the new one has stays: a part of the ledger is gone already.
        """

    def read(self, worker_id: str, metric: str, since: float, until: float) -> dict[int, RollUp]:
        """Return the roll-ups that are kept by the start of their hours, which lie between these times."""


class LearnedDelays(Protocol):
    """What is learned about an account and region, by name: few small JSON values, none about a single worker.

    What is lost is learned again.
    """

    def load(self, scope: AccountRegion) -> dict[str, Any]:
        """Return all values; those that cannot be read are left out."""

    def save(self, scope: AccountRegion, values: Mapping[str, Any]) -> None:
        """Keep these beside the others, for another week."""


class Feed(Protocol):
    """The channel of samples and the feed of alert notifications, from the reader's side."""

    def listen(
        self,
        *,
        alerts: bool = True,
        timeout: float | Callable[[], float] = 1.0,
        canary: Callable[[str], None] | None = None,
    ) -> Generator[str | None, None, None]:
        """Yield each message as text when it comes, ``None`` if none came for ``timeout`` seconds.

        A callable ``timeout`` is asked before each wait. ``canary`` is called with each message of the canary's
        channel; without it that channel is not subscribed. The first ``None`` says that the subscription stands.
        Raises ``errors.RedisUnavailable`` if the connection breaks.
        """
