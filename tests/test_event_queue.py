"""The event queue from EventBridge: if one of its messages is lost, only time is lost."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest
from click.testing import CliRunner

from tests.support import cloudformation
from tests.support.waiting import eventually
from workermon import cli, collect, errors, evaluate, fleet, health, models, notify, ports, rules, testing
from workermon.collect import eventbridge
from workermon.config import export
from workermon.health.doctor import event_queues
from workermon.pipeline import queue_polling
from workermon.web import compression, prometheus

A, B, NEW = "i-0aaaaaaaaaaaaaaaa", "i-0bbbbbbbbbbbbbbbb", "i-0cccccccccccccccc"
REGION = "us-east-1"
URL = "https://sqs.us-east-1.amazonaws.com/123456789012/workermon"
FILE = f"""
[events.main]
queue_url = "{URL}"

[[rules]]
name = "down"
metric = "state"

[[rules]]
name = "scheduled"
metric = "event"
"""
NOW = 1_700_000_040.0


def message(kind: str, event_detail: dict[str, Any], **more: Any) -> str:
    """Return an event as EventBridge puts it into the queue."""
    source = "aws.health" if kind == eventbridge.HEALTH else "aws.ec2"
    event = {
        "version": "0", "id": f"event-{kind}-{sorted(event_detail.items())}", "detail-type": kind, "source": source,
        "account": "123456789012", "time": models.rfc3339(NOW), "region": REGION, "resources": [],
        "detail": event_detail,
    }  # fmt: skip
    return json.dumps(event | more)


def changed(instance_id: str, state: str, **more: Any) -> str:
    """Return the event of a change of state."""
    return message(eventbridge.STATE_CHANGE, {"instance-id": instance_id, "state": state}, **more)


def interrupted(instance_id: str, **more: Any) -> str:
    """Return the warning that a Spot instance is interrupted."""
    return message(eventbridge.INTERRUPTION, {"instance-id": instance_id, "instance-action": "terminate"}, **more)


class House(testing.Monitor):
    """A monitor of two instances with an event queue."""

    def __init__(self, text: str = FILE) -> None:
        super().__init__(now=NOW)
        for worker_id in (A, B):
            self.ec2.put(models.Instance(id=worker_id, region=REGION, status="running", name=worker_id[-3:]))
        self.get(fleet.Application).apply(self.parser.parse(text, "x.toml"), fleet.ApplyOptions(region=REGION))
        if text == FILE:
            self.get(fleet.Adding).add([A, B], fleet.AddOptions(scope=models.AccountRegion(region=REGION), interval=60))
            self.get(collect.Collection).collect([A, B])
        self.clock.advance(10)

    def put(self, *bodies: str) -> None:
        """Put messages into the queue."""
        for body in bodies:
            self.event_queues.send(models.AccountRegion(region=REGION), URL, body)

    def read(self) -> int | None:
        """Read the queue once, and handle its messages."""
        self.dispatcher.collected.clear()
        self.dispatcher.evaluated.clear()
        return self.get(collect.QueueReading).read("main", wait=0)

    def work(self) -> None:
        """Run the enqueued collections, evaluations and deliveries."""
        self.get(collect.Collection).collect(self.dispatcher.collected)
        ids = dict.fromkeys([*self.dispatcher.collected, *self.dispatcher.evaluated])
        self.get(notify.Delivery).deliver(self.get(evaluate.Evaluation).evaluate(list(ids)))

    @property
    def message_count(self) -> int:
        """Return how many messages lie in the queue."""
        return len(self.event_queues.messages.get(URL, {}))

    @property
    def counts(self) -> dict[str, int]:
        """Return the counts of the queue."""
        return {name.removeprefix("events.main."): number for name, number in self.liveness.counts().items()}


@pytest.fixture
def house() -> House:
    """Give a monitor with a queue."""
    return House()


def test_a_state_change_is_collected_and_notified_within_its_slot(house: House) -> None:
    """A worker is collected again at once within a complete slot, and its stop notifies."""
    house.ec2.become(A, "stopped", "Server.SpotInstanceTermination")
    house.put(changed(A, "stopped"))
    assert house.read() == 1
    assert house.dispatcher.collected == [A]
    assert house.message_count == 0
    house.work()
    assert house.workers.get([A])[A].condition.status == "stopped"
    assert [(notification.rule, notification.worker and notification.worker.id) for notification in house.received] == [
        ("down", A)
    ]
    assert house.counts == {"messages": 1, "requested": 1}


def test_a_queue_message_counts_once(house: House) -> None:
    """After the requested collection, the worker is collected by its schedule again."""
    house.put(changed(A, "running"))
    house.read()
    collection = house.get(collect.Collection)
    assert collection.collect([A]).collected == (A,)
    assert collection.collect([A]).repeated == (A,)
    assert collection.collect([B]).repeated == (B,)


def test_a_paused_worker_is_not_collected(house: House) -> None:
    """A paused worker is not collected, although the queue names it."""
    house.get(fleet.Pausing).pause([A])
    house.put(changed(A, "stopped"))
    house.read()
    assert house.get(collect.Collection).collect([A]).paused == (A,)


def test_a_spot_warning_pages_before_any_collection(house: House) -> None:
    """A Spot warning is stored with the worker in one step. It notifies with EC2's action and its time."""
    house.put(interrupted(A))
    house.read()
    assert house.dispatcher.evaluated == [A]
    house.get(notify.Delivery).deliver(house.get(evaluate.Evaluation).evaluate([A]))
    [notification] = house.received
    assert (notification.rule, notification.kind, notification.severity) == ("scheduled", "event", "critical")
    at = models.rfc3339(NOW + 120)
    assert (
        notification.summary
        == f"aaa: spot-interruption scheduled for {at} (in 2 minutes): EC2 will terminate the Spot instance"
    )
    assert notification.at == models.rfc3339(NOW)
    assert house.counts == {"messages": 1, "requested": 1, "warned": 1}


