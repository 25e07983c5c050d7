"""A storm: real processes, killed and frozen, a Redis that dies, an AWS that fails, a receiver that misbehaves.

``python -m tests.faults.storm --seconds 600 --seed 7`` runs a longer one by hand (``make storm``). What has to notify
is known beforehand: a plain loop reads it off the traces that the simulated CloudWatch serves. Compared is what a
receiver took.

Redis keeps an append-only file with ``appendfsync everysec``, as the embedded one does: killed, it may come back up to
two seconds younger. Promised is then that nothing of the present is lost, and that what notifies again has the same id.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.faults import pager, rules
from workermon import logs, models, testing
from workermon.local import embedded, endpoint, simulation, supervisor, up
from workermon.on_redis import alerts, client, outbox

HERE = Path(__file__).parent
ROOT = HERE.parents[1]

#: Seconds between two datapoints, and between two collections of a worker.
PERIOD = 2
#: Seconds that the processes have to start before the storm.
CALM = 15
#: Seconds until everything must have been reported once the storm is over.
DRAIN = 90
#: Seconds. An episode this long is there when an outage of everything, restarts included, is over; a shorter one may
#: be over before anybody could see it, and is then in the history only.
LONG = 50

#: Where a process of a kind is made to die, beside the kills at any moment.
CRASHES = {
    "collect": ("collect.claimed", "collect.written", "collect.noted"),
    "alerts": (
        "listener.heard", "listener.rung", "evaluate.judged", "evaluate.committed", "evaluate.rung", "deliver.claimed",
        "deliver.sent", "deliver.delivered", "deliver.failed",
    ),
}  # fmt: skip


class Episode(NamedTuple):
    """What a receiver has to hear about: the times of the datapoints that decide."""

    key: str
    fires: int
    clears: int

    @property
    def long(self) -> bool:
        """Tell whether it must have been reported."""
        return self.clears - self.fires >= LONG


class Outcome(NamedTuple):
    """How it came out; each list should be empty."""

    lost: list[str]
    extra: list[str]
    left: list[str]
    wrong: list[str]
    table: list[str]

    @property
    def well(self) -> bool:
        """Tell whether it held."""
        return not (self.lost or self.extra or self.left or self.wrong)


def trace(chance: random.Random, begin: int, seconds: int) -> list[tuple[int, float]]:
    """Return a load from two minutes before the storm until long after: calm, spikes, plateaus, short and long."""
    first, end = begin - 120, begin + seconds + 2 * LONG + DRAIN + 600
    values = {at: chance.uniform(5, 80) for at in range(first // PERIOD * PERIOD, end, PERIOD)}

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


def truth(key: str, points: Sequence[tuple[int, float]]) -> list[Episode]:
    """Return the episodes of a trace: 3 of 3 above 90 fire, 2 of 2 not above clear."""
    found: list[Episode] = []
    fired: int | None = None
    for place in range(2, len(points)):
        above = [value > 90 for _, value in points[place - 2 : place + 1]]
        at = points[place][0]
        if fired is None and all(above):
            fired = at
        elif fired is not None and not any(above[1:]):
            found.append(Episode(key, fired, at))
            fired = None
    return found


class Storm:
    """One storm, from its first process to its verdict; all of it follows from the seed but the kernel's timing."""

    def __init__(self, folder: Path, *, workers: int, seconds: int, seed: int, mutant: str | None = None) -> None:
        self.folder, self.seconds, self.chance = folder, seconds, random.Random(seed)
        self.begin = int(time.time()) + CALM
        self.fleet = simulation.Simulation(time.time, workers, period=PERIOD, seed=seed, history=120)
        self.aws = endpoint.Endpoint(self.fleet)
        self.pager = pager.Pager()
        self.server = embedded.Server(folder / "valkey", persistent=True)
        self.episodes: list[Episode] = []
        for each in self.fleet.machines:
            points = trace(self.chance, self.begin, seconds)
            self.fleet.replay(each, "CPUUtilization", points)
            self.episodes += truth(f"{each}/cpu-high", points)
        self.mutant = mutant
        self.done: list[str] = []
        self._plan: list[tuple[float, str, Callable[[], None]]] = []
        self._envs: dict[str, dict[str, str]] = {}

    def run(self) -> Outcome:
        """Have it rage, heal everything, wait until all is reported, and compare."""
        self.aws.start()
        self.pager.start()
        self.server.start()
        url = self.server.url
        connection = client.connect(url)
        self.kept = outbox.RedisOutbox(connection)
        self.alerts = alerts.RedisAlerts(connection, "storm")
        with contextlib.ExitStack() as stack:
            stack.callback(self.pager.stop)
            stack.callback(self.aws.stop)
            stack.callback(connection.close)
            stack.callback(self.server.stop)
            env = self._environment(url)
            self._apply(env)
            output = stack.enter_context((self.folder / "processes.log").open("ab"))
            parts = supervisor.Supervisor(self._children(env), server=self.server, output=output)
            self.parts = parts
            stack.callback(parts.stop)
            self._foresee()
            parts.run(lambda: time.time() > self.begin + self.seconds, self._strike)
            self._heal()
            until = time.time() + DRAIN
            parts.run(lambda: time.time() > until or self._settled())
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
        told = rules.text(PERIOD, {"ops": rules.channel("ops", self.pager.url)})
        file.write_text(told + rules.workers(list(self.fleet.machines), PERIOD), "utf-8")
        testing.parse(file.read_text("utf-8"), str(file))
        done = subprocess.run(
            [sys.executable, "-m", "workermon", "apply", str(file)],
            env=env, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr

    def _children(self, env: dict[str, str]) -> list[supervisor.Child]:
        kept = []
        for child in up.children(env, concurrency=4):
            names = [child.name] if child.name != "alerts" else ["alerts", "alerts-again"]  # two evaluators at once
            for name in names:
                argv = [part.replace("alerts-", "again-") if name == "alerts-again" else part for part in child.argv]
                self._envs[name] = dict(env)  # read anew at each start
                kept.append(supervisor.Child(name, argv, self._envs[name]))
        return kept

    # --- what strikes --------------------------------------------------------------------------------------------

    def _foresee(self) -> None:
        begin, end = float(self.begin), float(self.begin + self.seconds)
        at, order = begin, list[str]()
        while at < end - 3:
            if not order:  # each comes up once in every four, in an order that is drawn
                order = self.chance.sample(("beat", "collect", "alerts", "alerts-again"), 4)
            name = order.pop()
            self._plan.append((at, f"kill {name}", lambda name=name: self._signal(name, signal.SIGKILL)))  # type: ignore[misc]
            at += self.chance.uniform(4, 9)
        for share in (0.3, 0.7):
            self._plan.append((begin + share * self.seconds, "kill redis", lambda: self._redis(signal.SIGKILL)))
        self._between(begin + 0.5 * self.seconds, 3, "redis", self._redis)
        # Longer than a claim holds: whoever comes back finds that its fence is stale.
        self._between(begin + 0.1 * self.seconds, 17, "alerts", lambda order: self._signal("alerts", order))
        self._between(begin + 0.6 * self.seconds, 5, "collect", lambda order: self._signal("collect", order))
        # Longer than beat's lock holds.
        self._between(begin + 0.35 * self.seconds, 8, "beat", lambda order: self._signal("beat", order))
        for share, kind in ((0.15, "throttle"), (0.4, "error"), (0.55, "hang"), (0.8, "drop")):
            start = begin + share * self.seconds
            self._plan.append((start, f"AWS: {kind}", lambda kind=kind: self.aws.fail(kind)))  # type: ignore[misc]
            self._plan.append((start + 3, "AWS is well", self.aws.recover))
        self._plan.append((begin, "the receiver misbehaves", self._misbehave))
        self._plan.append((begin, "crash points", self._sow))
        self._plan.sort(key=lambda strike: strike[0])

    def _between(self, at: float, seconds: float, what: str, send: Callable[[signal.Signals], None]) -> None:
        self._plan.append((at, f"freeze {what}", lambda: send(signal.SIGSTOP)))
        self._plan.append((at + seconds, f"thaw {what}", lambda: send(signal.SIGCONT)))

    def _strike(self) -> None:
        while self._plan and self._plan[0][0] <= time.time():
            _, what, strike = self._plan.pop(0)
            strike()
            self.done.append(f"{time.time() - self.begin:6.1f} s  {what}")
            if what.startswith("kill"):
                self._sow()

    def _sow(self) -> None:
        """Have processes that start from now on die somewhere on the way."""
        for name, env in self._envs.items():
            points = CRASHES.get(name.partition("-")[0])
            if points and self.chance.random() < 0.7:
                env["WORKERMON_FAILPOINT"] = f"{self.chance.choice(points)}:{self.chance.randint(2, 20)}"

    def _misbehave(self) -> None:
        moods = random.Random(self.chance.random())  # how often it is asked depends on more than the seed

        def manner() -> pager.Manner:
            drawn = moods.random()
            return "cut" if drawn < 0.2 else "refuse" if drawn < 0.35 else 2.0 if drawn < 0.4 else "take"

        self.pager.manner = manner

    def _heal(self) -> None:
        for name, env in self._envs.items():
            env.pop("WORKERMON_FAILPOINT", None)
            self._signal(name, signal.SIGCONT)
        self._redis(signal.SIGCONT)
        self.aws.recover()
        self.pager.manner = lambda: "take"

    def _signal(self, name: str, order: signal.Signals) -> None:
        if pid := self.parts.pids.get(name):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, order)

    def _redis(self, order: signal.Signals) -> None:
        if pid := self.server.pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, order)

    # --- how it came out -----------------------------------------------------------------------------------------

    def _settled(self) -> bool:
        if max(each.clears for each in self.episodes) + 3 * PERIOD > time.time():
            return False
        with contextlib.suppress(Exception):
            return not self.kept.backlog() and not self.alerts.open() and not self._lost()
        return False

    def _lost(self) -> list[str]:
        told = {(each.key, int(_moment(each))) for each in list(self.pager.received) if each.firing}
        return [
            f"{each.key} from {each.fires - self.begin} to {each.clears - self.begin}"
            for each in self.episodes
            if each.long and (each.key, each.fires) not in told
        ]

    def _verdict(self) -> Outcome:
        real = {(each.key, each.fires): each for each in self.episodes}
        keys = sorted({each.key for each in self.pager.received})
        rung = [page for key in keys if key.endswith("/cpu-high") for page in self.pager.pages(key)]
        seen: set[tuple[str, int]] = set()
        extra, rows = [], []
        for page in rung:
            about = page.key, int(_moment(page))
            if about not in real or about in seen:
                extra.append(f"{page.key} at {about[1] - self.begin} ({page.document['status']}, {page.id})")
                continue
            seen.add(about)
            rows.append((about[1] - self.begin, page.at - about[1] - PERIOD, page.key.partition("/")[0]))
        left = [f"open: {each.rule}" for each in self.alerts.open()]
        left += [f"{key}: its last word is firing" for key in keys if self.pager.of(key)[-1].firing]
        left += [f"{self.kept.backlog()} wait"] if self.kept.backlog() else []
        wrong = [found for key in keys if (found := self._order(key))]
        table = [f"{'breach s':>9} {'page after s':>13}  worker"]
        table += [f"{at:9d} {after:13.1f}  {who}" for at, after, who in sorted(rows)]
        long = sum(each.long for each in self.episodes)
        table.append(
            f"{len(self.episodes)} episodes ({long} long), {len(rung)} pages, {len(self.pager.received)} requests "
            f"taken, {self.pager.mistreated} mistreated, {self.parts.deaths} deaths"
        )
        return Outcome(self._lost(), extra, left, wrong, table)

    def _order(self, key: str) -> str | None:
        """A repetition may come late; what is new may not come behind what is newer."""
        newest, seen = 0, set()
        for each in self.pager.of(key):
            if each.id not in seen and each.document["version"] < newest:
                return f"{key}: version {each.document['version']} after {newest}"
            seen.add(each.id)
            newest = max(newest, each.document["version"])
        return None


def _moment(received: pager.Received) -> float:
    return models.moment(received.document["at"])


def main() -> int:
    """Run one and tell."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--workers", type=int, default=300)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--mutant", choices=("apart", "marked"))
    asked = parser.parse_args()
    logs.configure("error")
    with tempfile.TemporaryDirectory(prefix="workermon-storm-") as folder:
        storm = Storm(Path(folder), workers=asked.workers, seconds=asked.seconds, seed=asked.seed, mutant=asked.mutant)
        outcome = storm.run()
        tail = (Path(folder) / "processes.log").read_text("utf-8", "replace")[-6000:]
    say = sys.stdout.write
    say("\n".join([*storm.done, *outcome.table]) + "\n")
    for name in ("lost", "extra", "left", "wrong"):
        found = getattr(outcome, name)
        say(f"{name}: {len(found)}\n" + "".join(f"  {each}\n" for each in found))
    if not outcome.well:
        sys.stderr.write(tail)
    return 0 if outcome.well else 1


if __name__ == "__main__":
    sys.exit(main())
