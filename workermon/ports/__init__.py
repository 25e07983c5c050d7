"""What the stages need of the outside world, as protocols.

The real ones are in ``on_aws``, ``on_redis`` and ``on_celery``; ``testing`` has them in memory. One contract suite
(``tests/contract``) runs over every implementation. All of them are safe to share between threads. Where nothing
else is said they raise ``errors.RedisUnavailable`` or ``errors.AwsError`` and its kinds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol

from workermon.models import (
    CANARY_EVERY,
    AccountRegion,
    AccountState,
    Acknowledgement,
    Alert,
    BudgetDecision,
    Channel,
    ClaimedNotification,
    CollectionError,
    Condition,
    Configuration,
    HistoryEntry,
    Hour,
    Instance,
    InstanceStatus,
    Limit,
    Notification,
    Query,
    Sample,
    SecretRef,
    Sent,
    Series,
    Silence,
    Transition,
    Worker,
)


class Clock(Protocol):
    """The time now, in seconds since 1970; the composition root gives ``time.time``."""

    def __call__(self) -> float:
        """Return the time now."""


# --- AWS ---------------------------------------------------------------------------------------------------------


class Ec2(Protocol):
    """EC2 as the stages see it. An id that EC2 does not know is left out of an answer: that is not an error."""

    def describe(self, scope: AccountRegion, instance_ids: Sequence[str]) -> dict[str, Instance]:
        """Return what DescribeInstances knows of these ids."""

    def statuses(self, scope: AccountRegion, instance_ids: Sequence[str]) -> dict[str, InstanceStatus]:
        """Return state and status checks of these ids, stopped ones included (DescribeInstanceStatus)."""

    def find(self, scope: AccountRegion, tags: Mapping[str, str]) -> list[Instance]:
        """Return every instance, not terminated or shutting down, that carries all these tags."""

    def time(self, scope: AccountRegion) -> float | None:
        """Return AWS' own time in whole seconds, ``None`` where it does not say; a refusal is an answer, too."""


class Answer(NamedTuple):
    """Of some queries: the series of those that were answered, and what became of the others.

    ``series`` is keyed by the query's place in the request; an answered query without a datapoint has an empty one.
    """

    series: dict[int, Series]
    failed: dict[int, Exception]


class CloudWatch(Protocol):
    """CloudWatch as the stages see it."""

    def fetch(self, scope: AccountRegion, queries: Sequence[Query], until: float) -> Answer:
        """Return datapoints from each query's ``since`` up to ``until``, in order of time (GetMetricData).

        Pages are followed, partial results asked for again; NaN and repeated timestamps do not come out. A query
        that stayed partial is among the failed, beside the datapoints that did come.
        """

    def dimensions(
        self, scope: AccountRegion, namespace: str, metric_name: str, instance_ids: Sequence[str] | None
    ) -> dict[str, list[tuple[tuple[str, str], ...]]]:
        """Return the dimension sets under which each instance really publishes a metric (ListMetrics).

        ``None`` asks for every instance of the account and region.
        """


class Limiter(Protocol):
    """How fast AWS may be asked: one limit for each account, region and API, shared by all worker processes.

    ``scope`` is a ``Scope.key``, ``api`` the name of an operation. Time is Redis' own.
    """

    def take(self, scope: str, api: str) -> None:
        """Return when one request may go out.

        Raises ``errors.AwsThrottled`` where that would take longer than a collection may wait, and
        ``errors.AwsUnreachable`` where the API was silent a moment ago and somebody else tries it.
        """

    def throttled(self, scope: str, api: str) -> None:
        """Note that AWS refused a request as too many: from now on slower, and faster again bit by bit."""

    def silent(self, scope: str, api: str) -> None:
        """Note that nobody answered: for a while only one request at a time is let out to try."""

    def answered(self, scope: str, api: str) -> None:
        """Note that somebody answered, which ends a silence."""

    def slowed(self) -> dict[tuple[str, str], float]:
        """Return by (scope, API) which part of its full rate each slowed one has, 0 where it is silent."""