def test_a_collection_leaves_a_warning_as_it_is(house: House) -> None:
    """A warning fires beside the events that EC2 lists, although EC2 does not list it. It resolves when it is over."""
    house.put(interrupted(A))
    house.read()
    house.work()
    scheduled = models.ScheduledEvent(id="instance-event-1", code="system-reboot", not_before=int(NOW) + 3600)
    house.ec2.events[A] = (scheduled,)
    house.clock.advance(60)
    house.dispatcher.collected[:] = [A]
    house.work()
    codes = [event.code for event in house.workers.get([A])[A].condition.events]
    assert codes == ["spot-interruption", "system-reboot"]
    house.ec2.events[A] = ()
    house.clock.advance(eventbridge.OVER_AFTER["spot-interruption"])
    house.work()
    assert [notification.status for notification in house.received] == ["firing", "firing", "resolved"]


def test_a_rebalance_recommendation_warns(house: House) -> None:
    """A rebalance recommendation is a warning, and the text names it."""
    house.put(message(eventbridge.REBALANCE, {"instance-id": A}))
    house.read()
    house.work()
    [notification] = house.received
    assert notification.severity == "warning"
    since = f"rebalance-recommendation since {models.rfc3339(NOW)}"
    assert notification.summary == f"aaa: {since}: the Spot instance is at an elevated risk of interruption"


def test_a_rule_may_name_the_two_codes(house: House) -> None:
    """``codes`` takes them beside those that EC2 schedules."""
    text = '[[rules]]\nname = "spot"\nmetric = "event"\ncodes = ["spot-interruption", "rebalance-recommendation"]\n'
    file = house.parser.parse(text, "x.toml")
    assert file.rules is not None
    assert rules.KINDS["event"].options(file.rules[0]).codes == ("spot-interruption", "rebalance-recommendation")


def test_what_comes_twice_is_done_once(house: House) -> None:
    """A repeated message is handled once: in one answer, in the next one, and in another process."""
    house.put(interrupted(A), interrupted(A))
    house.read()
    house.work()
    house.put(interrupted(A))
    house.read()
    assert house.dispatcher.collected == house.dispatcher.evaluated == []
    house.seen_events = collect.SeenEvents()
    house.put(interrupted(A))
    house.read()
    house.work()
    assert len(house.received) == 1
    assert house.counts["repeated"] == 2
    assert len(house.workers.get([A])[A].condition.events) == 1


