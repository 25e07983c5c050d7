"""The fleet: workers added, paused, resumed, removed, discovered; repository, schedule and EC2 kept in step.

Everything is verified before the first write. What a crash leaves half done between repository and schedule is found
and repaired by ``reconcile``; every call may be repeated.
"""

from __future__ import annotations

import collections
import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

from workermon import config, errors, failpoints, logs, models, ports
from workermon.alerts import lifecycle
from workermon.evaluate import account as collector
from workermon.rules import state

log = logs.get(__name__)

#: Races that a removal may lose against evaluations of the same worker before it says so; each takes milliseconds.
RETIRE_TRIES = 50

#: Races that an applied file may lose against others before it says so.
APPLY_TRIES = 50

#: Workers that may leave in the one step in which a file is applied, for each takes about 0.1 ms of Redis' time; others
#: leave one by one after it.
LEAVING = 1000

#: Seconds. EC2 may not know an instance for a moment after its launch, so a young worker is not taken for gone.
YOUNG = 300

#: Characters of a name that comes from a tag (EC2 allows 256; control characters grow when they are escaped).
LONGEST_NAME = 256


class Step(NamedTuple):
    """Something that ``reconcile`` repairs, and why."""

    action: Literal["schedule", "unschedule", "refresh", "retire", "add", "remove"]
    worker_id: str
    reason: str


class Reconciled(NamedTuple):
    """What was (or would be) repaired; ``failed`` holds, by scope, why EC2 could not be asked."""

    steps: tuple[Step, ...]
    failed: dict[str, errors.AwsError]


class Discovered(NamedTuple):
    """What carries the tags: those that were (or would be) added, and those that were monitored already."""

    added: tuple[models.Worker, ...]
    known: tuple[str, ...]


class Applied(NamedTuple):
    """What a config file changed; ``skipped`` are workers of the file that EC2 does not have."""

    revision: int
    changed: tuple[str, ...]
    added: tuple[str, ...]
    updated: tuple[str, ...]
    removed: tuple[str, ...]
    skipped: tuple[str, ...]


class Planned(NamedTuple):
    """What a config file would change: the configuration ``before`` and ``after``, and what becomes of the fleet.

    ``fleet`` is as it stands; ``skipped`` are workers of the file that EC2 does not have.
    """

    before: models.Configuration
    after: models.Configuration
    fleet: tuple[ports.Record, ...]
    added: tuple[models.Worker, ...]
    updated: tuple[models.Worker, ...]
    removed: tuple[str, ...]
    skipped: tuple[str, ...]


class ApplyOptions(NamedTuple):
    """How a config file is to be taken.

    ``interval`` (seconds) and ``region`` are for workers that name none; ``least`` is the least interval allowed.
    ``verify`` asks EC2 for new workers and for what ``[discover]`` finds (else ``reconcile`` brings that later);
    ``missing`` says what becomes of workers that EC2 does not have.
    """

    region: str | None
    interval: int = 60
    least: int = 10
    verify: bool = True
    missing: Literal["refuse", "skip"] = "refuse"


class DesiredWorker(NamedTuple):
    """A worker as somebody wants it, before EC2 was asked."""

    id: str
    scope: models.AccountRegion
    name: str | None
    interval: int
    labels: Mapping[str, str]
    origin: models.Origin


# --- who is meant ------------------------------------------------------------------------------------------------


def resolve(names: Sequence[str], *, workers: ports.Workers) -> list[ports.Record]:
    """Return the workers of these instance ids or names, each once, in order.

    Raises ``errors.UnknownWorker`` naming all that are not monitored, ``errors.InvalidInput`` for a name that several
    workers share.
    """
    found, unknown = _look_up(names, workers)
    if unknown:
        raise _unknown(unknown, workers)
    return found


def _look_up(names: Sequence[str], workers: ports.Workers) -> tuple[list[ports.Record], list[str]]:
    wanted = list(dict.fromkeys(names))
    by_id = workers.get([name for name in wanted if models.INSTANCE_ID.fullmatch(name)])
    others = {name for name in wanted if name not in by_id}
    by_name: dict[str, list[ports.Record]] = {}
    if others:
        for record in workers.every():
            if record.worker.name in others:
                by_name.setdefault(record.worker.name, []).append(record)
    found: dict[str, ports.Record] = {}
    unknown = []
    for name in wanted:
        matches = [by_id[name]] if name in by_id else by_name.get(name, [])
        if len(matches) > 1:
            ids = ", ".join(record.worker.id for record in matches)
            raise errors.InvalidInput(f"worker {name}", f"is the name of {len(matches)} workers", f"use an id: {ids}")
        if matches:
            found.setdefault(matches[0].worker.id, matches[0])
        else:
            unknown.append(name)
    return list(found.values()), unknown


