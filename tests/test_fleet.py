"""The fleet over in-memory ports: repository, schedule and EC2 stay consistent, and no step is done by halves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

import pytest
import structlog.testing

from tests.support import delivering
from tests.support.present import present
from workermon import config, errors, fleet, models, ports, testing
from workermon.fleet import reconcile

A, B, C = "i-0aaaaaaaaaaaaaaaa", "i-0bbbbbbbbbbbbbbbb", "i-0cccccccccccccccc"
REGION = "us-east-1"
HERE = models.AccountRegion(region=REGION)


class World(testing.Monitor):
    """A monitor with an EC2 of three instances, none of which is monitored yet."""

    def __init__(self) -> None:
        super().__init__()
        self.secrets = testing.MemorySecrets({"LAB": "x-1"})
        self.ec2 = testing.MemoryEc2(
            models.Instance(id=A, region=REGION, status="running", name="render-01", tags={"Role": "render"}),
            models.Instance(id=B, region=REGION, status="running", name="two\nlines", detailed=True),
            models.Instance(id=C, region=REGION, status="stopped", tags={"Role": "render"}),
        )

    def add(self, ids: Any, **options: Any) -> Any:
        """Monitor instances."""
        return self.get(fleet.Adding).add(ids, fleet.AddOptions(scope=HERE, **options))

    def reconcile(self, **options: Any) -> Any:
        """Run a reconciliation."""
        return self.get(fleet.Reconciliation).reconcile(**options)

    def worker(self, worker_id: Any) -> Any:
        """Return a worker as the repository has it."""
        return self.workers.get([worker_id])[worker_id].worker

    def fires(self, worker_id: Any, rule: str = "cpu-high") -> None:
        """Let an alert of a worker fire, as an evaluation would."""
        notification = models.Notification(
            id="n1", version=1, dedup_key=f"{worker_id}/{rule}", kind="threshold", status="firing",
            severity="critical", rule=rule, metric="cpu_utilization", value=97.0, threshold=90.0,
            since=models.rfc3339(self.clock()), at=models.rfc3339(self.clock()),
            worker=models.NotifiedWorker(id=worker_id, name="x", region=REGION), summary="it is hot",
        )  # fmt: skip
        self.record(notification, "log")


@pytest.fixture
def world() -> World:
    """Give a fresh world."""
    return World()


def test_adding_takes_name_and_detail_from_ec2_and_schedules(world: World) -> None:
    """A worker is named by its tag, cleaned to fit a line, otherwise by its id. It is scheduled at once."""
    added = world.add([A, B, C], interval=30, labels={"team": "vfx"})
    assert [(worker.name, worker.detailed, worker.named_by_user) for worker in added] == [
        ("render-01", False, False),
        ("two\\nlines", True, False),
        (C, False, False),
    ]
    assert world.workers.ids() == [A, B, C]
    assert world.schedule.entries[A][0] == 30
    assert world.worker(A).labels == {"team": "vfx"}
    assert len({worker.incarnation for worker in added}) == 3


def test_adding_is_all_or_nothing_and_names_every_unknown_instance(world: World) -> None:
    """One unknown and one terminated instance refuse the whole call. Both are named, and nothing is written."""
    world.ec2.become(B, "terminated")
    unknown = "i-0ffffffffffffffff"
    with pytest.raises(errors.NotFound) as caught:
        world.add([A, unknown, B])
    assert unknown in str(caught.value)
    assert B in str(caught.value)
    assert A not in str(caught.value)
    assert world.workers.ids() == []
    assert world.schedule.ids() == set()


def test_aws_out_of_reach_adds_nothing(world: World) -> None:
    """If EC2 is unreachable, nothing is added. --no-verify does not ask EC2."""
    world.ec2.error = errors.AwsUnreachable("EC2", "no answer", "try again")
    with pytest.raises(errors.AwsUnreachable):
        world.add([A])
    assert world.workers.ids() == []
    assert world.add([A], verify=False)[0].name == A


@pytest.mark.parametrize(
    ("ids", "options", "error"),
    [
        (["i-1"], {}, "is not an instance id"),
        ([A, A], {}, "given more than once"),
        ([A, B], {"name": "x"}, "names one worker, not 2"),
        ([A], {"name": B}, "is the id of another instance"),
    ],
)
def test_bad_input_is_refused(world: World, ids: Any, options: Any, error: str) -> None:
    """Invalid input is refused before EC2 is called."""
    with pytest.raises(errors.InvalidInput, match=error):
        world.add(ids, **options)
    assert world.ec2.calls == []


def test_a_duplicate_or_a_taken_name_is_refused(world: World) -> None:
    """A worker can be added once, and a given name belongs to one worker."""
    world.add([A], name="one")
    with pytest.raises(errors.InvalidInput, match="is monitored already"):
        world.add([A, B])
    with pytest.raises(errors.InvalidInput, match=f"is the name of {A} already"):
        world.add([B], name="one")
    assert world.workers.ids() == [A]


def test_workers_are_meant_by_id_or_name(world: World) -> None:
    """Ids and names are resolved, each worker once. Unknown ones are all named.

    Shared names are refused with their ids.
    """
    world.add([A, B])
    assert [record.worker.id for record in world.get(fleet.Lookup).resolve(["render-01", B, A])] == [A, B]
    with pytest.raises(errors.UnknownWorker, match=r"render-02, nobody: not monitored; did you mean render-01\?"):
        world.get(fleet.Lookup).resolve(["render-02", A, "nobody"])
    world.ec2.put(models.Instance(id=C, region=REGION, status="running", name="render-01"))
    world.add([C])
    with pytest.raises(errors.InvalidInput, match=f"use an id: {A}, {C}"):
        world.get(fleet.Lookup).resolve(["render-01"])


def test_pause_and_resume_may_be_repeated(world: World) -> None:
    """A paused worker has no entry, a resumed one has. Repeating changes nothing."""
    world.add([A])
    for _ in range(2):
        world.get(fleet.Pausing).pause(["render-01"])
        assert world.worker(A).monitoring == "paused"
        assert world.schedule.ids() == set()
    for _ in range(2):
        world.get(fleet.Resuming).resume([A])
        assert world.worker(A).monitoring == "active"
        assert world.schedule.ids() == {A}
    with pytest.raises(errors.UnknownWorker):
        world.get(fleet.Pausing).pause([B])


@pytest.mark.parametrize(("kind", "verb"), [(fleet.Pausing, "pause"), (fleet.Resuming, "resume")])
def test_pause_and_resume_have_the_alerts_evaluated(world: World, kind: type[Any], verb: str) -> None:
    """Pausing and resuming mark a worker as pending, so its alerts resolve or fire again promptly."""
    world.add([A])
    assert world.samples.pending(world.clock(), 10) == []
    getattr(world.get(kind), verb)([A])
    assert world.samples.pending(world.clock(), 10) == [A]


def test_remove_resolves_its_alerts_and_forgets_the_worker(world: World) -> None:
    """Removing resolves its alerts with the reason, and deletes worker and entry. Repeating is not an error."""
    world.add([A, B])
    world.fires(A)
    removed = world.get(fleet.Removing).remove(["render-01", C])
    assert [worker.id for worker in removed.workers] == [A]
    assert removed.unknown == (C,)
    assert world.workers.ids() == [B]
    assert world.schedule.ids() == {B}
    notifications = [entry.notification for entry in world.alerts.history(f"{A}/cpu-high")]
    assert (present(notifications[0]).status, present(notifications[0]).reason) == ("resolved", "removed")
    assert world.get(fleet.Removing).remove([A]) == fleet.Removed((), (A,))
    with pytest.raises(errors.UnknownWorker):
        world.get(fleet.Removing).remove([B, "nobody"])
    assert world.workers.ids() == [B]


def test_remove_wins_over_evaluations_that_race_it(world: World) -> None:
    """A removal that loses a race to an evaluation is tried again until it succeeds."""
    world.add([A])
    plain, losses = world.alerts, [3]

    class Racing(testing.MemoryAlerts):
        def retire(self, verdict: Any) -> Any:
            if losses[0]:
                losses[0] -= 1
                basis = plain.load([A])[A]
                assert plain.commit(ports.Verdict(basis, {}, (), {}, world.clock()))
            return super().retire(verdict)

    world.alerts = Racing(world.store)
    world.get(fleet.Removing).remove([A])
    assert losses == [0]
    assert world.workers.ids() == []


def test_a_removal_that_never_holds_says_so(world: World) -> None:
    """A removal gives up after many lost races with a one-line error. It does not loop for ever."""
    world.add([A])

    class Never(testing.MemoryAlerts):
        def retire(self, verdict: Any) -> bool:
            return False

    world.alerts = Never(world.store)
    with pytest.raises(errors.WorkermonError, match="try again"):
        world.get(fleet.Removing).remove([A])


def test_a_worker_that_is_removed_while_it_is_scheduled_leaves_no_entry(world: World) -> None:
    """An entry that a resume writes during a removal is deleted."""
    world.add([A])

    class Slow(testing.MemorySchedule):
        def put(self, workers: Any, now: Any) -> None:
            super().put(workers, now)
            world.store.workers.pop(A, None)  # a removal, right now

    world.schedule = Slow()
    world.get(fleet.Resuming).resume([A])
    assert world.schedule.ids() == set()


def test_discover_adds_what_carries_the_tags(world: World) -> None:
    """Instances with all the tags are added, monitored ones reported. A dry run changes nothing."""
    world.add([A])
    dry = world.get(fleet.Discovery).discover({"Role": "render"}, [HERE], dry_run=True)
    assert ([worker.id for worker in dry.added], dry.already_monitored) == ([C], (A,))
    assert world.workers.ids() == [A]
    world.get(fleet.Discovery).discover({"Role": "render"}, [HERE], interval=120)
    assert world.workers.ids() == [A, C]
    assert world.schedule.entries[C][0] == 120
    assert world.worker(C).origin == "command"


class OneRegionRefused(testing.MemoryEc2):
    """An EC2 whose second region rejects the credentials, like a region that is not enabled."""

    refused = "me-south-1"

    def find(self, scope: Any, tags: Any) -> Any:
        """Refuse in that region."""
        if scope.region == self.refused:
            target = f"EC2 in {scope.region}"
            raise errors.CredentialsRejected(target, "DescribeInstances: AuthFailure", "give boto3 valid credentials")
        return super().find(scope, tags)


def test_discover_does_what_it_can(world: World) -> None:
    """A failing region does not stop another. The reason says that the region may not be enabled."""
    world.ec2 = OneRegionRefused(*world.ec2.describe(HERE, [A, B, C]).values())
    refused_scope = models.AccountRegion(region="me-south-1")
    discovered = world.get(fleet.Discovery).discover({"Role": "render"}, [refused_scope, HERE])
    assert [worker.id for worker in discovered.added] == [A, C]
    assert world.workers.ids() == [A, C]
    error = discovered.failed["default/me-south-1"]
    assert "may not be enabled for the account, because the same credentials serve us-east-1" in str(error)
    with pytest.raises(errors.CredentialsRejected, match="give boto3 valid credentials"):
        world.get(fleet.Discovery).discover({"Role": "render"}, [refused_scope])


def test_reconcile_repairs_the_schedule(world: World) -> None:
    """Missing and broken entries are written, stray ones and those of paused workers deleted.

    A dry run only lists them.
    """
    world.add([A, B, C])
    world.get(fleet.Pausing).pause([C])
    world.schedule.delete([A])
    world.schedule.broken[B] = "no JSON"
    world.schedule.entries[C] = (60, 0)
    ghost = "i-0ffffffffffffffff"
    world.schedule.entries[ghost] = (60, 0)
    dry = world.reconcile(dry_run=True)
    assert {(repair.action, repair.worker_id) for repair in dry.repairs} == {
        ("schedule", A),
        ("schedule", B),
        ("unschedule", C),
        ("unschedule", ghost),
    }
    assert world.schedule.ids() == {B, C, ghost}
    assert world.reconcile().repairs == dry.repairs
    assert set(world.schedule.entries) == {A, B}
    world.schedule.broken.clear()
    assert world.reconcile().repairs == ()


def test_reconcile_follows_ec2(world: World) -> None:
    """Names and monitoring detail are updated, given names kept. Terminated and vanished workers are retired."""
    world.add([A])
    world.add([B], name="mine")
    world.add([C])
    world.ec2.put(models.Instance(id=A, region=REGION, status="running", name="render-99", detailed=True))
    world.ec2.put(models.Instance(id=B, region=REGION, status="running", name="other"))
    world.ec2.become(C, "terminated")
    world.fires(C)
    world.reconcile()
    assert (world.worker(A).name, world.worker(A).detailed) == ("render-99", True)
    assert world.worker(B).name == "mine"
    assert world.workers.ids() == [A, B]
    assert present(world.alerts.history(f"{C}/cpu-high")[0].notification).reason == "terminated"
    world.ec2.forget(B)
    assert world.reconcile().repairs == ()  # young: EC2 may not know it yet
    world.clock.advance(3600)
    world.reconcile()
    assert world.workers.ids() == [A]
    assert world.schedule.ids() == {A}


def test_reconcile_logs_a_line_for_each_kind_of_repair(world: World) -> None:
    """A change of the whole fleet is logged as one line with the number and the first ids."""
    world.add([A, B])
    for worker_id in (A, B):
        world.ec2.put(models.Instance(id=worker_id, region=REGION, status="running", detailed=True))
    with structlog.testing.capture_logs() as logged:
        world.reconcile()
    (line,) = [line for line in logged if line["event"] == "fleet.reconciled"]
    assert (line["action"], line["number"], line["worker_ids"]) == ("refresh", 2, [A, B])


def test_reconcile_does_not_forget_a_whole_fleet_that_another_account_lacks(world: World) -> None:
    """If EC2 knows none of several workers, only those are retired that a collection saw terminated."""
    world.add([A, B])
    world.clock.advance(3600)
    for worker_id in (A, B):
        world.ec2.forget(worker_id)
    reconciled = world.reconcile()
    assert reconciled.failed["default/us-east-1"].kind == "denied"
    assert world.workers.ids() == [A, B]
    for worker_id in (A, B):
        record = world.workers.get([worker_id])[worker_id]
        sample = models.Sample(worker=record.worker, collected_at=world.clock(), status="terminated")
        condition = record.condition.model_copy(update={"status": "terminated"})
        world.samples.write(sample, condition, "{}")
    assert world.reconcile().failed == {}
    assert world.workers.ids() == []


def test_reconcile_compares_a_large_fleet_part_by_part(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several requests give the repairs of one. A part that EC2 does not know at all is no other account."""
    monkeypatch.setattr(reconcile, "DESCRIBED_TOGETHER", 1)
    world.add([A, B, C])
    world.clock.advance(3600)
    world.ec2.put(models.Instance(id=A, region=REGION, status="running", name="render-99"))
    world.ec2.forget(B)
    world.ec2.forget(C)
    world.ec2.calls.clear()
    reconciled = world.reconcile()
    assert [ids for name, _, ids in world.ec2.calls if name == "describe"] == [(A,), (B,), (C,)]
    assert reconciled.failed == {}
    assert [(repair.action, repair.worker_id) for repair in reconciled.repairs] == [
        ("retire", B),
        ("retire", C),
        ("refresh", A),
    ]
    assert world.workers.ids() == [A]
    assert world.worker(A).name == "render-99"


