"""If a process dies right after any write or send on an alert's way, nothing is lost or notified twice."""

from __future__ import annotations

import ast
import concurrent.futures
import functools
import json
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import pytest

from tests.faults import pager, rules
from tests.faults.stage import DATABASES, ROOT, Stage
from tests.support import fork_server
from workermon import models
from workermon.local import embedded
from workermon.rules import event


def in_the_source() -> list[str]:
    """Return every point that the product names."""
    return [
        ast.literal_eval(node.args[0])
        for path in sorted((ROOT / "workermon").rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "failpoints.reach"
    ]


#: What writes to Redis or sends, by the name of the port.
WRITES = {
    "alerts": {"commit", "commit_many", "retire"},
    "dispatcher": {"canary", "collect", "deliver", "evaluate"},
    "configurations": {"save"},
    "notifier": {"send"},
    "outbox": {"claim", "delivered", "due", "failed", "give_up", "post", "postpone", "release", "skip"},
    "failures": {"clear", "note"},
    "samples": {"claim", "mark_pending", "write", "write_many"},
    "schedule": {"delete", "put"},
    "accounts": {"note"},
    "setup": {"put"},
    "silences": {"add", "remove"},
    "workers": {"add", "found_dimensions", "ring", "update", "warn"},
}

#: Lines within which a point stands behind its write.
NEAR = 6

#: Writes on the way without a point of their own, and why.
WITHOUT = {
    "collect/collection._claim samples.claim": "collect.claimed stands behind its call",
    "collect/collection._unschedule schedule.delete": "of who is not monitored; the next message does it again",
    "collect/collection._unschedule schedule.put": "as reconcile does",
    "collect/dimensions._spread workers.found_dimensions": "learnt anew",
    "collect/dimensions._look_up workers.found_dimensions": "learnt anew",
    "collect/event_queue.read accounts.note": "the next poll notes it again",
    "collect/retirement.retire schedule.delete": "of who is gone; the next collection or reconcile does it again",
    "collect/retirement.retire schedule.put": "of who is there after all, as reconcile does",
    "fleet/scheduling.put_entries schedule.put": "add., resume. and apply.scheduled stand behind its calls",
    "fleet/scheduling.put_entries schedule.delete": "add., resume. and apply.scheduled stand behind its calls",
    "fleet/removing.remove silences.remove": "a silence of who is not monitored mutes nobody, and ends",
    "fleet/removing.remove schedule.delete": "of who is not monitored; the next message does it again",
    "fleet/cleanup.retire schedule.delete": "the second time, after remove.retired; reconcile does it again",
    "fleet/reconcile._note_search accounts.note": "the next search notes it again",
    "fleet/reconcile._repair workers.update": "done again by the next one",
    "fleet/reconcile._repair samples.mark_pending": "before the entry goes, by which the next one finds it",
    "fleet/reconcile._repair schedule.delete": "done again by the next one",
    "fleet/apply._write setup.put": "apply.written stands behind its call",
    "fleet/apply._dispatch dispatcher.evaluate": "the last of apply; the sweep finds whom it would have woken",
    "fleet/apply._dispatch dispatcher.deliver": "the last of apply; reconcile dispatches it again",
    "pipeline/tasks.reconcile dispatcher.deliver": "the last of it; the next one rings again",
    "notify/groups.due outbox.due": "only looked into for others of a group",
    "notify/channel_test._from_here notifier.send": "on no alert's way",
    "notify/channel_test._by_node outbox.post": "on no alert's way",
    "notify/channel_test._by_node dispatcher.deliver": "on no alert's way",
    "notify/channel_health.note failures.note": "the next attempt notes it again",
    "notify/channel_health.resolve failures.clear": "before the notification is taken off, so it is sent again",
    "notify/channel_health.review failures.clear": "the next review does it again",
    "notify/sender._send_one outbox.skip": "of a reminder that nobody needs; the next one is noted in the same step",
    "notify/sender._without_unneeded outbox.skip": "of a reminder that nobody needs",
    "notify/sender._accept_canary outbox.skip": "of the canary, which is no alert",
    "notify/sender._hand_over notifier.send": "deliver.sent stands behind its call",
    "notify/sender._failed outbox.give_up": "of a reminder; the next one is noted in the same step",
    "pipeline/sweep.sweep dispatcher.deliver": "the last of a sweep; the next one finds the same",
    "notify/channel_health.change alerts.commit": "channel.fired, .resolved and .reviewed stand behind its calls",
}


def on_an_alert_s_way() -> dict[str, int | None]:
    """Return the writes and sends of the stages, each with the number of lines to its crash point, if it has one."""
    lines_behind: dict[str, int | None] = {}
    for module in (
        "collect/batch",
        "collect/collection",
        "collect/dimensions",
        "collect/event_queue",
        "collect/retirement",
        "evaluate/evaluation",
        "fleet/adding",
        "fleet/apply",
        "fleet/cleanup",
        "fleet/pausing",
        "fleet/reconcile",
        "fleet/removing",
        "fleet/scheduling",
        "notify/channel_health",
        "notify/channel_test",
        "notify/delivery",
        "notify/groups",
        "notify/sender",
        "pipeline/subscription",
        "pipeline/sweep",
        "pipeline/tasks",
    ):
        tree = ast.parse((ROOT / "workermon" / f"{module}.py").read_text("utf-8"))
        for function in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)):
            calls = [node for node in ast.walk(function) if isinstance(node, ast.Call)]
            points = [call.lineno for call in calls if ast.unparse(call.func) == "failpoints.reach"]
            for call in calls:
                owner, _, method = ast.unparse(call.func).rpartition(".")
                port = owner.rpartition(".")[2].lstrip("_")
                if method in WRITES.get(port, ()):
                    end = call.end_lineno or call.lineno
                    name = f"{module}.{function.name} {port}.{method}"
                    behind = min((line - end for line in points if line >= end), default=None)
                    furthest = lines_behind.get(name, 0)
                    lines_behind[name] = None if furthest is None or behind is None else max(furthest, behind)
    return lines_behind