@pytest.mark.parametrize(
    "body",
    [
        "", "no JSON", "[]", "null", "{}", json.dumps({"source": "aws.ec2"}), changed(A, "stopped", time="yesterday"),
        changed(A, "stopped", detail=[]), changed(A, "stopped", source=7), "[" * 100_000, "\ud800",
        interrupted(A, time="9999-12-31T23:59:59Z"), interrupted(A, time="0001-01-01T00:00:00Z"),
        changed(A, "stopped", source="workermon", detail={"sent": 10**400}),
        changed(A, "stopped", source="workermon", detail={"sent": float("inf")}),
        changed(A, "stopped", source="workermon", detail={"sent": float("nan")}),
        changed(A, "stopped", time="\ud800"), changed(A, "stopped", id=7, detail={"instance-id": "\ud800"}) + "\ud800",
    ],
)  # fmt: skip
def test_poison_is_deleted_and_counted(house: House, body: str) -> None:
    """It does no harm, is never delivered again, and the other messages of its answer are handled."""
    house.put(body, changed(B, "stopped"))
    assert house.read() == 2
    assert house.message_count == 0
    assert house.dispatcher.collected == [B]
    assert house.counts["invalid"] == 1


@pytest.mark.parametrize(
    "body",
    [
        message("EC2 Instance-launch Lifecycle Action", {"EC2InstanceId": A}, source="aws.autoscaling"),
        message(eventbridge.HEALTH, {"service": "RDS", "affectedEntities": [{"entityValue": A}]}),
        changed(A, "stopped", source="my.app"),
    ],
)
def test_anything_else_is_deleted_and_counted(house: House, body: str) -> None:
    """A message without news of an instance triggers nothing."""
    house.put(body)
    house.read()
    assert (house.message_count, house.dispatcher.collected, house.counts) == (0, [], {"messages": 1, "ignored": 1})


def test_health_events_collect_every_instance_that_they_name(house: House) -> None:
    """Each instance in affected entities and resources is collected, as id or ARN, in any partition."""
    detail = {
        "service": "EC2", "eventTypeCode": "AWS_EC2_INSTANCE_STORE_DRIVE_PERFORMANCE_DEGRADED",
        "affectedEntities": [{"entityValue": A}, {"entityValue": "vol-1"}, "odd"],
    }  # fmt: skip
    house.put(message(eventbridge.HEALTH, detail, resources=[f"arn:aws-us-gov:ec2:r:123456789012:instance/{B}", 7]))
    house.read()
    assert house.dispatcher.collected == [A, B]


def test_instances_that_nobody_monitors_are_counted(house: House) -> None:
    """Without [discover] they change nothing."""
    house.put(changed(NEW, "running"))
    house.read()
    assert house.dispatcher.reconciliations == 0
    assert house.counts == {"messages": 1, "unknown": 1}


def test_a_new_instance_starts_discovery_at_once_but_not_for_each(house: House) -> None:
    """A starting instance requests a reconciliation.

    Many within seconds request one, and an ending one requests none.
    """
    with_discovery(house)
    house.put(changed(NEW, "terminated"))
    house.read()
    assert house.dispatcher.reconciliations == 0
    for number in range(3):
        house.put(changed(NEW, "running", id=f"e{number}"))
        house.read()
    assert house.dispatcher.reconciliations == 1
    house.clock.advance(60)
    house.put(changed(NEW, "running", id="later"))
    house.read()
    assert house.dispatcher.reconciliations == 2


def with_discovery(house: House) -> None:
    """Have the house follow a tag."""
    discover = models.Discover(regions=(REGION,), tags={"Role": "render"})
    before = house.configurations.load()
    changes = {"revision": before.revision + 1, "discover": discover}
    assert house.configurations.save(before.model_copy(update=changes))