def _unknown(names: Sequence[str], workers: ports.Workers) -> errors.UnknownWorker:
    plural = f"workers {', '.join(names)}" if len(names) > 1 else f"worker {names[0]}"
    hint = errors.nearest(names[0], (record.worker.name for record in workers.every()))
    todo = hint if hint.startswith("did you mean") else "see 'workermon list'"
    return errors.UnknownWorker(plural, "not monitored", todo)


# --- adding ------------------------------------------------------------------------------------------------------


def add(
    instance_ids: Sequence[str],
    *,
    scope: models.AccountRegion,
    name: str | None = None,
    interval: int = 60,
    labels: Mapping[str, str] | None = None,
    verify: bool = True,
    origin: models.Origin = "command",
    workers: ports.Workers,
    schedule: ports.Schedule,
    ec2: ports.Ec2,
    now: ports.Clock,
) -> tuple[models.Worker, ...]:
    """Monitor instances: all of them or none. ``interval`` in seconds; ``verify`` asks EC2 first.

    The name is the instance's ``Name`` tag where none is given, else its id. Raises ``errors.InvalidInput`` for what
    is monitored already or a name that is taken, ``errors.NotFound`` naming every instance that EC2 does not have.
    """
    if name is not None and len(instance_ids) > 1:
        raise errors.InvalidInput("--name", f"names one worker, not {len(instance_ids)}", "add them one by one")
    for instance_id in instance_ids:
        if not models.INSTANCE_ID.fullmatch(instance_id):
            why = "is no instance id"
            raise errors.InvalidInput(instance_id[:64], why, "write it as i-0abc123def4567890")
    if repeated := [each for each, number in collections.Counter(instance_ids).items() if number > 1]:
        raise errors.InvalidInput(", ".join(repeated), "given more than once", "name each instance once")
    if known := workers.get(instance_ids):
        raise _monitored(known)
    wishes = [DesiredWorker(each, scope, name, interval, labels or {}, origin) for each in instance_ids]
    _names_are_free(wishes, workers)
    instances = _verified(wishes, ec2) if verify else {}
    made = tuple(_worker(wish, instances.get(wish.id), now()) for wish in wishes)
    _bring(made, workers, schedule, now)
    for worker in made:
        log.info("worker.added", worker_id=worker.id, region=worker.region, origin=origin)
    return made


def _bring(made: Sequence[models.Worker], workers: ports.Workers, schedule: ports.Schedule, now: ports.Clock) -> None:
    """Put workers into the repository, then into the schedule."""
    if not made:
        return
    workers.add(made)
    failpoints.reach("add.stored")
    _schedule(made, workers, schedule, now)
    failpoints.reach("add.scheduled")


def _monitored(known: Collection[str]) -> errors.InvalidInput:
    verb = "is" if len(known) == 1 else "are"
    return errors.InvalidInput(", ".join(known), f"{verb} monitored already", "see 'workermon show', or remove first")


def _names_are_free(wishes: Iterable[DesiredWorker], workers: ports.Workers) -> None:
    wanted = {wish.name: wish.id for wish in wishes if wish.name is not None}
    if not wanted:
        return
    for name, worker_id in wanted.items():
        if models.INSTANCE_ID.fullmatch(name) and name != worker_id:
            raise errors.InvalidInput(f"name {name}", "is the id of another instance", "choose another")
    for record in workers.every():
        owner = wanted.get(record.worker.name)
        if owner is not None and owner != record.worker.id:
            raise errors.InvalidInput(
                f"name {record.worker.name}", f"is the name of {record.worker.id} already", "choose another"
            )


def _verified(wishes: Iterable[DesiredWorker], ec2: ports.Ec2) -> dict[str, models.Instance]:
    """Ask EC2 for all of them; raises ``errors.NotFound`` naming each that it does not have (any more)."""
    found, missing = _ask(wishes, ec2)
    if missing:
        raise _absent(missing)
    return found


def _absent(missing: Mapping[str, str]) -> errors.NotFound:
    return errors.NotFound(
        f"{'instances' if len(missing) > 1 else 'instance'} {', '.join(missing)}",
        ", ".join(dict.fromkeys(missing.values())),
        "check id, region and account; nothing was added",
    )