# --- the scenes --------------------------------------------------------------------------------------------------


def _refusing_once(stage: Stage) -> None:
    # The first try of each notification fails, so that there is a failure to be written down.
    refused: set[int] = set()

    def manner() -> pager.Manner:
        number = len(stage.pager.received)
        if number in refused:
            return "take"
        refused.add(number)
        return "refuse"

    stage.pager.manner = manner


def on_the_way(stage: Stage) -> None:
    """Die there when the alert fires, and again when it resolves."""
    stage.command("add", stage.worker_id, "--interval", "1s")
    if stage.point == "deliver.failed":
        _refusing_once(stage)
    stage.load(97.0)
    stage.dies("run")
    with stage.running():
        stage.until("firing")
    stage.load(10.0)
    # The process is started when there is something to resolve, so that it dies there on the way of that.
    stage.let_pass(4.0)
    stage.dies("run")
    with stage.running():
        stage.until("resolved")
    stage.check()


def in_a_group(stage: Stage) -> None:
    """Exit while a grouped message about three workers is sent, when they fire and when they recover."""
    stage.configure({"chat": rules.channel("chat", stage.pager.url, "slack", 'group_wait = "3s"')})
    stage.command("add", *stage.ids, "--interval", "1s")
    before_crashes: list[str] = []
    for value, status in ((97.0, "FIRING"), (10.0, "RESOLVED")):
        stage.load(value, *stage.ids)
        stage.let_pass(4.0)
        earlier = len(stage.pager.messages)
        stage.dies("run")
        before_crashes += stage.pager.messages[earlier:]
        with stage.running():
            stage.wait(
                functools.partial(_shown_of_all, stage, status),
                f"the {status.lower()}",
            )
    sent = stage.point.startswith(("group.sent", "group.delivered"))
    for worker_id in stage.ids:
        for status in ("FIRING", "RESOLVED"):
            _, *repeats = _messages_about(stage.pager.messages, worker_id, status)
            # Slack merges nothing, so what was sent and not noted is shown again, and says so.
            assert len(repeats) <= sent, (stage.point, worker_id, repeats)
            assert all("(retry)" in repeat for repeat in repeats), (stage.point, worker_id, repeats)
    # A first message may say so too: on a busy machine the process that died had claimed it, but had not sent it yet.
    assert "(retry)" not in "".join(before_crashes), stage.point
    if stage.point == "group.sent":
        repeated = [
            worker_id for worker_id in stage.ids if len(_messages_about(stage.pager.messages, worker_id, "FIRING")) == 2
        ]
        assert len(repeated) > 1, repeated
        assert all(_messages_about(before_crashes, worker_id, "FIRING") for worker_id in repeated), repeated
    assert stage.alerts.open() == []
    # All three in one message, unless a busy machine evaluated them in different windows.
    assert max(message.count("• [FIRING") for message in stage.pager.messages) > 1


