"""Is every part alive: Redis, beat, worker processes, listener, collection, evaluation, delivery, schedule."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence

from workermon import models, ports

#: Seconds. Beat looks each second, also when nothing is due; a standby takes over within 5.
BEAT = 15

#: Seconds. The listener marks itself each few seconds; another takes over within 5.
LISTENER = 15

#: Seconds. What waits that long for evaluation or delivery, though it may be done at once, waits for somebody dead.
STUCK = 60

#: Seconds beyond three intervals after which a collection that was not even tried is late.
GRACE = 30


_Fleet = Sequence[tuple[models.Worker, models.Condition]]


class Part(models.Frozen):
    """One part of the pipeline: alive or not, and what shows it; ``age`` of its last sign of life in seconds."""

    name: str
    ok: bool
    reason: str
    age: float | None = None


class Status(models.Frozen):
    """All parts, and figures: ``workers`` by monitoring and status, ``troubled`` by the kind of trouble."""

    ok: bool
    parts: tuple[Part, ...]
    workers: dict[str, int]
    troubled: dict[str, int]
    nodes: tuple[str, ...]
    backlog: int
    unjudged: int
    lateness: float
    quarantined: dict[str, str]
    alerts: int
    counts: dict[str, int]


def status(
    *,
    workers: ports.Workers,
    samples: ports.Samples,
    alerts: ports.Alerts,
    outbox: ports.Outbox,
    schedule: ports.Schedule,
    pulse: ports.Pulse,
    nodes: ports.Nodes,
    now: ports.Clock,
    patience: float = 1.0,
) -> Status:
    """Look at every part; an empty fleet is well. ``patience`` (seconds) is how long nodes may take to answer.

    Raises ``errors.RedisUnavailable`` where Redis itself does not answer: then nothing else can be known.
    """
    fleet = [(record.worker, record.condition) for record in workers.every()]
    answering = nodes.ping(patience)
    at = now()
    quarantined = schedule.quarantined()
    lateness = _lateness(fleet, at)
    unjudged = samples.unjudged(at - STUCK, 10_000)
    backlog = outbox.backlog()
    parts = (
        Part(name="redis", ok=True, reason="answers"),
        _signed("beat", schedule.last_tick(), BEAT, at, "looked for what is due", "start 'celery -A workermon beat'"),
        Part(
            name="worker processes",
            ok=bool(answering),
            reason=f"{len(answering)} answer" if answering else f"none answers within {patience:g} s",
        ),
        _signed(
            "listener", pulse.marks().get("listener"), LISTENER, at, "listened", "start 'celery -A workermon worker'"
        ),
        _schedule(fleet, schedule.ids(), quarantined),
        _collection(fleet, lateness, at),
        Part(
            name="evaluation",
            ok=not unjudged,
            reason=f"{len(unjudged)} workers wait for more than {STUCK} s" if unjudged else "keeps up",
        ),
        Part(
            name="delivery",
            ok=not outbox.due(at - STUCK, 1),
            reason=f"{backlog} notifications wait" if backlog else "nothing waits",
        ),
    )
    return Status(
        ok=all(part.ok for part in parts),
        parts=parts,
        workers=_figures(fleet),
        troubled=dict(sorted(Counter(each.trouble.kind for _, each in fleet if each.trouble is not None).items())),
        nodes=tuple(answering),
        backlog=backlog,
        unjudged=len(unjudged),
        lateness=lateness,
        quarantined=quarantined,
        alerts=len(alerts.open()),
        counts=pulse.counts(),
    )


def _signed(name: str, last: float | None, limit: float, at: float, did: str, todo: str) -> Part:
    if last is None:
        return Part(name=name, ok=False, reason=f"never {did}: {todo}")
    age = max(0.0, round(at - last, 1))
    ok = age <= limit
    return Part(name=name, ok=ok, reason=f"last {did} {age:g} s ago" + ("" if ok else f": {todo}"), age=age)


def _watched(fleet: _Fleet) -> list[tuple[models.Worker, models.Condition]]:
    """Return those that have to be collected: neither paused nor terminated."""
    return [each for each in fleet if each[0].monitoring == "active" and each[1].status not in models.GONE]


def _lateness(fleet: _Fleet, at: float) -> float:
    """Return by how many seconds the latest collection of an active worker is over its time, successful or not."""
    late = 0.0
    for worker, condition in _watched(fleet):
        tried = max(worker.added_at, condition.collected_at or 0, condition.trouble.at if condition.trouble else 0)
        late = max(late, at - tried - worker.interval)
    return round(late, 1)


def _collection(fleet: _Fleet, lateness: float, at: float) -> Part:
    watched = _watched(fleet)
    late = [each for each in watched if _lateness([each], at) > 2 * each[0].interval + GRACE]
    active = [condition for _, condition in watched]
    failing = [condition.trouble for condition in active if condition.trouble is not None]
    if late:
        reason = f"{len(late)} workers were not collected for three intervals, the worst is {lateness:g} s late"
        return Part(name="collection", ok=False, reason=reason, age=lateness)
    if active and len(failing) == len(active):
        return Part(name="collection", ok=False, reason=f"fails for every worker: {failing[0].message}", age=lateness)
    reason = f"fails for {len(failing)} of {len(active)} workers" if failing else "is in time"
    return Part(name="collection", ok=True, reason=reason, age=lateness)


def _schedule(fleet: _Fleet, entries: Collection[str], quarantined: dict[str, str]) -> Part:
    active = {worker.id for worker, _ in _watched(fleet)}
    broken = {name for name in quarantined if name.rpartition(":")[2] in entries}  # others' are not ours to judge
    missing, ghosts = active - set(entries), set(entries) - {worker.id for worker, _ in fleet}
    wrong = [
        f"{len(which)} {what}"
        for which, what in (
            (missing, "without an entry"),
            (ghosts, "entries without a worker"),
            (broken, "entries that cannot be read"),
        )
        if which
    ]
    reason = f"{', '.join(wrong)}: run 'workermon reconcile'" if wrong else f"{len(active)} entries"
    return Part(name="schedule", ok=not wrong, reason=reason)


def _figures(fleet: _Fleet) -> dict[str, int]:
    found = Counter(worker.monitoring for worker, _ in fleet)
    states = Counter(condition.status for _, condition in fleet)
    return {"all": len(fleet), **dict(sorted(found.items())), **dict(sorted(states.items()))}