def _ask(wishes: Iterable[DesiredWorker], ec2: ports.Ec2) -> tuple[dict[str, models.Instance], dict[str, str]]:
    """Return what EC2 has of them, and of the others why not."""
    accounts: dict[models.AccountRegion, list[str]] = {}
    for wish in wishes:
        accounts.setdefault(wish.scope, []).append(wish.id)
    found: dict[str, models.Instance] = {}
    missing: dict[str, str] = {}
    for scope, ids in accounts.items():
        answer = ec2.describe(scope, ids)
        for each in ids:
            instance = answer.get(each)
            if instance is None:
                missing[each] = f"unknown to EC2 in {scope.region}"
            elif instance.status in models.GONE:
                missing[each] = f"{instance.status} in {scope.region}"
            else:
                found[each] = instance
    return found, missing


def _worker(wish: DesiredWorker, instance: models.Instance | None, at: float) -> models.Worker:
    return models.Worker(
        id=wish.id,
        name=wish.name or _tag_name(instance) or wish.id,
        named=wish.name is not None,
        region=wish.scope.region,
        account=wish.scope.account,
        role_arn=wish.scope.role_arn,
        external_id=wish.scope.external_id,
        interval=wish.interval,
        labels=dict(wish.labels),
        origin=wish.origin,
        added_at=at,
        incarnation=uuid.uuid4().hex,
        detailed=instance is not None and instance.detailed,
    )


def _tag_name(instance: models.Instance | None) -> str:
    if instance is None or not instance.name:
        return ""
    return errors.printable(instance.name).strip()[:LONGEST_NAME].strip()


def _schedule(
    made: Sequence[models.Worker], workers: ports.Workers, schedule: ports.Schedule, now: ports.Clock
) -> None:
    """Put entries, and take those back whose worker was removed or paused in the meantime."""
    if not made:
        return
    schedule.put(made, now())
    there = workers.get([worker.id for worker in made])
    gone = [each.id for each in made if each.id not in there or there[each.id].worker.monitoring == "paused"]
    if gone:
        schedule.delete(gone)


# --- pausing, resuming, removing ---------------------------------------------------------------------------------


def pause(
    names: Sequence[str],
    *,
    workers: ports.Workers,
    schedule: ports.Schedule,
    samples: ports.Samples,
    now: ports.Clock,
) -> tuple[models.Worker, ...]:
    """Stop collecting workers for a while; datapoints stay, open alerts resolve with the reason at the next sweep.

    One that is paused stays so.
    """
    found = tuple(
        record.worker.model_copy(update={"monitoring": "paused"}) for record in resolve(names, workers=workers)
    )
    for worker in found:
        workers.update(worker)
        failpoints.reach("pause.stored")
        log.info("worker.paused", worker_id=worker.id)
    # Before the entry goes: where we end here, that is what a reconciliation finds.
    samples.mark_pending([worker.id for worker in found], now())
    failpoints.reach("pause.marked")
    schedule.delete([worker.id for worker in found])
    failpoints.reach("pause.unscheduled")
    return found


def resume(
    names: Sequence[str],
    *,
    workers: ports.Workers,
    schedule: ports.Schedule,
    samples: ports.Samples,
    now: ports.Clock,
) -> tuple[models.Worker, ...]:
    """Collect workers again. One that is not paused has its entry all the same, with the cadence that it had."""
    found = tuple(
        record.worker.model_copy(update={"monitoring": "active"}) for record in resolve(names, workers=workers)
    )
    for worker in found:
        workers.update(worker)
        failpoints.reach("resume.stored")
        log.info("worker.resumed", worker_id=worker.id)
    _schedule(found, workers, schedule, now)
    failpoints.reach("resume.scheduled")
    samples.mark_pending([worker.id for worker in found], now())
    failpoints.reach("resume.marked")
    return found