def _shown_of_all(stage: Stage, status: str) -> bool:
    return (
        all(_messages_about(stage.pager.messages, worker_id, status) for worker_id in stage.ids)
        and not stage.outbox.backlog()
    )


def _messages_about(messages: Sequence[str], worker_id: str, status: str) -> list[str]:
    """Return those of the messages about a worker: whole ones, or the lines of those about a group."""
    parts = [
        part
        for message in messages
        for part in ([line for line in message.splitlines() if line.startswith("•")] or [message])
    ]
    return [part for part in parts if worker_id in part and f"[{status}" in part]


def of_an_account(stage: Stage) -> None:
    """Die when the alert about an account is written, and again when that it is over is."""
    stage.key = "default/us-east-1/collector"
    stage.command("add", stage.worker_id, "--interval", "1s")
    with stage.running():
        _collected(stage)
        stage.aws.fail("deny")
    stage.dies("run")
    with stage.running():
        stage.until("firing")
    stage.aws.recover()
    stage.dies("run")
    with stage.running():
        stage.until("resolved")
    stage.check()


def while_left(stage: Stage) -> None:
    """Exit when the last worker of a failing account is paused. Whoever was notified is notified of its end."""
    stage.key = "default/us-east-1/collector"
    stage.command("add", stage.worker_id, "--interval", "1s")
    with stage.running():
        _collected(stage)
        stage.aws.fail("deny")
        stage.until("firing")
        stage.dies("pause", stage.worker_id)
        stage.until("resolved")
        stage.command("pause", stage.worker_id)
        stage.let_pass(4.0)
    stage.check()


def _collected(stage: Stage) -> None:
    stage.wait(lambda: stage.workers.get([stage.worker_id])[stage.worker_id].condition.latest, "the first datapoint")


def over_a_group(stage: Stage) -> None:
    """Die when the alert about a group of workers is written, and again when that it is over is."""
    stage.key = "group:pool=a/pool-hot"
    stage.configure({"ops": rules.channel("ops", stage.pager.url)}, over='over = { by = "pool", count = "2 of 2" }')
    stage.command("add", *stage.ids, "--interval", "1s", "--label", "pool=a")
    stage.load(97.0, *stage.ids)
    stage.dies("run")
    with stage.running():
        stage.until("firing")
    stage.load(10.0, *stage.ids)
    stage.let_pass(4.0)
    stage.dies("run")
    with stage.running():
        stage.until("resolved")
    stage.check()


def _newest(stage: Stage, worker_id: str) -> float:
    """Return the newest CPU value of a worker, or 0 without one."""
    latest = stage.workers.get([worker_id])[worker_id].condition.latest.get("cpu_utilization")
    return 0.0 if latest is None else latest.value


def by_halves(stage: Stage) -> None:
    """Die when a group is written of which half is known for seconds more than the rest: it waits for all of them."""
    stage.key = "group:pool=a/pool-hot"
    over = 'over = { by = "pool", aggregate = "avg" }'
    text = rules.text(1, {"ops": rules.channel("ops", stage.pager.url)}, "pool-hot", over)
    stage.put(text.replace('breach = "3 of 3"', 'breach = "1 of 1"'))
    soon, later = stage.ids
    stage.load(10.0, soon, later)
    stage.command("add", later, "--interval", "6s", "--label", "pool=a")
    stage.command("add", soon, "--interval", "1s", "--label", "pool=a")
    stage.dies("run")
    with stage.running():
        stage.load(97.0, soon)
        stage.wait(lambda: _newest(stage, soon) > 90, "what is collected of the half")
        stage.let_pass(13.0)
        assert not stage.pager.of(stage.key), "it pages by the half that is known"
        stage.load(97.0, later)
        stage.until("firing")
        stage.load(10.0, soon, later)
        stage.until("resolved")
    stage.check()