def test_reconcile_repairs_nothing_in_a_region_that_answers_in_part(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If EC2 fails in between, what it said before is not used: the region counts as without an answer."""
    monkeypatch.setattr(reconcile, "DESCRIBED_TOGETHER", 1)
    world.add([A, B])
    world.clock.advance(3600)
    world.ec2.become(A, "terminated")
    describe = world.ec2.describe

    def failing(scope: models.AccountRegion, instance_ids: Sequence[str]) -> dict[str, models.Instance]:
        if B in instance_ids:
            raise errors.AwsDenied("EC2", "not authorized", "allow it")
        return describe(scope, instance_ids)

    monkeypatch.setattr(world.ec2, "describe", failing)
    reconciled = world.reconcile()
    assert (reconciled.repairs, list(reconciled.failed)) == ((), ["default/us-east-1"])
    assert world.workers.ids() == [A, B]


def test_reconcile_reads_a_fleet_that_is_well_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading 50,000 records takes seconds of CPU."""
    world.add([A, B])
    every, reads = testing.MemoryWorkers.every, []

    def counted(workers: testing.MemoryWorkers, chunk: int = 500) -> Iterator[ports.Record]:
        reads.append(chunk)
        return every(workers, chunk)

    monkeypatch.setattr(testing.MemoryWorkers, "every", counted)
    assert world.reconcile().repairs == ()
    assert len(reads) == 1


def test_reconcile_schedules_a_worker_again_that_was_wrongly_taken_for_terminated(world: World) -> None:
    """After an hour of wrong credentials a fleet counts as terminated. Once EC2 knows it again, it is collected."""
    world.add([A])
    record = world.workers.get([A])[A]
    terminated = record.condition.model_copy(update={"status": "terminated"})
    sample = models.Sample(worker=record.worker, collected_at=world.clock(), status="terminated")
    world.samples.write(sample, terminated, "{}")
    world.schedule.delete([A])
    assert [(repair.action, repair.worker_id) for repair in world.reconcile().repairs] == [("schedule", A)]
    assert world.schedule.ids() == {A}


def test_reconcile_repairs_the_schedule_also_without_aws(world: World) -> None:
    """If EC2 is unreachable, its account and region are named, no worker is retired, and the schedule is repaired."""
    world.add([A])
    world.schedule.delete([A])
    world.clock.advance(3600)
    world.ec2.error = errors.AwsDenied("EC2", "not authorized", "allow it")
    reconciled = world.reconcile()
    assert world.schedule.ids() == {A}
    assert list(reconciled.failed) == ["default/us-east-1"]


FILE = f"""
[[workers]]
id = "{A}"
region = "{REGION}"
interval = "30s"
labels = {{ team = "vfx" }}
[[workers]]
id = "{B}"
region = "{REGION}"
[[rules]]
name = "hot"
metric = "cpu_utilization"
above = {{ critical = 50 }}
"""


def apply(world: Any, text: Any, **options: Any) -> Any:
    """Apply a file to a world."""
    return world.get(fleet.Application).apply(testing.parse(text, "w.toml"), fleet.ApplyOptions(region=None, **options))


def test_apply_makes_the_fleet_and_the_rules_those_of_the_file(world: World) -> None:
    """The file adds, changes and removes workers and rules, and triggers evaluation. A second time changes nothing."""
    applied = apply(world, FILE)
    assert (applied.revision, applied.added, applied.changed) == (1, (A, B), ("rules",))
    assert (world.worker(A).interval, world.worker(A).labels, world.worker(A).origin) == (30, {"team": "vfx"}, "file")
    assert world.samples.pending(world.clock(), 10) == [A, B]
    reapplied = apply(world, FILE)
    assert (reapplied.revision, reapplied.added, reapplied.updated, reapplied.removed, reapplied.changed) == (
        1,
        (),
        (),
        (),
        (),
    )
    less = apply(world, f'[[workers]]\nid = "{A}"\nregion = "{REGION}"\n')
    assert (less.removed, less.updated, less.changed) == ((B,), (A,), ())
    assert world.schedule.entries[A][0] == 60
    assert [rule.name for rule in world.configurations.load().rules] == ["hot"]


DISCOVER = f"""
[discover]
regions = ["{REGION}"]
tags = {{ Role = "render" }}
interval = "30s"
labels = {{ team = "vfx" }}
"""


def brought(world: Any, worker_id: Any) -> Any:
    """Return a worker's fields that come from ``[discover]``."""
    worker = world.worker(worker_id)
    return worker.origin, worker.interval, worker.labels, worker.account


@pytest.mark.parametrize("by", ["apply", "reconcile"])
def test_what_discover_says_reaches_the_workers_that_it_brought(world: World, by: str) -> None:
    """Labels and interval that change in [discover] change on its workers, in the schedule too."""
    apply(world, DISCOVER)
    changed = DISCOVER.replace("30s", "120s").replace("vfx", "sim")
    if by == "apply":
        assert apply(world, changed).updated == (A, C)
    else:
        configuration = world.configurations.load()
        discover = present(configuration.discover).model_copy(update={"interval": 120, "labels": {"team": "sim"}})
        revised = configuration.model_copy(update={"revision": configuration.revision + 1, "discover": discover})
        assert world.configurations.save(revised)
        repairs = world.reconcile(dry_run=True).repairs
        assert [(repair.action, repair.worker_id, repair.reason) for repair in repairs] == [
            ("update", worker_id, "[discover] has another interval, labels") for worker_id in (A, C)
        ]
        assert world.reconcile().repairs == repairs
    assert brought(world, A) == brought(world, C) == ("discover", 120, {"team": "sim"}, "default")
    assert world.schedule.entries[A][0] == 120
    assert world.reconcile().repairs == ()
    assert apply(world, changed).is_empty


def test_the_account_of_discover_reaches_its_workers(world: World) -> None:
    """If discovery uses another role, its workers are collected through that role from then on."""
    apply(world, DISCOVER)
    for instance in world.ec2.describe(HERE, [A, C]).values():
        world.ec2.put(instance, account="lab")
    accounts = '[accounts.lab]\nrole_arn = "arn:aws:iam::123456789012:role/lab"\n'
    report = apply(world, accounts + DISCOVER + 'account = "lab"\n')
    assert (report.updated, report.removed) == ((A, C), ())
    assert world.worker(A).role_arn == "arn:aws:iam::123456789012:role/lab"


def test_a_reconciliation_leaves_an_interval_that_discover_does_not_say(world: World) -> None:
    """Without an interval in [discover], workers keep theirs: defaults differ between machines."""
    apply(world, DISCOVER.replace('interval = "30s"\n', ""), interval=90)
    assert world.reconcile(interval=60).repairs == ()
    assert world.worker(A).interval == 90


@pytest.mark.parametrize("by", ["apply", "reconcile"])
def test_discover_takes_over_what_a_command_found(world: World, by: str) -> None:
    """A discovered worker gets the labels and interval of [discover] and belongs to it. The output says so."""
    world.get(fleet.Discovery).discover({"Role": "render"}, [HERE], interval=600)
    if by == "reconcile":
        discover = models.Discover(regions=(REGION,), tags={"Role": "render"}, interval=30, labels={"team": "vfx"})
        assert world.configurations.save(config.DEFAULT.model_copy(update={"revision": 1, "discover": discover}))
        repairs = world.reconcile().repairs
        assert [(repair.action, repair.worker_id) for repair in repairs] == [("take over", A), ("take over", C)]
    else:
        report = apply(world, DISCOVER)
        assert (report.added, report.updated, report.taken_over) == ((), (A, C), (A, C))
    assert brought(world, A) == ("discover", 30, {"team": "vfx"}, "default")
    assert apply(world, "discover = {}\n").updated == ()
    world.reconcile()
    assert world.workers.ids() == []


def test_discover_leaves_alone_who_was_added_by_id_or_is_listed(world: World) -> None:
    """Workers that a command added or the file lists keep their labels, and stay if their tags go."""
    world.add([A], interval=15, labels={"own": "1"})
    world.get(fleet.Discovery).discover({"Role": "render"}, [HERE], interval=600)
    listed_file = DISCOVER + f'[[workers]]\nid = "{C}"\nregion = "{REGION}"\ninterval = "45s"\n'
    assert apply(world, listed_file).taken_over == ()
    assert world.reconcile().repairs == ()
    assert brought(world, A) == ("command", 15, {"own": "1"}, "default")
    assert brought(world, C) == ("command", 45, {}, "default")


def test_who_leaves_the_file_and_carries_the_tags_stays(world: World) -> None:
    """[discover] takes over a worker that leaves the file, instead of removing and adding it."""
    apply(world, DISCOVER + f'[[workers]]\nid = "{A}"\nregion = "{REGION}"\n')
    incarnation = world.worker(A).incarnation
    report = apply(world, DISCOVER + "[[rules]]\nname = 'x'\nmetric = 'no-data'\n" + "[collect]\n")
    assert report.removed == ()
    report = apply(world, "workers = []\n" + DISCOVER)
    assert (report.removed, report.taken_over) == ((), (A,))
    assert world.worker(A).incarnation == incarnation
    assert brought(world, A) == ("discover", 30, {"team": "vfx"}, "default")


def test_a_region_without_an_answer_keeps_its_workers_when_the_account_changes(world: World) -> None:
    """Workers stay if their region could not be searched with the new role."""
    apply(world, DISCOVER)
    configuration = world.configurations.load()
    lab = models.Account(role_arn="arn:aws:iam::123456789012:role/lab")
    discover = present(configuration.discover).model_copy(update={"account": "lab"})
    revised = configuration.model_copy(
        update={"revision": configuration.revision + 1, "discover": discover, "accounts": {"lab": lab}}
    )
    assert world.configurations.save(revised)

    class Refusing(testing.MemoryEc2):
        def find(self, scope: Any, tags: Any) -> NoReturn:
            raise errors.AwsDenied("EC2", "the role cannot be assumed", "allow it")

    world.ec2 = Refusing(*world.ec2.describe(HERE, [A, B, C]).values())
    assert list(world.reconcile().failed) == ["lab/us-east-1"]
    assert world.workers.ids() == [A, C]


def test_a_reconciliation_does_not_undo_a_change_that_came_in_between(world: World) -> None:
    """A worker that is paused during the reconciliation stays paused."""
    apply(world, DISCOVER)
    world.ec2.put(models.Instance(id=A, region=REGION, status="running", name="new", tags={"Role": "render"}))
    plain = world.ec2

    class Slow(testing.MemoryEc2):
        def find(self, scope: Any, tags: Any) -> Any:
            world.get(fleet.Pausing).pause([A])
            return plain.find(scope, tags)

    world.ec2 = Slow(*plain.describe(HERE, [A, B, C]).values())
    world.reconcile()
    assert world.worker(A).monitoring == "paused"
    assert world.schedule.ids() == {C}


def test_what_a_command_added_stays(world: World) -> None:
    """A worker that a command added stays if a file lacks it, even if an earlier file listed it."""
    world.add([A, C])
    apply(world, FILE)
    assert world.worker(A).interval == 30
    applied = apply(world, "workers = []\n")
    assert applied.removed == (B,)
    assert world.workers.ids() == [A, C]


def test_apply_checks_everything_before_the_first_write(world: World) -> None:
    """An unknown instance, a short interval or a missing region changes neither fleet nor rules."""
    world.ec2.forget(B)
    with pytest.raises(errors.NotFound, match=B):
        apply(world, FILE)
    with pytest.raises(errors.InvalidInput, match=r"workers\[0\].interval: 30 s is below the shortest allowed, 60 s"):
        apply(world, FILE, min_interval=60)
    with pytest.raises(errors.InvalidInput, match=r"workers\[0\].region: is missing"):
        apply(world, f'[[workers]]\nid = "{A}"\n')
    world.ec2.error = errors.AwsDenied("EC2", "no", "allow it")
    with pytest.raises(errors.AwsDenied):
        apply(world, FILE)
    assert world.workers.ids() == []
    assert world.configurations.load().revision == 0


def test_apply_can_leave_out_what_is_gone(world: World) -> None:
    """With missing="skip" an instance that EC2 does not have is left out and named, the rest is applied."""
    world.ec2.forget(B)
    applied = apply(world, FILE, missing="skip")
    assert (applied.added, applied.skipped, applied.revision) == ((A,), (B,), 1)


def test_apply_tries_again_where_somebody_else_was_quicker(world: World) -> None:
    """After a concurrent change the file is compared again and applied. The change is not lost."""

    def concurrent_changes() -> Iterator[Any]:
        configuration = world.configurations.load()
        assert world.configurations.save(configuration.model_copy(update={"revision": 1, "retention": 7200}))
        world.add([C])
        yield
        world.get(fleet.Removing).remove([C])
        world.get(fleet.Pausing).pause([A])
        yield
        while True:
            yield

    world.add([A])
    changes = concurrent_changes()

    class Racing(testing.MemorySetup):
        def put(self, change: Any) -> Any:
            next(changes)
            return super().put(change)

    world.setup = Racing(world.store)
    assert apply(world, FILE).revision == 2
    assert world.configurations.load().retention == 7200
    assert [rule.name for rule in world.configurations.load().rules] == ["hot"]
    assert world.workers.ids() == [A, B]
    assert (world.worker(A).monitoring, world.worker(A).interval) == ("paused", 30)
    assert world.schedule.ids() == {B}


def test_a_race_that_is_never_won_says_so(world: World) -> None:
    """If the set-up changes all the time, the file is refused in one line. It is not applied by halves."""

    class Never(testing.MemorySetup):
        def put(self, change: Any) -> bool:
            return False

    world.setup = Never(world.store)
    with pytest.raises(errors.WorkermonError, match=r"w.toml: the set-up changed \d+ times meanwhile; try again"):
        apply(world, FILE)
    assert world.workers.ids() == []
    assert world.schedule.ids() == set()


def test_a_file_that_was_applied_by_halves_is_completed_by_applying_it_again(world: World) -> None:
    """A worker without an entry gets one, although the file has no change."""
    apply(world, FILE)
    world.schedule.delete([A])
    reapplied = apply(world, FILE)
    assert (reapplied.added, reapplied.updated, reapplied.changed) == ((), (), ())
    assert world.schedule.ids() == {A, B}


def test_a_worker_that_a_file_removes_is_reported_and_leaves_no_alert(world: World) -> None:
    """A worker that the file lacks resolves with the reason, and the alert about its account with it."""
    apply(world, FILE)
    world.fires(B)
    world.accounts.note(
        "default/us-east-1", world.clock(), 60, models.CollectionError(kind="denied", message="no", at=world.clock())
    )
    apply(world, "workers = []\n")
    assert world.workers.ids() == []
    assert world.alerts.open() == []
    assert world.accounts.load() == {}
    (last_entry,) = [entry for entry in world.alerts.history(f"{B}/cpu-high") if entry.transition.after is None]
    assert present(last_entry.notification).reason == "removed"


def test_a_new_file_is_evaluated_at_once(world: World) -> None:
    """New rules mark all workers as pending, an unchanged file marks none. A broker that is down stops nothing."""
    apply(world, FILE)
    assert world.dispatcher.evaluated == [A, B]
    world.dispatcher.evaluated.clear()
    apply(world, FILE)
    assert world.dispatcher.evaluated == []

    class Deaf(testing.MemoryDispatcher):
        def evaluate(self, worker_ids: Any) -> None:
            raise errors.RedisUnavailable("broker", "it takes no messages", "check that it runs")

    world.dispatcher = Deaf()
    assert apply(world, FILE.replace("50", "60")).changed == ("rules",)


def test_the_alert_about_a_channel_that_a_file_lacks_is_looked_at(world: World) -> None:
    """Applying enqueues a delivery for it at once, and each reconciliation does, until the alert is over."""
    apply(world, FILE + '[channels.ops]\ntype = "webhook"\nurl = "https://a.example"\n')
    delivering.give_up(world, "ops")
    assert world.get(fleet.OrphanedChannelAlerts).find() == []
    apply(world, FILE.replace("50", "60"))
    assert world.dispatcher.delivered == []
    apply(world, "[channels]\n")
    assert world.dispatcher.delivered == ["channel:ops/delivery"]
    assert world.get(fleet.OrphanedChannelAlerts).find() == ["channel:ops/delivery"]


def test_more_than_leave_in_one_step_leave_all_the_same(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that removes many workers is in force at once. The rest is removed in further steps."""
    apply(world, FILE)
    monkeypatch.setattr("workermon.fleet.apply.MAX_REMOVED_AT_ONCE", 1)
    assert apply(world, "workers = []\n").removed == (A, B)
    assert world.workers.ids() == []
    assert world.schedule.ids() == set()


def test_reconcile_completes_a_pause(world: World) -> None:
    """A half-paused worker loses its entry and is marked as pending, so its alerts resolve."""
    world.add([A])
    world.workers.update(world.worker(A).model_copy(update={"monitoring": "paused"}))
    world.reconcile()
    assert world.schedule.ids() == set()
    assert world.samples.pending(world.clock(), 10) == [A]


def test_accounts_are_resolved_by_name(world: World) -> None:
    """A worker of an account carries its role and the external id that its secret names."""
    instance = models.Instance(id=A, region=REGION, status="running")
    world.ec2.put(instance, account="lab")
    text = f'[[workers]]\nid="{A}"\nregion="{REGION}"\naccount="lab"\n'
    text += '[accounts.lab]\nrole_arn="arn:aws:iam::123456789012:role/w"\nexternal_id={env="LAB"}\n'
    apply(world, text)
    assert world.worker(A).scope == models.AccountRegion(
        region=REGION, account="lab", role_arn="arn:aws:iam::123456789012:role/w", external_id="x-1"
    )


def test_discovery_keeps_the_fleet_in_step(world: World) -> None:
    """[discover] adds instances with the tags and removes its own workers without them. It removes no other worker."""
    world.add([B])
    text = f'[discover]\nregions = ["{REGION}"]\ntags = {{ Role = "render" }}\ninterval = "120s"\n'
    assert apply(world, text).added == (A, C)
    assert (world.worker(A).origin, world.worker(A).interval) == ("discover", 120)
    new = "i-0dddddddddddddddd"
    world.ec2.put(models.Instance(id=new, region=REGION, status="running", tags={"Role": "render"}))
    world.ec2.put(models.Instance(id=C, region=REGION, status="running", tags={"Role": "other"}))
    world.reconcile()
    assert world.workers.ids() == [A, B, new]
    assert apply(world, "[discover]\n").removed == (A, new)
    assert world.workers.ids() == [B]