def remove(
    names: Sequence[str],
    *,
    workers: ports.Workers,
    schedule: ports.Schedule,
    alerts: ports.Alerts,
    configurations: ports.Configurations,
    now: ports.Clock,
    silences: ports.Silences | None = None,
) -> tuple[tuple[models.Worker, ...], tuple[str, ...]]:
    """Forget workers: entry, datapoints and state go, open alerts resolve with the reason.

    Their silences go too. Returns those that were removed, and the instance ids that were not monitored: removing is
    idempotent. A *name* that nobody has is ``errors.UnknownWorker``, and then nothing is removed.
    """
    found, unknown = _look_up(names, workers)
    strangers = [name for name in unknown if not models.INSTANCE_ID.fullmatch(name)]
    if strangers:
        raise _unknown(strangers, workers)
    for record in found:
        retire(record.worker.id, "removed", schedule=schedule, alerts=alerts, configurations=configurations, now=now)
        log.info("worker.removed", worker_id=record.worker.id)
    if silences is not None:
        gone = {record.worker.id for record in found}
        silences.remove([one.id for one in silences.every() if one.worker_id in gone])
    schedule.delete(unknown)  # an entry without a worker would be a ghost
    return tuple(record.worker for record in found), tuple(unknown)


def retire(
    worker_id: str,
    reason: str,
    *,
    schedule: ports.Schedule,
    alerts: ports.Alerts,
    configurations: ports.Configurations,
    now: ports.Clock,
) -> None:
    """Resolve a worker's open alerts with a reason and delete all of it, whatever task is running meanwhile."""
    schedule.delete([worker_id])
    failpoints.reach("remove.unscheduled")
    for _ in range(RETIRE_TRIES):
        basis = alerts.load([worker_id]).get(worker_id)
        if basis is None or alerts.retire(lifecycle.closing(basis, configurations.load(), reason, now())):
            break
    else:
        raise errors.WorkermonError(
            f"worker {worker_id}", f"its alerts changed {RETIRE_TRIES} times meanwhile", "try again"
        )
    failpoints.reach("remove.retired")
    schedule.delete([worker_id])  # a resume or a reconciliation may have put it back


# --- discovery ---------------------------------------------------------------------------------------------------


def leave(
    *, workers: ports.Workers, accounts: ports.Accounts, configurations: ports.Configurations, now: ports.Clock
) -> tuple[str, ...]:
    """Resolve the alerts about accounts and regions where no worker is collected any more; return their keys.

    What is known of the trouble there is forgotten. Where a worker is, the next collection says how it goes.
    """
    unwell = [
        basis
        for basis in accounts.load().values()
        if basis.state.key != models.EVERYWHERE
        and (basis.state.failing_since is not None or any(alert.open for alert in basis.alerts.values()))
    ]
    if not unwell:
        return ()
    collected = {
        record.worker.scope.key
        for record in workers.every()
        if record.worker.monitoring == "active" and record.condition.status not in models.GONE
    }
    left = []
    for basis in unwell:
        key = basis.state.key
        if key in collected:
            continue
        verdict = collector.closing(basis, configurations.load(), "no worker is collected there any more", now())
        # Who comes between has judged it anew, and leaves it to the next reconciliation.
        done = accounts.forget(key, basis.version) if verdict is None else accounts.retire(verdict)
        failpoints.reach("scope.closed")
        if done:
            log.info("scope.left", scope=key)
            left.append(key)
    return tuple(left)


def forsaken(*, alerts: ports.Alerts, configurations: ports.Configurations) -> list[str]:
    """Return the alerts about the delivery to channels that the configuration does not have any more."""
    channels = configurations.load().channels
    keys = [alert.last.dedup_key for alert in alerts.open() if alert.last is not None and alert.last.worker is None]
    return [key for key in keys if models.is_delivery_alert(key) and models.channel_of(key) not in channels]


def discover(
    tags: Mapping[str, str],
    *,
    accounts: Sequence[models.AccountRegion],
    interval: int = 60,
    labels: Mapping[str, str] | None = None,
    origin: models.Origin = "command",
    dry_run: bool = False,
    workers: ports.Workers,
    schedule: ports.Schedule,
    ec2: ports.Ec2,
    now: ports.Clock,
) -> Discovered:
    """Add every instance that carries all these tags and is not monitored yet; ``dry_run`` only tells."""
    found: dict[str, tuple[models.AccountRegion, models.Instance]] = {}
    for scope in accounts:
        found.update({instance.id: (scope, instance) for instance in ec2.find(scope, tags)})
    known = workers.get(list(found))
    made = tuple(
        _worker(DesiredWorker(each, scope, None, interval, labels or {}, origin), instance, now())
        for each, (scope, instance) in sorted(found.items())
        if each not in known
    )
    if not dry_run and made:
        _bring(made, workers, schedule, now)
        log.info("workers.discovered", number=len(made), origin=origin)
    return Discovered(made, tuple(sorted(known)))