def of_two_rules(stage: Stage) -> None:
    """Die when an alert about two others is written or sent, together with theirs, and again when all are over."""
    stage.put(
        rules.text(1, {"ops": rules.channel("ops", stage.pager.url)})
        + rules.RULE.format(name="cpu-hot", notify='"ops"', more="")
        + '[[rules]]\nname = "both"\nwhen = "cpu-high and cpu-hot"\nnotify = ["ops"]\n'
    )
    stage.command("add", stage.worker_id, "--interval", "1s")
    keys = [f"{stage.worker_id}/{name}" for name in ("cpu-high", "cpu-hot", "both")]
    for value, status in ((97.0, "firing"), (10.0, "resolved")):
        stage.load(value)
        stage.let_pass(4.0)
        stage.dies("run")
        with stage.running():
            for key in keys:
                stage.until(status, key)
    stage.check(*keys)


def _until_due(stage: Stage) -> None:
    """Make an alert fire whose escalation to the other receiver becomes due while nothing runs."""
    stage.put(
        rules.text(
            1,
            {"ops": rules.channel("ops", stage.pager.url)},
            more='escalate = [{ after = "4s", notify = ["boss"] }]',
        )
        + rules.channel("boss", stage.second_pager.url)
    )
    stage.command("add", stage.worker_id, "--interval", "1s")
    stage.load(97.0)
    with stage.running():
        stage.until("firing")
    assert not stage.second_pager.received, "it is not due yet"
    stage.let_pass(4.5)


def escalated(stage: Stage) -> None:
    """Die while an escalation that is due is written, claimed, sent or noted: it comes once, and so does the end."""
    _until_due(stage)
    stage.dies("run")
    with stage.running():
        stage.wait(lambda: stage.second_pager.of(stage.key) and not stage.outbox.backlog(), "the escalation")
        stage.load(10.0)
        stage.until("resolved")
        stage.wait(lambda: not stage.second_pager.of(stage.key)[-1].firing, "its end")
    assert len(stage.second_pager.pages(stage.key)) == 1
    assert len({notification.id for notification in stage.second_pager.received}) == 2
    assert all(
        notification.document["escalation"]["step"] == 1
        for notification in stage.second_pager.received
        if notification.firing
    )
    assert stage.second_pager.wrong(stage.key) is None
    stage.check()


def acknowledged(stage: Stage) -> None:
    """Exit when an escalation is written or claimed. A later acknowledgement prevents it."""
    _until_due(stage)
    stage.dies("run")
    stage.command("ack", stage.key)
    with stage.running():
        stage.wait(lambda: not stage.outbox.backlog(), "nothing that waits")
        stage.let_pass(5.0)
        stage.load(10.0)
        stage.until("resolved")
    assert not any(notification.firing for notification in stage.second_pager.received)
    stage.check()


def given_up(stage: Stage) -> None:
    """Exit while another channel is notified of a channel's refusal, and while it is notified of the recovery."""
    stage.configure(
        {
            "chat": rules.channel("chat", stage.pager.url),
            "ops": rules.channel("ops", stage.second_pager.url, "pagerduty", 'secret = { env = "ROUTING_KEY" }'),
        }
    )
    about = "channel:ops/delivery"
    stage.second_pager.manner = lambda: "never"
    stage.command("add", stage.worker_id, "--interval", "1s")
    stage.load(97.0)
    if stage.point != "channel.resolved":
        stage.dies("run")
    with stage.running():
        stage.until("firing")
        stage.until("firing", about)
    stage.second_pager.manner = lambda: "take"
    stage.load(10.0)
    stage.let_pass(4.0)
    if stage.point in ("channel.resolved", "deliver.delivered"):
        stage.dies("run")
    with stage.running():
        stage.until("resolved")
        stage.until("resolved", about)
    stage.check(stage.key, about)
    assert [page.document["status"] for page in stage.second_pager.of(stage.key)][-1] == "resolved"


def through_the_queue(stage: Stage) -> None:
    """Exit while a Spot warning is stored and enqueued. Its message is repeated, and it notifies once."""
    queues = stage.aws.api.queues
    queues.create("workermon")
    queues.visibility = 5.0
    configuration = stage.configuration()
    changes = {
        "revision": configuration.revision + 1,
        "rules": (*configuration.rules, event.KIND.rule("spot", notify=("ops",))),
        "event_queues": {"main": models.EventQueue(queue_url=f"{stage.aws.url}/123456789012/workermon")},
    }
    assert stage.configurations.save(configuration.model_copy(update=changes))
    stage.key = f"{stage.worker_id}/spot"
    stage.command("add", stage.worker_id, "--interval", "1s")
    warning = {
        "id": "warning", "source": "aws.ec2", "detail-type": "EC2 Spot Instance Interruption Warning",
        "time": models.rfc3339(int(time.time())),
        "detail": {"instance-id": stage.worker_id, "instance-action": "terminate"},
    }  # fmt: skip
    queues.put("workermon", json.dumps(warning))
    stage.dies("run")
    with stage.running():
        stage.until("firing")
        stage.wait(lambda: queues.message_count("workermon") == 0, "the message's end")
        stage.fleet.set_state(stage.worker_id, "terminated")
        stage.until("resolved")
    stage.check()


