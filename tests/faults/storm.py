"""A storm: processes are killed and frozen, Redis dies, AWS fails, receivers misbehave.

``python -m tests.faults.storm --seconds 600 --seed 7`` runs a longer one by hand (``make storm``). The expected
notifications are known beforehand: plain loops compute them from the traces that the simulated CloudWatch serves, for
rules of every kind that goes by slots. They are compared with what two receivers accepted: the one that alerts notify,
and the one that they escalate to. Redis keeps an append-only file with ``appendfsync everysec``, like the embedded one.
If it is killed, it may lose up to two seconds. Then nothing of the present is lost, and a repeated notification has the
same id.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from tests.faults import on_call, pager, plain, roles, rules
from tests.faults.plain import Expected
from tests.faults.roles import LONG, PERIOD
from workermon import logs, models, testing
from workermon.local import embedded, endpoint, simulation, supervisor, up
from workermon.on_redis import alerts, client, outbox

HERE = Path(__file__).parent
ROOT = HERE.parents[1]

#: Seconds that the processes have to start before the storm, from when the workers are added.
CALM = 16
#: Seconds until everything must have been reported once the storm is over.
DRAIN = 90
#: Seconds between two events of the queue that say nothing new.
RING = 4
#: Seconds between two looks at what is to strike.
STEP = 0.25

#: Where a process of a kind is made to die, beside the kills at any moment.
CRASHES = {
    "collect": ("collect.claimed", "collect.written", "collect.recorded"),
    "alerts": (
        "listener.received", "listener.enqueued", "evaluate.decided", "evaluate.committed", "evaluate.enqueued",
        "evaluate.groups_decided", "evaluate.groups_committed", "deliver.claimed", "deliver.sent", "deliver.delivered",
        "deliver.failed", "queue.warned", "queue.enqueued",
    ),
}  # fmt: skip


class Outcome(NamedTuple):
    """The result of a storm. Each list should be empty."""

    lost: list[str]
    extra: list[str]
    unfinished: list[str]
    wrong: list[str]
    table: list[str]

    @property
    def well(self) -> bool:
        """Tell whether it held."""
        return not (self.lost or self.extra or self.unfinished or self.wrong)


def times(begin: int, seconds: int) -> range:
    """Return the times of all datapoints, from two minutes before the storm until long after."""
    return range((begin - 120) // PERIOD * PERIOD, begin + seconds + 2 * LONG + DRAIN + 600, PERIOD)


def trace(chance: random.Random, begin: int, seconds: int) -> list[tuple[int, float]]:
    """Return a load: calm, spikes, plateaus, short and long."""
    values = {at: chance.uniform(5, 80) for at in times(begin, seconds)}

    def plateau(since: int, slots: int) -> None:
        for number in range(slots):
            at = (since // PERIOD + number) * PERIOD
            values[at] = chance.uniform(90.5, 100)

    kind = chance.random()
    if kind < 0.4:
        plateau(begin + chance.randrange(0, max(seconds - LONG // 2, 1)), LONG // PERIOD + chance.randint(3, 10))
    elif kind < 0.55:
        plateau(begin + chance.randrange(0, seconds), chance.randint(3, 8))
    elif kind < 0.7:
        plateau(begin + chance.randrange(0, seconds), 2)  # never enough to fire
    return sorted(values.items())


class Storm:
    """One storm, from its first process to its result. Everything but the kernel's timing follows from the seed."""

    def __init__(self, folder: Path, *, workers: int, seconds: int, seed: int, mutant: str | None = None) -> None:
        self.folder, self.seconds, self.chance = folder, seconds, random.Random(seed)
        self.fleet = simulation.Simulation(time.time, workers, period=PERIOD, seed=seed, history=120)
        self.aws = endpoint.Endpoint(self.fleet)
        self.aws.api.queues.create("storm")
        self.aws.api.queues.visibility = 5.0
        self.pager, self.boss = pager.Pager(), pager.Pager()
        self.pagers = {"ops": self.pager, "boss": self.boss}
        self.server = embedded.Server(folder / "valkey", persistent=True)
        self.parts = roles.Parts.of(list(self.fleet.machines))
        self.mutant = mutant
        self.strikes: list[str] = []
        self._plan: list[tuple[float, str, Callable[[], None]]] = []
        self._envs: dict[str, dict[str, str]] = {}

    def run(self) -> Outcome:
        """Have it rage, heal everything, wait until all is reported, and compare."""
        self.aws.start()
        for taker in self.pagers.values():
            taker.start()
        self.server.start()
        url = self.server.url
        connection = client.connect(url)
        self.outbox = outbox.RedisOutbox(connection)
        self.alerts = alerts.RedisAlerts(connection, "storm")
        with contextlib.ExitStack() as stack:
            for taker in self.pagers.values():
                stack.callback(taker.stop)
            stack.callback(self.aws.stop)
            stack.callback(connection.close)
            stack.callback(self.server.stop)
            env = self._environment(url)
            self._apply(env)
            self._cast()  # A group compares its workers from when they were added, so the storm begins after that.
            output = stack.enter_context((self.folder / "processes.log").open("ab"))
            processes = supervisor.Supervisor(self._children(env), server=self.server, output=output)
            self.processes = processes
            self.on_call = on_call.OnCall(url, self.pager, self.roles.acknowledged)
            self.on_call.start()
            stack.callback(self.on_call.stop)
            stack.callback(processes.stop)
            self._foresee()
            processes.run(lambda: time.time() > self.begin + self.seconds, self._strike, interval=STEP)
            self._heal()
            until = time.time() + DRAIN
            processes.run(lambda: time.time() > until or self._settled(), self._strike, interval=STEP)
            return self._verdict()

    # --- the installation ----------------------------------------------------------------------------------------

    def _environment(self, url: str) -> dict[str, str]:
        ours = ("AWS_", "WORKERMON_", "CELERY_")
        before = [str(HERE / "mutants" / self.mutant)] if self.mutant else []
        return {key: value for key, value in os.environ.items() if not key.startswith(ours)} | {
            "WORKERMON_REDIS_URL": url,
            "WORKERMON_CHANNEL": "storm",
            "WORKERMON_MIN_INTERVAL": "1s",
            "WORKERMON_LOG_FORMAT": "json",
            "XDG_STATE_HOME": str(self.folder / "state"),
            "AWS_ENDPOINT_URL": self.aws.url,
            "AWS_ACCESS_KEY_ID": "simulated",
            "AWS_SECRET_ACCESS_KEY": "simulated",
            "AWS_REGION": "us-east-1",
            "PYTHONPATH": os.pathsep.join([*before, str(ROOT)]),
        }

    def _apply(self, env: dict[str, str]) -> None:
        file = self.folder / "storm.toml"
        sections = [rules.text(PERIOD, {"ops": rules.channel("ops", self.pager.url)}, collected=roles.METRICS)]
        sections += [rules.channel("boss", self.boss.url), roles.rules(f"{self.aws.url}/123456789012/storm")]
        labels = self.parts.labels()
        for machine in self.fleet.machines:
            sections.append(rules.workers([machine], PERIOD, **labels.get(machine, {})))
        file.write_text("".join(sections), "utf-8")
        testing.parse(file.read_text("utf-8"), str(file))
        completed = subprocess.run(
            [sys.executable, "-m", "workermon", "apply", str(file)],
            env=env, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=150, check=False,
        )  # fmt: skip
        assert completed.returncode == 0, completed.stderr

    def _cast(self) -> None:
        """Have the storm begin soon, and generate all loads and the expected notifications."""
        self.begin = int(time.time()) // PERIOD * PERIOD + CALM  # in step with the slots, so that the seed decides all
        seconds = self.seconds
        casting = roles.Casting(chance=self.chance, times=times(self.begin, seconds), begin=self.begin, seconds=seconds)
        self.roles = casting.cast(self.parts)
        self.expected = list(self.roles.expected)
        for machine in self.fleet.machines:
            traces = self.roles.traces.get(machine) or {roles.CPU: trace(self.chance, self.begin, seconds)}
            for name, points in traces.items():
                self.fleet.replay(machine, name, points)
            for episode in plain.truth(f"{machine}/cpu-high", traces[roles.CPU]):
                self.expected.append(Expected(episode, "ops", episode.clears - episode.fires >= LONG))

    def _children(self, env: dict[str, str]) -> list[supervisor.Child]:
        children = []
        for child in up.children(env, concurrency=4):
            names = [child.name] if child.name != "alerts" else ["alerts", "alerts-again"]  # two evaluators at once
            for name in names:
                argv = [part.replace("alerts-", "again-") if name == "alerts-again" else part for part in child.argv]
                self._envs[name] = dict(env)  # read anew at each start
                children.append(supervisor.Child(name, argv, self._envs[name]))
        return children

    # --- what strikes --------------------------------------------------------------------------------------------

    def _foresee(self) -> None:
        begin, end = float(self.begin), float(self.begin + self.seconds)
        at, order = begin, list[str]()
        while at < end - 3:
            if not order:  # each comes up once in every four, in an order that is drawn
                order = self.chance.sample(("beat", "collect", "alerts", "alerts-again"), 4)
            name = order.pop()
            self._plan.append((at, f"kill {name}", functools.partial(self._signal, name, signal.SIGKILL)))
            at += self.chance.uniform(4, 9)
        for share in (0.3, 0.7):
            self._plan.append((begin + share * self.seconds, "kill redis", lambda: self._redis(signal.SIGKILL)))
        self._between(begin + 0.5 * self.seconds, 3, "redis", self._redis)
        # Longer than a claim's lease, so that a sender that resumes has a stale fence.
        self._between(begin + 0.1 * self.seconds, 17, "alerts", lambda order: self._signal("alerts", order))
        self._between(begin + 0.6 * self.seconds, 5, "collect", lambda order: self._signal("collect", order))
        # Longer than beat's lock holds.
        self._between(begin + 0.35 * self.seconds, 8, "beat", lambda order: self._signal("beat", order))
        faults: list[tuple[float, endpoint.Fault]] = [
            (0.15, "throttle"), (0.4, "error"), (0.55, "hang"), (0.8, "drop"),
        ]  # fmt: skip
        for share, kind in faults:
            start = begin + share * self.seconds
            self._plan.append((start, f"AWS: {kind}", functools.partial(self.aws.fail, kind)))
            self._plan.append((start + 3, "AWS is well", self.aws.recover))
        self._plan.append((begin, "the receiver misbehaves", self._misbehave))
        self._plan.append((begin, "crash points", self._sow))
        self._foresee_events()
        self._plan.sort(key=lambda strike: strike[0])

    def _foresee_events(self) -> None:
        for worker_id, episode in self.roles.warnings.items():
            at = float(episode.fires)
            self._plan.append((at, "warn a Spot instance", functools.partial(self._warn, worker_id, at)))
            end = float(episode.clears)
            self._plan.append((end, "end it", functools.partial(self.fleet.set_state, worker_id, "terminated")))
        for number in range(self.seconds // RING):
            self._plan.append((self.begin + number * RING, "ring", self._ring))

    def _warn(self, worker_id: str, at: float) -> None:
        """Send EventBridge's message twice, because EventBridge may repeat it."""
        detail = {"instance-id": worker_id, "instance-action": "terminate"}
        for _ in range(2):
            self._event(f"warning-{worker_id}", "EC2 Spot Instance Interruption Warning", at, detail)

    def _ring(self) -> None:
        at, worker_id = time.time(), self.chance.choice(list(self.fleet.machines))
        detail = {"instance-id": worker_id, "state": "running"}
        self._event(f"running-{at}", "EC2 Instance State-change Notification", at, detail)

    def _event(self, identity: str, kind: str, at: float, detail: Mapping[str, str]) -> None:
        event = {"id": identity, "source": "aws.ec2", "detail-type": kind, "time": models.rfc3339(at), "detail": detail}
        self.aws.api.queues.put("storm", json.dumps(event))

    def _between(self, at: float, seconds: float, target: str, send: Callable[[signal.Signals], None]) -> None:
        self._plan.append((at, f"freeze {target}", lambda: send(signal.SIGSTOP)))
        self._plan.append((at + seconds, f"thaw {target}", lambda: send(signal.SIGCONT)))

    def _strike(self) -> None:
        while self._plan and self._plan[0][0] <= time.time():
            _, strike_name, strike = self._plan.pop(0)
            strike()
            self.strikes.append(f"{time.time() - self.begin:6.1f} s  {strike_name}")
            if strike_name.startswith("kill"):
                self._sow()

    def _sow(self) -> None:
        """Have processes that start from now on die somewhere on the way."""
        for name, env in self._envs.items():
            points = CRASHES.get(name.partition("-")[0])
            if points and self.chance.random() < 0.7:
                env["WORKERMON_FAILPOINT"] = f"{self.chance.choice(points)}:{self.chance.randint(2, 20)}"

    def _misbehave(self) -> None:
        # How often each is asked depends on more than the seed.
        for taker in self.pagers.values():
            taker.manner = self._mood(random.Random(self.chance.random()))

    def _mood(self, moods: random.Random) -> Callable[[], pager.Manner]:
        def manner() -> pager.Manner:
            drawn = moods.random()
            return "cut" if drawn < 0.2 else "refuse" if drawn < 0.35 else 2.0 if drawn < 0.4 else "take"

        return manner

    def _heal(self) -> None:
        for name, env in self._envs.items():
            env.pop("WORKERMON_FAILPOINT", None)
            self._signal(name, signal.SIGCONT)
        self._redis(signal.SIGCONT)
        self.aws.recover()
        for taker in self.pagers.values():
            taker.manner = lambda: "take"

    def _signal(self, name: str, order: signal.Signals) -> None:
        if pid := self.processes.pids.get(name):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, order)

    def _redis(self, order: signal.Signals) -> None:
        if pid := self.server.pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, order)
        if order == signal.SIGKILL:
            self.on_call.redis_died()

    # --- how it came out -----------------------------------------------------------------------------------------

    def _settled(self) -> bool:
        if max(expectation.episode.clears for expectation in self.expected) + 3 * PERIOD > time.time():
            return False
        with contextlib.suppress(Exception):
            return not self.outbox.backlog() and not self.alerts.open() and not self._lost()
        return False

    def _lost(self) -> list[str]:
        notified = {
            (channel, notification.key, _since(notification))
            for channel, taker in self.pagers.items()
            for notification in list(taker.received)
            if notification.firing
        }
        return [
            f"{key} from {fires - self.begin} to {clears - self.begin}, to {expectation.channel}"
            for expectation in self.expected
            for key, fires, clears in [expectation.episode]
            if expectation.must and (expectation.channel, key, fires) not in notified
        ]

    def _verdict(self) -> Outcome:
        real = {
            (expectation.channel, expectation.episode.key, expectation.episode.fires): expectation
            for expectation in self.expected
        }
        extra, unfinished, wrong, rows, page_count = list[str](), list[str](), list[str](), [], 0
        for channel, taker in self.pagers.items():
            for key in sorted({notification.key for notification in taker.received}):
                pages = taker.pages(key) if roles.rule_of(key) in roles.COMPARED else []
                page_count += len(pages)
                for page in pages:
                    since = _since(page)
                    expected = real.pop((channel, key, since), None)
                    page_name = f"{key} of {since - self.begin} to {channel} ({page.id})"
                    if expected is None:
                        extra.append(page_name)
                        continue
                    wrong += [f"{page_name}: {fault}" for fault in self._misled(expected, page)]
                    rows.append((since - self.begin, page.at - max(since, expected.not_before) - PERIOD, channel, key))
                unfinished += [f"{key}: its last word to {channel} is firing"] if taker.of(key)[-1].firing else []
                wrong += [fault for fault in (_out_of_order(taker, key), _escalated_twice(taker, key)) if fault]
        unfinished += [f"open: {alert.rule}" for alert in self.alerts.open()]
        unfinished += [f"{self.outbox.backlog()} wait"] if self.outbox.backlog() else []
        table = [f"{'breach s':>9} {'page after s':>13}  channel  alert"]
        table += [f"{at:9d} {after:13.1f}  {channel:7}  {key}" for at, after, channel, key in sorted(rows)]
        must, request_count = (
            sum(item.must for item in self.expected),
            sum(len(item.received) for item in self.pagers.values()),
        )
        table.append(
            f"{len(self.expected)} to notify ({must} in any case), {page_count} pages, {request_count} requests taken, "
            f"{sum(taker.mistreated for taker in self.pagers.values())} mistreated, {self.processes.deaths} deaths, "
            f"{len(self.on_call.acknowledged)} acknowledged"
        )
        return Outcome(self._lost(), extra, unfinished, wrong, table)

    def _misled(self, expected: Expected, page: pager.Received) -> list[str]:
        """Return the differences between expected and accepted notifications."""
        created_at = models.moment(page.document["created_at"])
        return [
            fault
            for fault, wrong in (
                ("while it was inhibited", created_at < expected.not_before),
                ("it is no escalation", expected.escalates != (page.document["escalation"] is not None)),
                (
                    "after somebody acknowledged it",
                    expected.escalates and self.on_call.ignored(page.key, page.document),
                ),
            )
            if wrong
        ]