class Costs(Protocol):
    """What was asked of AWS, by the hour, and what the budget makes of it."""

    def note(self, at: float, scope: str, operation: str, metrics: Mapping[str, int]) -> None:
        """Count a request, and the metrics asked in it by ``namespace/name``."""

    def hours(self, since: float) -> list[Hour]:
        """Return the hours since the one that a time is in, oldest first; those without a request are left out."""

    def budget_decision(self) -> BudgetDecision:
        """Return what the budget makes of the periods; may be some seconds old."""

    def decide(self, budget_decision: BudgetDecision, before: BudgetDecision) -> bool:
        """Put a decision in force; ``False`` where ``before`` is not what is there: another was faster."""


# --- the repository ----------------------------------------------------------------------------------------------


class Record(NamedTuple):
    """A worker as it was set up, and as it was last found.

    ``dimensions`` is what ListMetrics said, by metric name; ``changed_from`` is the earliest datapoint that was
    written since the last judgement (``None``: none), ``sequence`` counts the writes.
    """

    worker: Worker
    condition: Condition
    dimensions: dict[str, list[tuple[tuple[str, str], ...]]]
    dimensions_at: float
    changed_from: int | None
    sequence: int


class Workers(Protocol):
    """The repository of monitored workers."""

    def add(self, workers: Sequence[Worker]) -> None:
        """Add them all or none; raises ``errors.InvalidInput`` where one is monitored already."""

    def update(self, worker: Worker) -> bool:
        """Replace how it is set up; ``False`` where its incarnation is no longer there."""

    def get(self, worker_ids: Sequence[str]) -> dict[str, Record]:
        """Return those of them that are known."""

    def ids(self) -> list[str]:
        """Return every worker's id, in order."""

    def known(self, worker_ids: Sequence[str]) -> set[str]:
        """Return which of them are monitored, and read nothing else of them."""

    def every(self, chunk: int = 500) -> Iterator[Record]:
        """Yield the whole fleet, read in chunks."""

    def found_dimensions(
        self, worker: Worker, dimensions: dict[str, list[tuple[tuple[str, str], ...]]], at: float
    ) -> bool:
        """Remember what ListMetrics said of a worker, unless its incarnation is gone."""


class Written(NamedTuple):
    """What became of a sample.

    ``accepted``; ``repeated``: its slot was complete, so datapoints were kept but no event went out; ``gone``: that
    incarnation is no longer there and nothing was written.
    """

    outcome: Literal["accepted", "repeated", "gone"]


#: What became of a claim: it is the caller's; the slot is complete; another holds it; that incarnation is gone.
Claim = Literal["claimed", "complete", "taken", "gone"]


class Samples(Protocol):
    """The ledger of samples. A datapoint is kept at its slot, so writing it again changes nothing.

    A slot of a worker is claimed by a lease and completed by the writing of its sample. A slot that passed at most
    two minutes before the last complete one is complete too: somebody was slow, or the clock was set back a little.
    """

    def claim(self, workers: Sequence[Worker], now: float, lease: float) -> list[Claim]:
        """Claim each worker's slot at a time for ``lease`` seconds of Redis' own time, all in one step."""

    def write(self, sample: Sample, condition: Condition, event: str, *, again: bool = False) -> Written:
        """In one step: datapoints, condition, the mark 'to be judged', and the event on the channel.

        ``again`` writes although the slot is complete (a collection that somebody asked for).
        """

    def write_many(self, writes: Sequence[tuple[Sample, Condition, str]], *, again: bool = False) -> list[Written]:
        """Write many samples, each a step of its own, in few round trips; one outcome for each, in order."""

    def failed(self, worker: Worker, last_error: CollectionError) -> None:
        """Remember why a collection failed and give the slot's claim back; nothing else of the worker changes."""

    def failed_many(self, failures: Sequence[tuple[Worker, CollectionError]]) -> None:
        """Do that for many in one round trip."""

    def read(self, wanted: Sequence[tuple[str, str, int]], since: float, until: float) -> dict[tuple[str, str], Series]:
        """Return the series of each (worker id, metric, period in seconds), ``since`` and ``until`` included.

        A series without a datapoint is empty.
        """

    def periods(self, worker_id: str, metric: str, since: float, until: float) -> list[int]:
        """Return the periods in seconds under which the ledger holds datapoints of a metric."""

    def pending(self, before: float, limit: int) -> list[str]:
        """Return workers with a sample that was written by that time and is not judged yet, oldest first."""

    def mark_pending(self, worker_ids: Iterable[str], at: float) -> None:
        """Mark workers as to be judged (their rules changed, say)."""