def forsaken(stage: Stage) -> None:
    """Exit when a channel alert ends because the channel is removed. Its notifications are given up."""
    chat = {"chat": rules.channel("chat", stage.pager.url)}
    ops = {"ops": rules.channel("ops", stage.second_pager.url, "pagerduty", 'secret = { env = "ROUTING_KEY" }')}
    about = "channel:ops/delivery"
    stage.configure({**chat, **ops})
    stage.second_pager.manner = lambda: "never"
    stage.command("add", stage.worker_id, "--interval", "1s")
    stage.load(97.0)
    with stage.running():
        stage.until("firing", about)
        stage.second_pager.manner = lambda: "refuse"
        stage.load(10.0)
        stage.wait(lambda: stage.pager.of(stage.key)[-1].document["status"] == "resolved", "the resolved")
        assert stage.outbox.backlog(), "what ops refuses waits"
    stage.configure(chat)
    stage.dies("run")
    with stage.running():
        stage.until("resolved", about)
    assert stage.pager.of(about)[-1].document["reason"] == "the channel was removed"
    last = [attempt.error for attempt in stage.alerts.history(stage.key, 1)[0].attempts if attempt.channel == "ops"][-1]
    assert (last or "").startswith("given up: channel ops: it is not in the configuration")
    stage.check(stage.key, about)


def reminded(stage: Stage) -> None:
    """Exit while a reminder is found, sent or recorded: reminders continue until the end, and open no new incident."""
    stage.configure({"ops": rules.channel("ops", stage.pager.url)}, repeat=3)
    stage.command("add", stage.worker_id, "--interval", "1s")
    stage.load(97.0)
    with stage.running():
        stage.until("firing")
    before = len(stage.pager.received)
    stage.let_pass(3.5)
    stage.dies("run")
    with stage.running():
        stage.wait(lambda: len(stage.pager.received) >= before + 3, "the reminders after that")
        stage.load(10.0)
        stage.until("resolved")
        after = len(stage.pager.received)
        stage.let_pass(6.0)
    assert len(stage.pager.received) == after, "what is over is not repeated"
    assert [notification.document["reminder"] for notification in stage.pager.received][-2:] == [True, False]
    stage.check()


def while_added(stage: Stage) -> None:
    """Exit within ``add``. The next part to run repairs it, and the worker is monitored."""
    stage.dies("add", stage.worker_id, "--interval", "1s")
    stage.load(97.0)
    with stage.running():
        stage.until("firing")
        stage.load(10.0)
        stage.until("resolved")
    stage.check()


def while_removed(stage: Stage) -> None:
    """Exit within ``remove``. The same command completes it, and whoever was notified is notified of the end."""
    stage.command("add", stage.worker_id, "--interval", "1s")
    stage.load(97.0)
    with stage.running():
        stage.until("firing")
        stage.dies("remove", stage.worker_id)
        stage.command("remove", stage.worker_id)
        stage.until("resolved")
        assert stage.pager.of(stage.key)[-1].document["reason"]
    assert not stage.left_of(stage.worker_id)
    stage.check()


def while_paused(stage: Stage) -> None:
    """Exit within ``pause``. The next start completes it: no entry, and the reason notifies whoever was notified."""
    stage.command("add", stage.worker_id, "--interval", "1s")
    stage.load(97.0)
    with stage.running():
        stage.until("firing")
    stage.dies("pause", stage.worker_id)
    with stage.running():
        stage.until("resolved")
        stage.wait(lambda: not stage.entries(), "the entry's end")
    assert stage.pager.of(stage.key)[-1].document["reason"] == "monitoring is paused"
    stage.check()


def while_resumed(stage: Stage) -> None:
    """Exit within ``resume``. The next start completes it, and the worker is evaluated again."""
    stage.command("add", stage.worker_id, "--interval", "1s")
    stage.load(97.0)
    with stage.running():
        stage.until("firing")
        stage.command("pause", stage.worker_id)
        stage.until("resolved")
    stage.dies("resume", stage.worker_id)
    with stage.running():
        stage.until("firing")
        stage.load(10.0)
        stage.until("resolved")
    stage.check(pages=2)