def _out_of_order(taker: pager.Pager, key: str) -> str | None:
    """A repetition may be late. A new message must not arrive after a newer one."""
    newest, ids = 0, set()
    for page in taker.of(key):
        if page.id not in ids and page.document["version"] < newest:
            return f"{key}: version {page.document['version']} after {newest}"
        ids.add(page.id)
        newest = max(newest, page.document["version"])
    return None


def _escalated_twice(taker: pager.Pager, key: str) -> str | None:
    """Each step of an episode is one notification, however often it was sent."""
    steps: dict[tuple[int, int], set[str]] = {}
    for page in taker.of(key):
        if escalation := page.document["escalation"]:
            steps.setdefault((_since(page), escalation["step"]), set()).add(page.id)
    return next((f"{key}: escalated twice: {ids}" for ids in steps.values() if len(ids) > 1), None)


def _since(received: pager.Received) -> int:
    return int(models.moment(received.document["since"]))


def main() -> int:
    """Run one storm and print its result."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--workers", type=int, default=300)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--mutant", choices=("apart", "marked", "halfseen"))
    options = parser.parse_args()
    logs.configure("error")
    with tempfile.TemporaryDirectory(prefix="workermon-storm-") as folder:
        storm = Storm(
            Path(folder), workers=options.workers, seconds=options.seconds, seed=options.seed, mutant=options.mutant
        )
        outcome = storm.run()
        tail = (Path(folder) / "processes.log").read_text("utf-8", "replace")[-6000:]
    say = sys.stdout.write
    say("\n".join([*storm.strikes, *outcome.table]) + "\n")
    lists = {"lost": outcome.lost, "extra": outcome.extra, "unfinished": outcome.unfinished, "wrong": outcome.wrong}
    for name, entries in lists.items():
        say(f"{name}: {len(entries)}\n" + "".join(f"  {entry}\n" for entry in entries))
    if not outcome.well:
        sys.stderr.write(tail)
    return 0 if outcome.well else 1


if __name__ == "__main__":
    sys.exit(main())
