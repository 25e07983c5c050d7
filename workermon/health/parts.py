"""Does every part of the pipeline work: Redis, beat, worker processes, listener, schedule, queues, and each stage?"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence, Set

from workermon import models, ports
from workermon.health import canary, fleet_statistics, health_summary

#: Seconds. Work for evaluation or delivery that is due at once but waits this long waits for a dead part.
STUCK_AFTER = 60

#: Seconds. If no message of a queue was worked on for so long, nobody takes them. On an idle system the canary is the
#: only message of a minute.
UNTOUCHED_AFTER = models.CANARY_EVERY + 30

#: Seconds. A poll of an event queue takes 20 s if no message arrives.
MAX_QUEUE_AGE = 60


class Part(models.Frozen):
    """One part of the pipeline: whether it works, and why; ``age`` is that of its last sign of life in seconds."""

    name: str
    ok: bool
    reason: str
    age: float | None = None


class AccountStatus(models.Frozen):
    """The state of collection in an account and region: ``ok``, or the kind of its error with ``reason`` and ``since``.

    ``slowed`` is by operation the share of its full rate, 0 if AWS does not answer.
    """

    account: str
    region: str
    state: str
    reason: str | None = None
    since: str | None = None
    slowed: dict[str, float]


class CanaryStatus(models.Frozen):
    """The last canary that completed its round: how many seconds it took, and how many ago that was.

    ``stuck_after`` is the last step that canaries reach at present, ``None`` if they complete their round.
    """

    ok: bool
    round_trip: float | None
    age: float | None
    stuck_after: str | None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Pipeline:
    """The parts, and the figures that they were evaluated by, as in ``Status``."""

    parts: tuple[Part, ...]
    nodes: tuple[str, ...]
    backlog: int
    queues: dict[str, int]
    pending: int
    quarantined: dict[str, str]
    unreadable: dict[str, str]
    counts: dict[str, int]
    scopes: tuple[AccountStatus, ...]
    canary: CanaryStatus


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PartsCheck:
    """Reads the signs of life of every part."""

    samples: ports.Samples
    outbox: ports.Outbox
    schedule: ports.Schedule
    beat_status: ports.BeatStatus
    liveness: ports.Liveness
    nodes: ports.Nodes
    limiter: ports.Limiter
    accounts: ports.Accounts
    configurations: ports.Configurations
    trace: ports.Canary
    unreadable: ports.Unreadable
    now: ports.Clock

    def check(self, fleet: fleet_statistics.FleetStatistics, answering: Sequence[str], patience: float) -> Pipeline:
        """Check every part. The caller has read the fleet, and has asked for so long which nodes answer."""
        queues, beats = self.nodes.queues(len(answering)), self.liveness.beats()
        at = self.now()
        quarantined = self.schedule.quarantined()
        pending = self.samples.pending(at, 10_000, STUCK_AFTER)
        backlog = self.outbox.backlog()
        ticked, trace = self.beat_status.last_tick(), self.trace.trace()
        finding = canary.judge(self.beat_status.canaries(), trace, ticked=ticked, listens="canary" in beats, at=at)
        states, configuration = self.accounts.load(), self.configurations.load()
        unsearched = {
            key: state.last_error
            for key, state in sorted(states.items())
            if state.last_error and key not in fleet.oldest and configuration.covers(key)
        }
        unreadable = self.unreadable.load()
        parts = (
            Part(name="redis", ok=True, reason="answers"),
            _signed("beat", ticked, canary.MAX_BEAT_AGE, at),
            _nodes(answering, patience),
            _signed("listener", beats.get("listener"), health_summary.MAX_LISTENER_AGE, at),
            _schedule(fleet, self.schedule.ids(), quarantined),
            _collection(fleet, unsearched),
            _evaluation(pending),
            self._delivery(backlog, at),
            _queues(queues, beats, trace, at),
            Part(name="canary", ok=finding.ok, reason=finding.reason, age=finding.age),
            *_event_queues(configuration, beats, at),
            *_records(unreadable),
        )
        return Pipeline(
            parts=parts,
            nodes=tuple(answering),
            backlog=backlog,
            queues=queues,
            pending=len(pending),
            quarantined=quarantined,
            unreadable=unreadable,
            counts=self.liveness.counts(),
            scopes=_scopes({*fleet.scopes, *_without_parts(unsearched)}, states, self.limiter.slowed()),
            canary=CanaryStatus(
                ok=finding.ok,
                round_trip=finding.round_trip,
                age=finding.age,
                stuck_after=finding.stuck_after,
            ),
        )

    def _delivery(self, backlog: int, at: float) -> Part:
        late = [alert_id for alert_id in self.outbox.due(at, 2, STUCK_AFTER) if alert_id != models.CANARY]
        stuck = self.outbox.stuck(at - STUCK_AFTER)
        if stuck:
            worst = stuck[0]
            tried = models.plural(worst.attempts, "attempt")
            more = f" (and {len(stuck) - 1} more)" if len(stuck) > 1 else ""
            reason = f"channel {worst.channel} does not accept {worst.alert_id}{more} after {tried}: {worst.error}"
            return Part(name="delivery", ok=False, reason=reason)
        waits = "waits" if backlog == 1 else "wait"
        reason = f"{models.plural(backlog, 'notification')} {waits}" if backlog else "nothing waits"
        return Part(name="delivery", ok=not late, reason=reason)


def _event_queues(configuration: models.Configuration, beats: Mapping[str, float], at: float) -> Iterator[Part]:
    """Yield whether each event queue is read; nothing without event queues."""
    for name in configuration.event_queues:
        yield _signed(f"events {name}", beats.get(f"events:{name}"), MAX_QUEUE_AGE, at)


def _without_parts(keys: Iterable[str]) -> Iterator[str]:
    """Return those keys that no other key already covers."""
    return (key for key in keys if models.searched_of(key) is None)


def _scopes(
    keys: Collection[str], account_states: Mapping[str, models.AccountState], slowed: Mapping[tuple[str, str], float]
) -> tuple[AccountStatus, ...]:
    """Return the state of collection in each account and region with workers."""
    scopes = []
    for key in sorted(keys):
        state = account_states.get(key)
        last_error = state.last_error if state else None
        account, region = models.account_and_region(key)
        scopes.append(
            AccountStatus(
                account=account,
                region=region,
                state=last_error.kind if last_error else "ok" if state else "unknown",
                reason=last_error.message if last_error else None,
                since=models.rfc3339(state.failing_since) if state and state.failing_since is not None else None,
                slowed={api: share for (scope, api), share in sorted(slowed.items()) if scope == key},
            )
        )
    return tuple(scopes)


#: What each part does, and what to do if it does not work.
_SIGNS = {
    "beat": ("ticked", "start 'celery -A workermon beat'"),
    "events": ("read", "see 'workermon doctor' and the log of the listener"),
    "listener": ("listened", "start 'celery -A workermon worker'"),
}


def _signed(name: str, last: float | None, limit: float, at: float) -> Part:
    did, todo = _SIGNS[name.partition(" ")[0]]
    if last is None:
        return Part(name=name, ok=False, reason=f"never {did}: {todo}")
    if models.leads(last, at):
        reason = f"last {did} at a time {last - at:.0f} s ahead, when a clock was wrong, and not since: {todo}"
        return Part(name=name, ok=False, reason=reason)
    age = max(0.0, round(at - last, 1))
    ok = age <= limit
    return Part(name=name, ok=ok, reason=f"last {did} {age:g} s ago" + ("" if ok else f": {todo}"), age=age)


def _nodes(answering: Sequence[str], patience: float) -> Part:
    reason = f"{len(answering)} {'answers' if len(answering) == 1 else 'answer'}"
    if not answering:
        reason = f"none answers within {patience:g} s"
    return Part(name="worker processes", ok=bool(answering), reason=reason)


def _records(unreadable: Mapping[str, str]) -> tuple[Part, ...]:
    if not unreadable:
        return ()
    name, problem = next(iter(unreadable.items()))
    more = f" (and {len(unreadable) - 1} more)" if len(unreadable) > 1 else ""
    reason = f"{name} cannot be read{more}: {problem}; it is left out: correct or delete it"
    return (Part(name="records", ok=False, reason=reason),)


def _evaluation(pending: Sequence[str]) -> Part:
    waiting = models.plural(len(pending), "worker")
    reason = f"{waiting} waiting for more than {STUCK_AFTER} s" if pending else "nothing waits"
    return Part(name="evaluation", ok=not pending, reason=reason)


def _queues(queues: Mapping[str, int], beats: Mapping[str, float], trace: ports.Trace, at: float) -> Part:
    """Check each stage's queue: if none of its messages was worked on for long, nobody takes them.

    A canary counts as work; on an idle system it is the only message.
    """
    failures = []
    for stage, step in (("collect", "published"), ("evaluate", "evaluated"), ("deliver", "accepted")):
        reached = trace.reached.get(step)
        last = max([*filter(None, (beats.get(stage), reached and reached.at))], default=None)
        waiting = queues.get(f"workermon.{stage}", 0)
        if waiting and (last is None or at - last > UNTOUCHED_AFTER):
            since = "never" if last is None else f"{round(at - last)} s ago"
            failures.append(f"{models.plural(waiting, 'message')} for {stage}, which last worked {since}")
    if failures:
        todo = "start 'celery -A workermon worker', or see its log"
        return Part(name="queues", ok=False, reason=f"{'; '.join(failures)}: {todo}")
    waiting = sum(number for name, number in queues.items() if name != "unacked")
    reason = f"{models.plural(waiting, 'message')} waiting" if waiting else "nothing waits"
    return Part(name="queues", ok=True, reason=reason)


def _collection(fleet: fleet_statistics.FleetStatistics, unsearched: Mapping[str, models.CollectionError]) -> Part:
    """Check collection; ``unsearched`` has by account and region why ``[discover]`` cannot search there.

    Event queues have parts of their own.
    """
    lateness, watched = fleet.lateness, len(fleet.watched)
    if fleet.late:
        were = "was" if fleet.late == 1 else "were"
        workers = models.plural(fleet.late, "worker")
        reason = f"{workers} {were} not collected for three intervals, the worst is {lateness:g} s late"
        return Part(name="collection", ok=False, reason=reason, age=lateness)
    if fleet.an_error is not None and fleet.failing == watched:
        return Part(
            name="collection", ok=False, reason=f"fails for every worker: {fleet.an_error.message}", age=lateness
        )
    unsearched = {
        models.searched_of(key) or key: reason for key, reason in unsearched.items() if models.queue_of(key) is None
    }
    if unsearched:
        refused = ", ".join(f"{key} ({last_error.kind})" for key, last_error in unsearched.items())
        return Part(name="collection", ok=False, reason=f"[discover] cannot search in {refused}", age=lateness)
    reason = f"fails for {fleet.failing} of {watched} workers" if fleet.failing else "on time"
    return Part(name="collection", ok=True, reason=reason, age=lateness)


def _schedule(fleet: fleet_statistics.FleetStatistics, entries: Set[str], quarantined: Mapping[str, str]) -> Part:
    broken = {name for name in quarantined if name.rpartition(":")[2] in entries}  # others' are not ours
    missing, ghosts = fleet.watched - entries, entries - fleet.ids
    wrong = [
        f"{len(which)} {problem}"
        for which, problem in (
            (missing, "without an entry"),
            (ghosts, "with an entry but no worker"),
            (broken, "with an entry that cannot be read"),
        )
        if which
    ]
    entries_text = models.plural(len(fleet.watched), "entry", "entries")
    reason = f"{', '.join(wrong)}: run 'workermon reconcile'" if wrong else entries_text
    return Part(name="schedule", ok=not wrong, reason=reason)