def test_an_instance_that_starts_right_after_another_is_looked_for_too(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its reconciliation is put off, not forgotten, and the next request waits no longer than until it is due."""
    with_discovery(house)
    waits: list[int] = []
    receive = house.event_queues.receive

    def receive_at_once(scope: models.AccountRegion, queue_url: str, wait: int) -> list[ports.QueueMessage]:
        waits.append(wait)
        return receive(scope, queue_url, 0)

    monkeypatch.setattr(house.event_queues, "receive", receive_at_once)
    reading = house.get(collect.QueueReading)
    for number, later in enumerate((0, 3)):
        house.clock.advance(later)
        house.put(changed(NEW, "pending", id=f"e{number}"))
        reading.read("main")
    assert house.dispatcher.reconciliations == 1
    house.clock.advance(2)
    reading.read("main")
    assert house.dispatcher.reconciliations == 1
    house.clock.advance(5)
    reading.read("main")
    assert house.dispatcher.reconciliations == 2
    house.clock.advance(60)
    reading.read("main")
    assert house.dispatcher.reconciliations == 2
    assert waits == [20, 20, 5, 0, 20]


def test_a_reconciliation_that_waits_ends_with_discovery(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without [discover] a waiting reconciliation is dropped, and requests wait as long as usual."""
    with_discovery(house)
    for number in range(2):
        house.put(changed(NEW, "pending", id=f"e{number}"))
        house.read()
    house.get(fleet.Application).apply(house.parser.parse("[discover]\n", "x.toml"), fleet.ApplyOptions(region=REGION))
    house.clock.advance(60)
    house.read()
    assert house.dispatcher.reconciliations == 1
    assert house.seen_events.until_reconciliation(house.clock(), 20) == 20


def test_a_message_stays_until_all_of_it_is_done(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """If Redis fails, the message is delivered again. Nothing is deleted unread."""

    def fail(worker_ids: Any) -> None:
        raise errors.RedisUnavailable("Redis", "is away", "wait")

    house.put(interrupted(A))
    with monkeypatch.context() as patched:
        patched.setattr(house.dispatcher, "collect", fail)
        with pytest.raises(errors.RedisUnavailable):
            house.read()
    assert house.message_count == 1
    house.read()
    assert (house.message_count, house.dispatcher.collected) == (0, [A])


def test_a_full_queue_is_emptied_by_several_threads(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """If an answer is full, several threads read the queue."""
    together = threading.Barrier(queue_polling.READERS)
    receive = house.event_queues.receive

    def receive_beside_others(scope: models.AccountRegion, queue_url: str, wait: int) -> list[ports.QueueMessage]:
        if not wait and not together.broken:
            together.wait(30)
        return receive(scope, queue_url, wait)

    monkeypatch.setattr(house.event_queues, "receive", receive_beside_others)
    house.put(*(changed(A, "running", id=f"e{number}") for number in range(60)))
    polling = queue_polling.QueuePolling(house.get(collect.QueueReading), house.configurations)
    polling.follow(house.configurations.load().revision)
    try:
        eventually(lambda: house.message_count == 0, within=60, description="an empty queue")
    finally:
        polling.stop()
        together.abort()
    assert house.dispatcher.collected


def test_a_refused_queue_is_one_alert_that_ends(house: House) -> None:
    """A collector alert fires a minute after the first refusal, with AWS's reason. Workers are still collected."""
    house.event_queues.error = errors.AwsDenied("SQS queue workermon", "AccessDenied", "allow sqs:ReceiveMessage")
    for _ in range(20):
        assert house.read() is None
        house.clock.advance(8)
        house.liveness.beat("listener", house.clock())
        house.work()
    [collector_notification] = [notification for notification in house.received if notification.rule == "collector"]
    assert (collector_notification.kind, collector_notification.worker, collector_notification.scope) == (
        "collector", None, {"account": "events:main", "region": REGION},
    )  # fmt: skip
    assert "the event queue main cannot be read" in collector_notification.summary
    assert "AccessDenied" in (collector_notification.reason or "")
    parts = {part.name: part for part in house.get(health.StatusCheck).status().parts}
    assert (parts["events main"].ok, parts["collection"].ok) == (False, True)
    house.get(fleet.AccountClosing).close_unused_accounts()
    house.event_queues.error = None
    assert house.read() == 0
    house.work()
    assert [notification.status for notification in house.received if notification.rule == "collector"] == [
        "firing",
        "resolved",
    ]


def test_the_alert_of_a_queue_that_is_configured_no_more_ends(house: House) -> None:
    """If the file no longer has the queue, its alert resolves."""
    house.event_queues.error = errors.AwsDenied("SQS queue workermon", "AccessDenied", "allow it")
    house.read()
    house.get(fleet.Application).apply(house.parser.parse("[events]\n", "x.toml"), fleet.ApplyOptions(region=REGION))
    assert house.get(fleet.AccountClosing).close_unused_accounts() == (f"events:main/{REGION}",)
    assert house.read() is None


def test_status_and_metrics_show_the_queue(house: House) -> None:
    """A part of its own while it is configured, and a counter by outcome."""
    house.put(changed(A, "stopped"), "poison")
    house.read()
    status = house.get(health.StatusCheck).status()
    [part] = [part for part in status.parts if part.name == "events main"]
    assert part.ok
    page = prometheus.page(house.get(health.Exposition))
    text = b"".join(compression.plain([page.text]))
    assert b'workermon_queue_events_total{outcome="requested",queue="main"} 1.0' in text
    assert b'workermon_queue_events_total{outcome="invalid",queue="main"} 1.0' in text
    house.clock.advance(90)
    [part] = [part for part in house.get(health.StatusCheck).status().parts if part.name == "events main"]
    assert not part.ok


def test_doctor_tries_a_queue_with_an_event_of_its_own(house: House) -> None:
    """doctor is ok only if the listener reads its event. If a queue refuses, doctor says why and what to do."""
    house.event_queues.publish_error = errors.AwsDenied("EventBridge", "AccessDenied", "allow events:PutEvents")
    examination = house.get(event_queues.EventQueueExamination)
    [check] = examination.examine(REGION, patience=0.0)
    assert (check.ok, check.name) == (False, "event queue main")
    assert "did not read it" in check.reason
    house.read()
    assert house.counts == {"messages": 1}
    house.clock.advance(1)
    [second_check] = examination.examine(REGION, patience=0.0)
    assert not second_check.ok
    house.liveness.beat("events:main:test", house.clock())
    [read] = examination.examine(REGION, patience=0.0)
    assert read.ok
    assert read.reason.endswith("; EventBridge was not tried: denied: AccessDenied; allow events:PutEvents")
    house.event_queues.error = errors.AwsDenied("SQS queue workermon", "AccessDenied", "allow sqs:SendMessage")
    [refused] = examination.examine(REGION, patience=0.0)
    assert (refused.ok, refused.todo) == (False, "allow sqs:SendMessage")


def test_doctor_tries_eventbridge_and_the_rule(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """doctor sends an event through EventBridge.

    If no rule delivers it, doctor says so, and whether the queue is read.
    """
    examination, queues = house.get(event_queues.EventQueueExamination), house.event_queues
    read_by_listener = queues.send

    def send(scope: models.AccountRegion, queue_url: str, body: str) -> None:
        read_by_listener(scope, queue_url, body)
        house.read()

    monkeypatch.setattr(queues, "send", send)
    queues.rules = [URL]
    [check] = examination.examine(REGION, patience=0.0)
    assert (check.ok, check.reason) == (True, "read after 0.0 s, through EventBridge")
    assert house.counts == {"messages": 1}
    house.clock.advance(1)
    queues.rules = []
    [check] = examination.examine(REGION, patience=0.0)
    assert (check.ok, check.reason) == (
        False, "EventBridge did not deliver our event within 0 s; one put into the queue was read",
    )  # fmt: skip
    assert "events setup" in str(check.todo)


def test_the_credentials_are_those_of_the_account() -> None:
    """``account`` names the credentials that read the queue. It must be a known account."""
    account = '[accounts.lab]\nrole_arn = "arn:aws:iam::123456789012:role/workermon"\n'
    house = House(f'{account}[events.main]\nqueue_url = "{URL}"\naccount = "lab"\n')
    house.read()
    scope = house.event_queues.scopes[-1]
    assert (scope.account, scope.role_arn) == ("lab", "arn:aws:iam::123456789012:role/workermon")
    with pytest.raises(errors.InvalidInput, match="lap is not a known account"):
        House(f'[events.main]\nqueue_url = "{URL}"\naccount = "lap"\n')


@pytest.mark.parametrize(
    ("address", "region"),
    [
        (URL, "us-east-1"),
        ("https://sqs.cn-north-1.amazonaws.com.cn/1/q", "cn-north-1"),
        ("https://sqs-fips.us-gov-west-1.amazonaws.com/1/q", "us-gov-west-1"),
        ("https://sqs.eu-west-1.api.aws/1/q", "eu-west-1"),
        ("https://vpce-0abc-x1.sqs.eu-west-1.vpce.amazonaws.com/1/q", "eu-west-1"),
        ("http://127.0.0.1:9324/000000000000/q", None),
    ],
)
def test_the_address_names_the_region(address: str, region: str | None) -> None:
    """The region is read from the URL, in every partition and kind of endpoint. Otherwise boto3's region counts."""
    assert models.EventQueue(queue_url=address).region == region


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("queue_url = 'workermon'", "is not the address of a queue"),
        ("queue_url = 'ftp://x/y'", "is not the address of a queue"),
        ("account = 'lab'", "queue_url"),
        (f"queue_url = '{URL}'\ncolour = 'red'", "colour"),
    ],
)
def test_what_is_no_queue_is_refused(house: House, text: str, expected: str) -> None:
    """An invalid queue is refused with line and column, before anything is applied."""
    with pytest.raises(errors.InvalidInput, match="line") as caught:
        house.parser.parse(f"[events.main]\n{text}\n", "x.toml")
    assert expected in str(caught.value)


def test_export_writes_what_apply_takes(house: House) -> None:
    """The section is the same after an export, and a second apply changes nothing."""
    text = export.text(house.configurations.load(), [])
    assert f'[events.main]\nqueue_url = "{URL}"' in text
    reapplied = house.get(fleet.Application).apply(
        house.parser.parse(text, "x.toml"), fleet.ApplyOptions(region=REGION)
    )
    assert reapplied.settings.changed == ()


def test_events_setup_prints_the_template() -> None:
    """CloudFormation goes to standard output, the steps to standard error. ``--print`` gives the template alone."""
    runner = CliRunner()
    full = runner.invoke(cli.cli, ["events", "setup", "--region", "us-east-1", "--region", "eu-west-1"])
    alone = runner.invoke(cli.cli, ["events", "setup", "--print"])
    assert full.exit_code == alone.exit_code == 0
    assert full.stdout == alone.stdout
    assert alone.stderr == ""
    assert "--region eu-west-1" in full.stderr
    assert "[events.us-east-1]" in full.stderr


@pytest.mark.parametrize("region", ["us-esat-1", "us-east-1; true", "$(true)"])
def test_events_setup_takes_regions_of_aws_alone(region: str) -> None:
    """An invalid region is refused before any output, because the steps are pasted into a shell."""
    refused = CliRunner().invoke(cli.cli, ["events", "setup", "--region", region])
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert refused.stderr.startswith("error: region")


def test_the_queue_of_a_region_in_china_has_its_own_domain() -> None:
    """In China the example of the steps has the right domain."""
    printed = CliRunner().invoke(cli.cli, ["events", "setup", "--region", "cn-north-1"])
    assert '"https://sqs.cn-north-1.amazonaws.com.cn/ACCOUNT/workermon"' in printed.stderr


def test_the_template_lets_eventbridge_in_and_the_reader_out() -> None:
    """Only EventBridge's rules may send. The reader may do what the code does, on this queue only."""
    printed = CliRunner().invoke(cli.cli, ["events", "setup", "--print"]).stdout
    resources = cloudformation.resources(printed)
    sending = resources["QueuePolicy"]["Properties"]["PolicyDocument"]["Statement"]
    assert [(statement["Principal"], statement["Action"]) for statement in sending] == [
        ({"Service": "events.amazonaws.com"}, "sqs:SendMessage")
    ]
    assert sending[0]["Condition"] == {"ArnEquals": {"aws:SourceArn": ["Instances.Arn", "Health.Arn", "Doctor.Arn"]}}
    reading, announcing = resources["ReaderPolicy"]["Properties"]["PolicyDocument"]["Statement"]
    assert announcing["Action"] == "events:PutEvents"
    assert announcing["Condition"] == {"StringEquals": {"events:source": models.OWN_SOURCE}}
    event_pattern = resources["Doctor"]["Properties"]["EventPattern"]
    assert event_pattern == {"source": [models.OWN_SOURCE], "detail-type": [models.OWN_TYPE]}
    assert set(reading["Action"]) == {"sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:SendMessage"}
    assert reading["Resource"] == sending[0]["Resource"] == "Queue.Arn"
    patterns = [
        resource["Properties"]["EventPattern"]
        for resource in resources.values()
        if resource["Type"] == "AWS::Events::Rule" and resource is not resources["Doctor"]
    ]
    read = {kind for pattern in patterns for kind in pattern["detail-type"]}
    assert read == {eventbridge.STATE_CHANGE, eventbridge.INTERRUPTION, eventbridge.REBALANCE, eventbridge.HEALTH}