class LearnedDelays(Protocol):
    """What is learnt of an account and region, by name: small JSON values, bounded in number, none of one worker.

    It may be lost, and then is learnt again.
    """

    def load(self, scope: AccountRegion) -> dict[str, Any]:
        """Return all of it; what cannot be read is left out."""

    def save(self, scope: AccountRegion, values: Mapping[str, Any]) -> None:
        """Keep these beside the others, for another week."""


# --- alerts ------------------------------------------------------------------------------------------------------


class Basis(NamedTuple):
    """What a verdict is based on; read before its datapoints.

    ``alerts`` is by rule, ``version`` counts the commits of this worker, ``revision`` those of the configuration.
    ``last_versions`` is the last version of each rule's notifications, which outlives the removal of a worker.
    """

    record: Record
    alerts: dict[str, Alert]
    version: int
    revision: int
    last_versions: dict[str, int]


class Verdict(NamedTuple):
    """The outcome of one judgement of one worker, to be written in one step if its basis still holds.

    ``alerts`` replaces all of the worker's; ``transitions`` are ``(rule, transition, notification or None)``;
    ``channels`` says where each rule's notifications go.
    """

    basis: Basis
    alerts: dict[str, Alert]
    transitions: tuple[tuple[str, Transition, Notification | None], ...]
    channels: dict[str, tuple[str, ...]]
    at: float


class Alerts(Protocol):
    """State of the alerts, their history, and what waits to be delivered."""

    def load(self, worker_ids: Sequence[str]) -> dict[str, Basis]:
        """Return the basis of a judgement of those workers that are known."""

    def commit(self, verdict: Verdict) -> bool:
        """Write alerts, history and outbox in one step; ``False``, and nothing written, where the basis moved on.

        The basis is the worker's incarnation, the alerts' version and cursors, and the rules' revision.
        """

    def commit_many(self, verdicts: Sequence[Verdict]) -> list[bool]:
        """Commit verdicts of different workers, each a step of its own, in few round trips; in order."""

    def retire(self, verdict: Verdict) -> bool:
        """Commit a last verdict and delete every key and member of the worker, in one step."""

    def open(self) -> list[Alert]:
        """Return the alerts that people were last told to be firing, the oldest first."""

    def history(self, alert_id: str | None = None, limit: int = 100) -> list[HistoryEntry]:
        """Return what was recorded of one alert, or of all, newest first."""


class AccountBasis(NamedTuple):
    """What the judgement of an account and region is based on; its fields are those of ``Basis``."""

    state: AccountState
    alerts: dict[str, Alert]
    version: int
    revision: int
    last_versions: dict[str, int]


class AccountVerdict(NamedTuple):
    """The outcome of one judgement of an account and region; its fields are those of ``Verdict``."""

    basis: AccountBasis
    alerts: dict[str, Alert]
    transitions: tuple[tuple[str, Transition, Notification | None], ...]
    channels: dict[str, tuple[str, ...]]
    at: float


#: Seconds. No collection takes so long; a note so much older than the last success is of a clock that was set back.
SET_BACK = 600


class Accounts(Protocol):
    """How collection goes in each account and region, and the alerts about that."""

    def note(self, scope: str, at: float, interval: int, last_error: CollectionError | None) -> None:
        """Note how a collection went that began at a time; one older than the last success changes nothing.

        One that is older by more than ``SET_BACK`` counts: a clock was wrong, and the times before tell nothing.
        """

    def load(self) -> dict[str, AccountBasis]:
        """Return the basis of a judgement of every account and region where anything was collected, by its key."""

    def forget(self, scope: str, version: int) -> bool:
        """Forget how it went there, unless its alerts are no longer at that version; their history stays."""

    def commit(self, verdict: AccountVerdict) -> bool:
        """Write alert, history and outbox in one step; ``False``, and nothing written, where the basis moved on."""

    def retire(self, verdict: AccountVerdict) -> bool:
        """Commit a last verdict and forget how it went there, in one step."""