def _discovery_scopes(
    wanted: models.Discover, configuration: models.Configuration, region: str | None, secrets: ports.Secrets
) -> list[models.AccountRegion]:
    regions = wanted.regions or ((region,) if region else ())
    if not regions:
        raise errors.InvalidInput("discover.regions", "no region is given or configured", "write it, or set AWS_REGION")
    return [_scope(each, wanted.account, configuration, secrets) for each in regions]


def _scope(
    region: str, account: str | None, configuration: models.Configuration, secrets: ports.Secrets
) -> models.AccountRegion:
    if account is None or account == "default":
        return models.AccountRegion(region=region)
    how = configuration.accounts[account]
    return models.AccountRegion(
        region=region,
        account=account,
        role_arn=how.role_arn,
        external_id=None if how.external_id is None else secrets(how.external_id),
    )


# --- reconciliation ----------------------------------------------------------------------------------------------


def reconcile(
    *,
    workers: ports.Workers,
    schedule: ports.Schedule,
    ec2: ports.Ec2,
    alerts: ports.Alerts,
    samples: ports.Samples,
    configurations: ports.Configurations,
    secrets: ports.Secrets,
    now: ports.Clock,
    interval: int = 60,
    region: str | None = None,
    dry_run: bool = False,
) -> Reconciled:
    """Repair what repository, schedule and EC2 disagree about; ``dry_run`` only tells.

    ``interval`` (seconds) and ``region`` are for what ``[discover]`` brings without saying. EC2 out of reach stops
    nothing: the schedule is repaired all the same, and ``failed`` says for which scope and why.
    """
    entries = schedule.ids()
    # Entries are set aside by their name, which ends with the id; others' entries are none of our business.
    broken = {name.rpartition(":")[2]: why for name, why in schedule.quarantined().items()}
    broken = {each: why for each, why in broken.items() if each in entries}
    fleet = {record.worker.id: record for record in workers.every()}
    steps = _schedule_steps(fleet, entries, broken)
    failed: dict[str, errors.AwsError] = {}
    fresh, more = _ec2_steps(fleet, ec2, now(), failed)
    steps += more
    configuration = configurations.load()
    brought, more = _discovery_steps(fleet, configuration, interval, region, ec2, secrets, now(), failed)
    steps += more
    gone = [step.worker_id for step in steps if step.action == "retire"]
    waiting = _untold(gone, configuration, alerts)
    steps = [step for step in steps if step.worker_id not in waiting or step.action not in ("retire", "remove")]
    retired = {step.worker_id for step in steps if step.action in ("retire", "remove")}
    steps = [step for step in steps if step.worker_id not in retired or step.action in ("retire", "remove")]
    steps = list({(step.action, step.worker_id): step for step in steps}.values())
    if dry_run:
        return Reconciled(tuple(steps), failed)

    for worker in fresh:
        if worker.id not in retired:
            workers.update(worker)
    for step in steps:
        if step.action in ("retire", "remove"):
            retire(
                step.worker_id, step.reason, schedule=schedule, alerts=alerts, configurations=configurations, now=now
            )
    unscheduled = [step.worker_id for step in steps if step.action == "unschedule"]
    # Somebody who is paused by halves may have an alert that is not resolved yet.
    samples.mark_pending([each for each in unscheduled if each in fleet], now())
    schedule.delete(unscheduled)
    wanted = {step.worker_id for step in steps if step.action == "schedule"}
    current = {worker.id: worker for worker in fresh}
    _schedule([current.get(each, fleet[each].worker) for each in sorted(wanted)], workers, schedule, now)
    _bring(brought, workers, schedule, now)
    for step in steps:
        log.info("fleet.reconciled", action=step.action, worker_id=step.worker_id, reason=step.reason)
    return Reconciled(tuple(steps), failed)


def _untold(worker_ids: Sequence[str], configuration: models.Configuration, alerts: ports.Alerts) -> set[str]:
    """Return who of those that EC2 has terminated must stay until that was collected, judged and told.

    Their own collections see it within an interval. Whoever is retired before takes with him what is to be told.
    """
    if not worker_ids or not any(rule.kind == state.KIND for rule in configuration.rules):
        return set()
    return {
        each
        for each, basis in alerts.load(worker_ids).items()
        if state.untold(configuration.rules, basis.record.worker, basis.record.condition, basis.alerts)
    }