#: The labels of each worker, and the rules.
SetUp = tuple[dict[str, dict[str, str]], list[str]]


def while_applied(stage: Stage) -> None:
    """Exit within ``apply``. Readers see all of the file or nothing, and the next start completes it."""
    ops = {"ops": rules.channel("ops", stage.pager.url)}
    stays, leaves, comes = stage.ids
    first = stage.write("first.toml", rules.text(1, ops) + rules.workers([stays, leaves], 1))
    second = stage.write("second.toml", rules.text(1, ops, "cpu-hot") + rules.workers([stays, comes], 1, team="new"))
    stage.command("apply", first)
    stage.load(97.0, stays, leaves)
    with stage.running():
        stage.until("firing", f"{stays}/cpu-high")
        stage.until("firing", f"{leaves}/cpu-high")
    stage.dies("apply", second)
    nothing: SetUp = ({stays: {}, leaves: {}}, ["cpu-high"])
    everything: SetUp = ({stays: {"team": "new"}, comes: {"team": "new"}}, ["cpu-hot"])
    assert _set_up(stage) == (nothing if stage.point == "apply.planned" else everything)
    if stage.point in ("apply.planned", "apply.scheduled"):
        stage.command("apply", second)
    with stage.running():
        stage.until("resolved", f"{stays}/cpu-high")
        stage.until("resolved", f"{leaves}/cpu-high")
        stage.until("firing", f"{stays}/cpu-hot")
        stage.load(10.0, stays)
        stage.until("resolved", f"{stays}/cpu-hot")
        stage.wait(lambda: stage.entries() == {stays, comes}, "the entries of the file")
    reasons = {
        worker_id: stage.pager.of(f"{worker_id}/cpu-high")[-1].document["reason"] for worker_id in (stays, leaves)
    }
    assert reasons == {stays: "the rule cpu-high was removed", leaves: "removed"}
    assert not stage.left_of(leaves)
    stage.check(f"{stays}/cpu-high", f"{leaves}/cpu-high", f"{stays}/cpu-hot")


def _set_up(stage: Stage) -> SetUp:
    fleet = {record.worker.id: record.worker.labels for record in stage.workers.every()}
    return fleet, [rule.name for rule in stage.configuration().rules]


# --- which are played --------------------------------------------------------------------------------------------


class Scene(NamedTuple):
    """What is played, at which points, and on how many instances."""

    play: Callable[[Stage], None]
    points: tuple[str, ...]
    machines: int = 1


SCENES = {
    "collected": Scene(on_the_way, ("collect.claimed", "collect.written", "collect.recorded")),
    "received": Scene(on_the_way, ("listener.received", "listener.enqueued")),
    "evaluated": Scene(on_the_way, ("evaluate.decided", "evaluate.committed", "evaluate.enqueued")),
    "delivered": Scene(on_the_way, ("deliver.claimed", "deliver.sent", "deliver.delivered", "deliver.failed")),
    "grouped": Scene(in_a_group, ("group.postponed", "group.sent", "group.delivered", "group.delivered:2"), 3),
    "account": Scene(of_an_account, ("account.committed", "deliver.sent")),
    "pooled": Scene(over_a_group, ("evaluate.groups_decided", "evaluate.groups_committed"), 2),
    "by halves": Scene(by_halves, ("evaluate.groups_committed",), 2),
    "two rules": Scene(of_two_rules, ("evaluate.decided", "evaluate.committed", "deliver.sent")),
    "escalated": Scene(escalated, ("evaluate.committed", "deliver.claimed", "deliver.sent", "deliver.delivered")),
    "acknowledged": Scene(acknowledged, ("evaluate.decided", "evaluate.committed", "deliver.claimed")),
    "left": Scene(while_left, ("account.closed",)),
    "given up": Scene(given_up, ("channel.fired", "deliver.given_up", "channel.resolved", "deliver.delivered")),
    "queued": Scene(through_the_queue, ("queue.warned", "queue.enqueued")),
    "forsaken": Scene(forsaken, ("channel.reviewed",)),
    "reminded": Scene(reminded, ("listener.swept", "deliver.sent", "deliver.delivered")),
    "added": Scene(while_added, ("add.stored", "add.scheduled")),
    "removed": Scene(while_removed, ("remove.unscheduled", "remove.retired")),
    "paused": Scene(while_paused, ("pause.stored", "pause.marked", "pause.unscheduled")),
    "resumed": Scene(while_resumed, ("resume.stored", "resume.scheduled", "resume.marked")),
    "applied": Scene(while_applied, ("apply.planned", "apply.written", "apply.scheduled", "apply.unscheduled"), 3),
}