class StuckQueue(NamedTuple):
    """A lane whose head was tried first at ``since`` and was not accepted since; ``error`` is of the last attempt."""

    alert_id: str
    channel: str
    attempts: int
    since: float
    error: str


#: Seconds. No lane waits longer for its next try; one that would was written by a clock that was ahead, and is due.
LONGEST_WAIT = 3700


class Outbox(Protocol):
    """Notifications on their way. A lane is one alert on one channel; each keeps its order."""

    def due(self, now: float, limit: int) -> list[str]:
        """Return alert ids with a lane whose head may be tried by now and is under nobody's lease.

        A lane whose next try is more than ``LONGEST_WAIT`` ahead may be tried too.
        """

    def claim(self, alert_id: str, now: float, lease: float) -> list[ClaimedNotification]:
        """Claim the head of each due lane of an alert for ``lease`` seconds of Redis' own time."""

    def delivered(
        self, parcel: ClaimedNotification, at: float, remind_at: float | None = None
    ) -> ClaimedNotification | None:
        """Record acceptance and take the notification off its lane; ``remind_at`` is when it is due again, if ever.

        Where the alert still fires then, ``due`` puts it into the lane once more, as a reminder.

        Where the fence was stale nothing is taken off; the answer is the alert's present state as a parcel to be
        sent once more, so that the last word is the true one (``None`` where there is nothing to add).
        """

    def failed(self, parcel: ClaimedNotification, at: float, error: str, retry_at: float) -> bool:
        """Record the attempt, free the lane, and wait until ``retry_at``; ``False`` where the fence was stale."""

    def give_up(self, parcel: ClaimedNotification, at: float, error: str, remind_at: float | None = None) -> bool:
        """Record the last attempt and take the notification off; ``False`` where the fence was stale."""

    def skip(self, parcel: ClaimedNotification, at: float, remind_at: float | None) -> bool:
        """Take the notification off as if it had not been there; ``False`` where the fence was stale."""

    def postpone(self, parcel: ClaimedNotification, retry_at: float) -> bool:
        """Give a claim back until ``retry_at`` as if it had not been made; ``False`` where the fence was stale."""

    def last_error(self, channel: str) -> Notification | None:
        """Return what was last told of the delivery to a channel itself."""

    def tell(self, channel: str, notification: Notification, before: str | None, to: Sequence[str], at: float) -> bool:
        """Write what is told of the delivery to a channel, its history and its lanes in one step.

        ``before`` is the id of what was told last (``None``: nothing). ``False`` where that is not so any more.
        """

    def release(self, notification: Notification, at: float) -> bool:
        """Put the canary's parcel on its way, recorded nowhere; ``False`` where its last one has not gone yet."""

    def backlog(self) -> int:
        """Return how many notifications wait; the canary's parcel is none."""

    def stuck(self, before: float, limit: int = 100) -> list[StuckQueue]:
        """Return lanes whose head was tried first by that time, and whose last attempt failed, the oldest first."""


class Silences(Protocol):
    """What is not to be told, and who has seen what."""

    def every(self) -> list[Silence]:
        """Return those that were not taken back, the first to end first; some may be over."""

    def add(self, silence: Silence) -> None:
        """Put it in force, and forget those that were over before it begins."""

    def remove(self, silence_ids: Iterable[str]) -> None:
        """Take them back; those that are not there are no error."""

    def acknowledge(self, acknowledged: Acknowledgement) -> None:
        """Note who has seen an alert; kept as long as the history."""

    def acknowledged(self, alert_ids: Sequence[str]) -> dict[str, Acknowledgement]:
        """Return who has seen these alerts last, those that somebody has."""


class Configurations(Protocol):
    """The configuration in force; the defaults of the contract where none was applied."""

    def load(self) -> Configuration:
        """Return it; cheap where it has not changed."""

    def save(self, configuration: Configuration) -> bool:
        """Put it in force; ``False`` where ``revision`` is not exactly one above what is there."""