def _schedule_steps(
    fleet: Mapping[str, ports.Record], entries: Collection[str], broken: Mapping[str, str]
) -> list[Step]:
    steps = []
    for worker_id, record in fleet.items():
        paused = record.worker.monitoring == "paused"
        if record.condition.status in models.GONE:
            continue  # its collection has taken the entry away, or will
        if paused and worker_id in entries:
            steps.append(Step("unschedule", worker_id, "paused, but it had an entry"))
        elif not paused and worker_id in broken:
            steps.append(Step("schedule", worker_id, f"its entry could not be read: {broken[worker_id]}"))
        elif not paused and worker_id not in entries:
            steps.append(Step("schedule", worker_id, "it had no entry"))
    ghosts = sorted({*entries, *broken} - set(fleet))
    return steps + [Step("unschedule", ghost, "an entry without a worker") for ghost in ghosts]


def _ec2_steps(
    fleet: Mapping[str, ports.Record], ec2: ports.Ec2, at: float, failed: dict[str, errors.AwsError]
) -> tuple[list[models.Worker], list[Step]]:
    """Compare with EC2; return workers whose name or monitoring detail is new, and the steps."""
    accounts: dict[models.AccountRegion, list[models.Worker]] = {}
    for record in fleet.values():
        accounts.setdefault(record.worker.scope, []).append(record.worker)
    fresh: list[models.Worker] = []
    steps: list[Step] = []
    for scope, members in accounts.items():
        try:
            known = ec2.describe(scope, [worker.id for worker in members])
            absent = [worker.id for worker in members if worker.id not in known and at - worker.added_at > YOUNG]
            confirmed = ec2.statuses(scope, absent) if absent else {}
        except errors.AwsError as why:
            failed[scope.key] = why
            continue
        gone = [each for each in absent if each not in confirmed]
        living = [each for each in gone if fleet[each].condition.status not in models.GONE]
        if not known and not confirmed and len(living) > 1:
            # As in a collection: rather we look into another account than that all of them went at once.
            failed[scope.key] = errors.AwsDenied(
                f"EC2 in {scope.region}",
                "it knows none of the workers there, as it would with credentials of another account",
                "check the credentials, role and region; their collections tell when they count as terminated",
            )
            gone = [each for each in gone if each not in living]
        steps += [Step("retire", each, "unknown to EC2") for each in gone]
        for worker in members:
            instance = known.get(worker.id)
            if instance is None:
                continue
            if instance.status in models.GONE:
                steps.append(Step("retire", worker.id, "terminated"))
                continue
            name = worker.name if worker.named else _tag_name(instance) or worker.id
            if (name, instance.detailed) != (worker.name, worker.detailed):
                fresh.append(worker.model_copy(update={"name": name, "detailed": instance.detailed}))
                steps.append(Step("refresh", worker.id, "its name or monitoring detail changed in EC2"))
    return fresh, steps


def _discovery_steps(
    fleet: Mapping[str, ports.Record],
    configuration: models.Configuration,
    interval: int,
    region: str | None,
    ec2: ports.Ec2,
    secrets: ports.Secrets,
    at: float,
    failed: dict[str, errors.AwsError],
) -> tuple[list[models.Worker], list[Step]]:
    """Keep the fleet in step with ``[discover]``: return what it brings, and the steps."""
    ours = {each: record.worker for each, record in fleet.items() if record.worker.origin == "discover"}
    wanted = configuration.discover
    if wanted is None:
        return [], [Step("remove", each, "no [discover] any more") for each in ours]
    made: list[models.Worker] = []
    seen: set[str] = set()
    unasked: set[str] = set()
    for scope in _discovery_scopes(wanted, configuration, region, secrets):
        try:
            instances = ec2.find(scope, wanted.tags)
        except errors.AwsError as why:
            failed[scope.key] = why
            unasked.add(scope.key)
            continue
        seen.update(instance.id for instance in instances)
        made += [
            _worker(
                DesiredWorker(each.id, scope, None, wanted.interval or interval, wanted.labels, "discover"), each, at
            )
            for each in sorted(instances, key=lambda instance: instance.id)
            if each.id not in fleet
        ]
    steps = [Step("add", worker.id, "it carries the tags of [discover]") for worker in made]
    steps += [
        Step("remove", each, "no longer carries the tags of [discover]")
        for each, worker in ours.items()
        if each not in seen and worker.scope.key not in unasked
    ]
    return made, steps


# --- applying a file ---------------------------------------------------------------------------------------------