#: What is played together, for most of the time they wait: for a start, for a lease to end.
ACTS = (
    ("collected", "received", "escalated", "by halves"),
    ("evaluated", "delivered", "two rules", "acknowledged"),
    ("grouped", "added", "removed"),
    ("account", "left", "given up", "pooled"),
    ("reminded", "paused", "resumed"),
    ("applied", "forsaken", "queued"),
)

#: Builds that are wrong, the scene and point at which that has to come out, and what then is missed.
MUTANTS = {
    "apart": ("evaluated", "apart.written_state", "the (firing|resolved)"),
    "marked": ("delivered", "deliver.claimed", "the (firing|resolved)"),
    "marked, in a group": ("grouped", "group.postponed", "the (firing|resolved)"),
    "apart, of an account": ("account", "apart.written_state", "the (firing|resolved)"),
    "apart, of an escalation": ("escalated", "apart.written_state", "the escalation"),
    "halfseen": ("by halves", "evaluate.groups_committed", "by the half that is known"),
    "forgotten": ("reminded", "listener.swept", "the reminders"),
    "halves": ("applied", "apply.written", "cpu-high"),
}

Play = Callable[..., None]


@pytest.fixture(scope="module")
def play(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Play]:
    """Run a scene at a crash point, with or without a mutant, all on one server."""
    folder = tmp_path_factory.mktemp("crash")
    server = embedded.Server(folder / "valkey", persistent=False)
    server.start()
    numbers = iter(range(1000))

    def played(name: str, point: str, mutant: str | None, missed: str = "(?!)") -> None:
        number = next(numbers)
        place = folder / str(number)
        place.mkdir()
        stage = Stage(
            point, number, server, place, mutant=mutant, missed=missed, machines=SCENES[name].machines,
            forks=fork_server.shared(),
        )  # fmt: skip
        try:
            SCENES[name].play(stage)
        finally:
            stage.close()

    try:
        yield played
    finally:
        server.stop()


def test_every_point_of_the_source_is_played() -> None:
    """The crash points in the source equal those that are tested here."""
    played = {point.partition(":")[0] for scene in SCENES.values() for point in scene.points}
    assert played == set(in_the_source())
    assert sorted(name for act in ACTS for name in act) == sorted(SCENES)
    assert all(sum(len(SCENES[name].points) for name in act) <= DATABASES for act in ACTS)


def test_every_write_on_an_alert_s_way_has_a_point() -> None:
    """Each write and send of the stages has a crash point right after it, or a listed reason why not."""
    writes = on_an_alert_s_way()
    assert len(writes) > 40
    bare = {name for name, behind in writes.items() if behind is None or behind > NEAR}
    assert bare == set(WITHOUT)


@pytest.mark.integration
@pytest.mark.timeout(400)
@pytest.mark.parametrize("act", ACTS, ids="-".join)
def test_a_crash_there_loses_nothing_and_pages_nobody_twice(act: Sequence[str], play: Play) -> None:
    """After a crash and a restart: one firing, one resolution, in order, and nothing left."""
    played = [(name, point) for name in act for point in SCENES[name].points]
    with concurrent.futures.ThreadPoolExecutor(len(played)) as pool:
        outcomes = [pool.submit(play, name, point, None) for name, point in played]
    for outcome in outcomes:
        outcome.result()


@pytest.mark.integration
def test_a_build_that_loses_is_found_out(play: Play) -> None:
    """Each wrong build is found: separate writes, a mark before the send, a file in parts, and others."""

    def found_out(mutant: str) -> None:
        name, point, missed = MUTANTS[mutant]
        with pytest.raises(AssertionError, match=missed):
            play(name, point, mutant.partition(",")[0], missed)

    with concurrent.futures.ThreadPoolExecutor(len(MUTANTS)) as pool:
        for outcome in [pool.submit(found_out, mutant) for mutant in MUTANTS]:
            outcome.result()