class Change(NamedTuple):
    """A set-up that is to be in force, and what that is based on.

    ``mark`` is what ``Setup.mark`` returned before ``fleet`` (who is monitored, by id) and the configuration were read.
    ``leaving`` are the last verdicts of those who leave; ``configuration`` is ``None`` where it stays as it is.
    """

    mark: str
    fleet: Mapping[str, Worker]
    added: Sequence[Worker]
    updated: Sequence[Worker]
    leaving: Sequence[Verdict]
    configuration: Configuration | None
    at: float


class Setup(Protocol):
    """The whole set-up, changed at once: nobody sees a part of it."""

    def mark(self) -> str:
        """Return what is another one after every change of the set-up."""

    def put(self, change: Change) -> bool:
        """Write all of it in one step; ``False``, and nothing written, where what it is based on has changed.

        That are the mark, who is monitored, the workers that are to change, and the alerts of those who leave. Where
        the configuration changes everybody is marked as to be judged.
        """


# --- the canary --------------------------------------------------------------------------------------------------


#: Seconds. After such a pause between two that were published, those lost before count no more.
CANARY_BREAK = 3 * CANARY_EVERY
#: Where each comes by after beat has sent it: a worker process published it, the listener heard it, an evaluation put
#: its parcel into the outbox, and delivery took that out.
CANARY_STEPS = ("published", "heard", "judged", "accepted")


class Reached(NamedTuple):
    """When a canary came to a step, and when that same canary had set out."""

    begun: float
    at: float


class Trace(NamedTuple):
    """How far canaries came (``CANARY_STEPS``).

    ``reached`` has for each step the last canary that came there, ``lost`` how many came to the step before since then
    (the last of them may still be under way), ``sent`` how many beat had sent when one was published last.
    """

    reached: dict[str, Reached]
    lost: dict[str, int]
    sent: int


class Canary(Protocol):
    """The trace that canaries leave, and their own channel (``canary``)."""

    def publish(self, begun: float, at: float, sent: int) -> None:
        """In one step: note that it is published, and publish it; ``sent`` is how many beat has sent so far.

        What was lost before a long break counts no more.
        """

    def reach(self, step: str, begun: float, at: float) -> None:
        """Note that the canary that set out at ``begun`` came to a later step."""

    def trace(self) -> Trace:
        """Return how far they came."""


# --- scheduling, the channel, secrets ----------------------------------------------------------------------------


class Schedule(Protocol):
    """The RedBeat entries: one for each worker, identifiers only."""

    def put(self, workers: Sequence[Worker], now: float) -> None:
        """Schedule them, or change what is scheduled; a cadence that stands is kept."""

    def delete(self, worker_ids: Sequence[str]) -> None:
        """Unschedule them, checked: no entry is left when this returns."""

    def next_runs(self, worker_ids: Sequence[str]) -> dict[str, float]:
        """Return when each scheduled worker of these is next due."""

    def ids(self) -> set[str]:
        """Return the ids of the workers that have an entry, sound or broken."""

    def quarantined(self) -> dict[str, str]:
        """Return the entries that were set aside because they could not be read, each with the reason."""

    def last_tick(self) -> float | None:
        """Return when beat last looked for what is due."""

    def canaries(self) -> Sent | None:
        """Return how many canaries beat has sent, ``None`` where it knows of none."""


class Dispatcher(Protocol):
    """Wakes the next stage: identifiers in a Celery message. It may get lost; a sweep finds what no bell announced."""

    def evaluate(self, worker_ids: Sequence[str]) -> None:
        """Have these workers judged."""

    def deliver(self, alert_ids: Sequence[str]) -> None:
        """Have the notifications of these alerts sent."""

    def canary(self) -> None:
        """Have the canary that was heard judged."""


#: Seconds without a mark after which the listener has been away. It marks itself each 2 s, another takes over within 5.
BREAK = 10
#: Seconds. Beat and collectors are at work by then: imports, and the lock of a beat that was killed, take most of it.
START_UP = 30