def planned(
    file: config.File,
    terms: ApplyOptions,
    *,
    workers: ports.Workers,
    ec2: ports.Ec2,
    configurations: ports.Configurations,
    secrets: ports.Secrets,
    now: ports.Clock,
) -> Planned:
    """Return what ``apply`` would do with the same arguments; raises what it would, and writes nothing."""
    before = configurations.load()
    after = config.to_configuration(file, before)
    records = {record.worker.id: record for record in workers.every()}
    fleet = {each: record.worker for each, record in records.items()}
    wishes = _wishes(file, after, terms, secrets)
    _names_are_free(wishes, workers)
    new = [wish for wish in wishes if wish.id not in fleet]
    found, absent = _ask(new, ec2) if terms.verify else ({}, {})
    if absent and terms.missing == "refuse":
        raise _absent(absent)
    at = now()
    added = [_worker(wish, found.get(wish.id), at) for wish in new if wish.id not in absent]
    updated = [one for wish in wishes if wish.id in fleet and (one := _updated(fleet[wish.id], wish)) is not None]
    kept = {wish.id for wish in wishes}
    leaving = [each.id for each in fleet.values() if each.origin == "file" and each.id not in kept]
    removed = [] if file.workers is None else leaving
    if file.discover is not None and terms.verify:
        others = {each: record for each, record in records.items() if each not in kept}
        brought, gone = _discovered(others, after, terms, ec2, secrets, at)
        added += [worker for worker in brought if worker.id not in kept]
        removed += gone
    return Planned(
        before=before,
        after=after,
        fleet=tuple(records.values()),
        added=tuple(added),
        updated=tuple(updated),
        removed=tuple(dict.fromkeys(removed)),
        skipped=tuple(absent),
    )


def apply(
    file: config.File,
    terms: ApplyOptions,
    *,
    workers: ports.Workers,
    schedule: ports.Schedule,
    ec2: ports.Ec2,
    alerts: ports.Alerts,
    configurations: ports.Configurations,
    setup: ports.Setup,
    accounts: ports.Accounts,
    dispatcher: ports.Dispatcher,
    secrets: ports.Secrets,
    now: ports.Clock,
) -> Applied:
    """Make fleet, rules and channels what a file says, in one step; all of it is checked before.

    Where another file is applied at the same time one comes after the other, and is compared anew with what that made.
    The schedule follows; what a crash leaves undone of it, ``reconcile`` or the same file again completes. Raises
    ``errors.InvalidInput``, ``errors.NotFound``, and what EC2 raises, all before anything is written.
    """
    for _ in range(APPLY_TRIES):
        mark = setup.mark()
        plan = planned(file, terms, workers=workers, ec2=ec2, configurations=configurations, secrets=secrets, now=now)
        failpoints.reach("apply.planned")
        # What is so already is not written: who has something to change would lose every race against it.
        if not (plan.added or plan.updated or plan.removed or _changed(plan)):
            break
        if setup.put(_change(plan, mark, alerts.load(plan.removed[:LEAVING]), now())):
            break
    else:
        raise errors.WorkermonError(file.source, f"the set-up changed {APPLY_TRIES} times meanwhile", "try again")
    failpoints.reach("apply.written")
    _follow(plan, workers, schedule, now)
    for each in plan.removed[LEAVING:]:
        retire(each, "removed", schedule=schedule, alerts=alerts, configurations=configurations, now=now)
    if plan.removed:
        leave(workers=workers, accounts=accounts, configurations=configurations, now=now)
    changed = _changed(plan)
    if changed:
        _wake(workers.ids(), forsaken(alerts=alerts, configurations=configurations), dispatcher)
    revision = plan.after.revision if changed else plan.before.revision
    log.info("config.applied", source=file.source, revision=revision, changed=list(changed), added=len(plan.added))
    return Applied(
        revision=revision,
        changed=changed,
        added=tuple(worker.id for worker in plan.added),
        updated=tuple(worker.id for worker in plan.updated),
        removed=plan.removed,
        skipped=plan.skipped,
    )


def _changed(plan: Planned) -> tuple[str, ...]:
    """Name what of the configuration is another."""
    return tuple(
        name
        for name in models.Configuration.model_fields
        if name != "revision" and getattr(plan.after, name) != getattr(plan.before, name)
    )


def _change(plan: Planned, mark: str, leaving: Mapping[str, ports.Basis], at: float) -> ports.Change:
    after = plan.after if _changed(plan) else None
    return ports.Change(
        mark=mark,
        fleet={record.worker.id: record.worker for record in plan.fleet},
        added=plan.added,
        updated=plan.updated,
        leaving=[lifecycle.closing(basis, plan.before, "removed", at) for basis in leaving.values()],
        configuration=after,
        at=at,
    )