class Pulse(Protocol):
    """Signs of life of each part (``listener``, ``collect``, ``evaluate``, ``deliver``), and counts of what went by.

    ``canary``: when a listener that hears canaries began to lead.
    """

    def mark(self, part: str, at: float) -> None:
        """Note that a part did its work at that time."""

    def marks(self) -> dict[str, float]:
        """Return when each part last did its work."""

    def monitoring_since(self) -> float | None:
        """Return since when the monitor is whole: ``None`` before its listener ever was there.

        It begins where the listener was away for more than ``BREAK``, and is whole with the first collection after
        that, at most ``START_UP`` later: where none comes, silence is the monitor's own, and counts all the same.
        Where the listener's clock was set back by more than ``BREAK`` it begins too: times before that tell nothing.
        """

    def judges(self, at: float) -> None:
        """Note that a judgement begins: what waited in a queue may be judged before the listener is back."""

    def count(self, what: str, number: int = 1) -> None:
        """Count something by a name such as ``event.invalid``."""

    def counts(self) -> dict[str, int]:
        """Return all counts."""


class Leases(Protocol):
    """Who may do what only one may do. Time is Redis' own."""

    def hold(self, name: str, owner: str, seconds: float) -> bool:
        """Take the lease, or extend it where it is the owner's already; ``False`` where another holds it."""

    def release(self, name: str, owner: str) -> None:
        """Give it back, where it is still the owner's."""


class Server(Protocol):
    """The server that holds the state, as far as its own settings matter."""

    def settings(self) -> dict[str, str]:
        """Return what it says of itself, by name, such as ``maxmemory_policy`` and ``aof_enabled``."""

    def time(self) -> float:
        """Return its clock."""


class Nodes(Protocol):
    """Celery's worker nodes."""

    def ping(self, timeout: float = 1.0) -> list[str]:
        """Return the names of those that answer."""

    def queues(self) -> dict[str, int]:
        """Return how many messages wait in each queue of ours, and as ``unacked`` how many are in a node's hands."""


class Feed(Protocol):
    """The channel of samples and the feed of alert notifications, from the reader's side."""

    def listen(
        self,
        *,
        alerts: bool = True,
        timeout: float | Callable[[], float] = 1.0,
        canary: Callable[[str], None] | None = None,
    ) -> Iterator[str | None]:
        """Yield each message as text as it comes, ``None`` when none came for ``timeout`` seconds.

        Where that is to be called, it is asked before each wait.

        ``canary`` is called with each message of the canary's channel, which is heard only then and never yielded.
        The subscription stands when this yields first (a ``None``). Raises ``errors.RedisUnavailable`` when the
        connection breaks.
        """


class Secrets(Protocol):
    """Looks a secret up by its name when it is needed."""

    def __call__(self, ref: SecretRef) -> str:
        """Return it; raises ``errors.InvalidInput`` naming the name, never the value."""


class Notifier(Protocol):
    """One kind of channel."""

    def send(self, channel: Channel, notification: Notification) -> None:
        """Send it, or raise ``errors.DeliveryFailed`` within the lease."""


class Publisher(Protocol):
    """Amazon SNS."""

    def publish(
        self,
        topic_arn: str,
        *,
        subject: str,
        messages: Mapping[str, str],
        attributes: Mapping[str, str],
        group: str,
        identity: str,
    ) -> None:
        """Publish to a topic: ``messages`` by protocol, ``default`` among them.

        ``group`` keeps the order and ``identity`` the uniqueness where the topic is a FIFO one. Raises
        ``errors.AwsError`` and its kinds.
        """


class Throttle(Protocol):
    """How much goes out to each channel: a token bucket shared by all worker processes, criticals first."""

    def take(self, channel: str, limit: Limit, *, critical: bool, now: float) -> float:
        """Take a token: 0 where one may send now, else the seconds after which to ask again.

        The lower half of the bucket is for criticals only.
        """

    def window(self, group: str, *, created: float, wait: float, now: float) -> float:
        """Return when the group closes that a notification created then belongs to; it opens one where there is none.

        A notification belongs to the last window if that was not closed yet when it was created.
        """

    def pause(self, channel: str, seconds: float, now: float) -> None:
        """Let nothing out for that long, because the receiver asked for it."""


class Violations(Protocol):
    """The hook for a user's own code: called in the worker process for every transition that was written.

    Named by an entry point of the group ``workermon.violations``. What it raises is logged and stops nothing. It may
    be called again for a transition after a crash, and is never called twice for one within a process.
    """

    def violated(self, notification: Notification) -> None:
        """React to an alert that fires or resolves."""