def _follow(plan: Planned, workers: ports.Workers, schedule: ports.Schedule, now: ports.Clock) -> None:
    """Have the schedule say what the set-up says, also where an earlier file was not completed."""
    entries, gone = schedule.ids(), set(plan.removed)
    changed = {worker.id: worker for worker in (*plan.added, *plan.updated)}
    lacking = {
        record.worker.id: record.worker
        for record in plan.fleet
        if record.worker.id not in entries | gone and record.condition.status not in models.GONE
    }
    wanted = [worker for worker in {**lacking, **changed}.values() if worker.monitoring == "active"]
    _schedule(wanted, workers, schedule, now)
    failpoints.reach("apply.scheduled")
    if gone:
        schedule.delete(sorted(gone))
        failpoints.reach("apply.unscheduled")


def _wake(worker_ids: Sequence[str], alert_ids: Sequence[str], dispatcher: ports.Dispatcher) -> None:
    """Have what a new set-up means judged at once; a sweep or ``reconcile`` finds what nobody was woken for."""
    try:
        dispatcher.evaluate(worker_ids)
        dispatcher.deliver(alert_ids)
    except errors.RedisUnavailable as why:
        log.warning("config.not_announced", reason=str(why))


def _discovered(
    fleet: Mapping[str, ports.Record],
    planned: models.Configuration,
    terms: ApplyOptions,
    ec2: ports.Ec2,
    secrets: ports.Secrets,
    at: float,
) -> tuple[list[models.Worker], list[str]]:
    failed: dict[str, errors.AwsError] = {}
    brought, steps = _discovery_steps(fleet, planned, terms.interval, terms.region, ec2, secrets, at, failed)
    for why in failed.values():
        raise why
    gone = [step.worker_id for step in steps if step.action == "remove"]
    wanted = [each for each in gone if _may_be_untold(fleet[each], planned)]
    living = _living([fleet[each].worker for each in wanted], ec2)
    # Who is terminated is left to reconcile, which waits until that was told.
    return brought, [each for each in gone if each not in wanted or each in living]


def _may_be_untold(record: ports.Record, configuration: models.Configuration) -> bool:
    return state.untold(configuration.rules, record.worker, record.condition, {})


def _living(workers: Sequence[models.Worker], ec2: ports.Ec2) -> set[str]:
    """Return which of them EC2 knows as not terminated."""
    accounts: dict[models.AccountRegion, list[str]] = {}
    for worker in workers:
        accounts.setdefault(worker.scope, []).append(worker.id)
    found = (instance for scope, ids in accounts.items() for instance in ec2.describe(scope, ids).values())
    return {instance.id for instance in found if instance.status not in models.GONE}


def _wishes(
    file: config.File, planned: models.Configuration, terms: ApplyOptions, secrets: ports.Secrets
) -> list[DesiredWorker]:
    wishes = []
    for place, section in enumerate(file.workers or ()):
        path = f"workers[{place}]"
        where = section.region or terms.region
        if where is None:
            why = "is missing, and none is configured"
            raise errors.InvalidInput(file.where(f"{path}.region"), why, "add it, or set AWS_REGION")
        every = _long_enough(file, path, section.interval or terms.interval, terms.least)
        scope = _scope(where, section.account, planned, secrets)
        wishes.append(DesiredWorker(section.id, scope, section.name, every, section.labels, "file"))
    if file.discover is not None and planned.discover is not None:
        _long_enough(file, "discover", planned.discover.interval or terms.interval, terms.least)
        _discovery_scopes(planned.discover, planned, terms.region, secrets)
    return wishes


def _long_enough(file: config.File, path: str, interval: int, least: int) -> int:
    if interval < least:
        why = f"{interval} s is below the least allowed, {least} s"
        raise errors.InvalidInput(file.where(f"{path}.interval"), why, "choose a longer one")
    return interval


def _updated(worker: models.Worker, wish: DesiredWorker) -> models.Worker | None:
    """Return the worker as the file wants it, ``None`` where it is so; what a command added stays a command's."""
    after = worker.model_copy(
        update={
            "name": wish.name or worker.name,
            "named": wish.name is not None,
            "region": wish.scope.region,
            "account": wish.scope.account,
            "role_arn": wish.scope.role_arn,
            "external_id": wish.scope.external_id,
            "interval": wish.interval,
            "labels": dict(wish.labels),
            "origin": "command" if worker.origin == "command" else wish.origin,
        }
    )
    return None if after == worker else after
