"""The roles in a storm: rules of every kind, their workers, and the expected notifications.

All workers have ``cpu-high``. Some, spread over the fleet, belong to pools, racks and the like, which the other rules
are about. ``Parts`` says which: it needs no time. ``Casting`` generates their loads for a begin that is known, so plain
loops know the result of each rule.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Mapping, Sequence
from typing import Self

from tests.faults import plain
from tests.faults.plain import Episode, Expected, Points

CPU = "CPUUtilization"

#: Seconds between two datapoints, and between two collections of a worker.
PERIOD = 2
#: Seconds. An episode this long is there when an outage of everything, restarts included, is over; a shorter one may
#: be over before anybody could see it, and is then in the history only.
LONG = 50
#: Seconds that an alert of these rules goes on before it escalates. Who acknowledges has the longer time.
SOON, LATER = 6, 25
#: Seconds beside both, in which an escalation that is due is seen.
SLACK = 15

#: How many workers a part has; at least so many of a pool make ``pool-hot``.
POOL, RACK, NETWORK, WARM, SPOT, HOT = 6, 7, 4, 4, 3, 3

#: Megabits a second, and percent, above which the rules fire.
MEGABITS, WARMTH, LOAD = 80.0, 85.0, 70.0

#: What is collected.
METRICS = ("cpu_utilization", "network_in", "network_out")

#: Of the rules below and ``cpu-high``, those whose alerts a storm compares; others are about the monitor itself.
COMPARED = frozenset(("cpu-high", "pool-hot", "pool-load", "net-high", "both", "cpu-warm", "odd", "spot"))


def rule_of(key: str) -> str:
    """Return the rule of an alert."""
    return key.rpartition("/")[2]


def rules(queue_url: str) -> str:
    """Return the sections of the file, beside ``cpu-high`` and the channels, with the queue of events."""
    return f"""
[[rules]]
name = "pool-hot"
metric = "cpu_utilization"
over = {{ by = "pool", count = "{HOT} of {POOL}" }}
above = {{ critical = 90 }}
notify = ["ops"]
escalate = [{{ after = "{SOON}s", notify = ["boss"] }}]

[[rules]]
name = "pool-load"
metric = "cpu_utilization"
over = {{ by = "pool", aggregate = "avg" }}
above = {{ critical = {LOAD} }}
breach = "1 of 1"
notify = ["ops"]

[[rules]]
name = "net-high"
metric = "(network_in + network_out) * 8 / period / 1e6"
unit = "Mbit/s"
above = {{ critical = {MEGABITS} }}
labels = {{ part = "net" }}
notify = ["ops"]
escalate = [{{ after = "{LATER}s", notify = ["boss"] }}]

[[rules]]
name = "both"
when = "cpu-high and net-high"
labels = {{ part = "net" }}
notify = ["ops"]
escalate = [{{ after = "{SOON}s", notify = ["boss"] }}]

[[rules]]
name = "cpu-warm"
metric = "cpu_utilization"
above = {{ critical = {WARMTH} }}
labels = {{ part = "warm" }}
inhibited_by = ["cpu-high"]
notify = ["ops"]

[[rules]]
name = "odd"
metric = "cpu_utilization"
outlier = {{ by = "rack", beyond = 4 }}
notify = ["ops"]

[[rules]]
name = "spot"
metric = "event"
codes = ["spot-interruption"]
notify = ["ops"]

[[metrics]]
name = "network_in"
period = "{PERIOD}s"
[[metrics]]
name = "network_out"
period = "{PERIOD}s"

[events.main]
queue_url = "{queue_url}"
"""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The instances of each part, by id."""

    pools: Mapping[str, Sequence[str]]
    rack: Sequence[str]
    network: Sequence[str]
    warm: Sequence[str]
    spot: Sequence[str]

    @classmethod
    def of(cls, ids: Sequence[str]) -> Self:
        """Give parts to instances that are far apart in the fleet. All others have none."""
        chosen = iter(ids[:: max(1, len(ids) // (2 * POOL + RACK + NETWORK + WARM + SPOT))])
        return cls(
            pools={name: [next(chosen) for _ in range(POOL)] for name in ("a", "b")},
            rack=[next(chosen) for _ in range(RACK)],
            network=[next(chosen) for _ in range(NETWORK)],
            warm=[next(chosen) for _ in range(WARM)],
            spot=[next(chosen) for _ in range(SPOT)],
        )

    def labels(self) -> dict[str, dict[str, str]]:
        """Return the labels by instance."""
        of_pools = {worker_id: {"pool": name} for name, ids in self.pools.items() for worker_id in ids}
        return (
            of_pools
            | {worker_id: {"rack": "r"} for worker_id in self.rack}
            | {worker_id: {"part": "net"} for worker_id in self.network}
            | {worker_id: {"part": "warm"} for worker_id in self.warm}
        )


@dataclasses.dataclass(slots=True)
class Roles:
    """The roles of some instances. ``traces`` (by CloudWatch's metric name) are by instance.

    ``acknowledged`` are the alerts that somebody acknowledges as soon as they notify. ``warnings`` are the episodes of
    Spot interruptions by instance: they begin with the warning and end with the instance.
    """

    expected: list[Expected] = dataclasses.field(default_factory=list)
    traces: dict[str, dict[str, Points]] = dataclasses.field(default_factory=dict)
    acknowledged: set[str] = dataclasses.field(default_factory=set)
    warnings: dict[str, Episode] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Casting:
    """Draws the parts: ``times`` are those of the datapoints, the storm lasts ``seconds`` from ``begin`` on."""

    chance: random.Random
    times: range
    begin: int
    seconds: int

    def cast(self, parts: Parts) -> Roles:
        """Return the loads of all parts, and what they have to notify of."""
        roles = Roles()
        for (name, ids), hot in zip(parts.pools.items(), (POOL - 1, HOT), strict=True):
            self._pool(roles, name, hot, ids)
        self._rack(roles, parts.rack)
        for number, worker_id in enumerate(parts.network):
            self._network(roles, worker_id, acknowledged=number % 2 == 0)
        for number, worker_id in enumerate(parts.warm):
            self._warm(roles, worker_id, outlasts=number % 2 == 0)
        for worker_id in parts.spot:
            self._spot(roles, worker_id)
        return roles

    def _pool(self, roles: Roles, value: str, hot: int, ids: Sequence[str]) -> None:
        """Make some workers of a pool hot together. All but one are also hot by their mean; half are not."""
        start, length = self._start(45), LONG + SOON + SLACK + 8
        for number, member_id in enumerate(ids):
            calm = self._values(5, 30)
            cpu = self._plateau(calm, start + number * PERIOD, length, 91, 100) if number < hot else calm
            roles.traces[member_id] = {CPU: cpu}
        traces = [roles.traces[worker_id][CPU] for worker_id in ids]
        about = f"group:pool={value}"
        members = [plain.truth("", points) for points in traces]
        self._escalating(roles, plain.counted(f"{about}/pool-hot", members, HOT), SOON)
        self._notified(roles, plain.truth(f"{about}/pool-load", plain.mean(traces), above=LOAD, breach=1))

    def _rack(self, roles: Roles, ids: Sequence[str]) -> None:
        """Make a rack change together, except for one worker."""
        together = self._values(20, 50)
        for number, worker_id in enumerate(ids):
            cpu: Points = [(at, value + self.chance.uniform(-4, 4)) for at, value in together]
            if number == 0:
                inside = self._span(self._start(45), LONG + 10)
                cpu = [(at, value + 30 if at in inside else value) for at, value in cpu]
            roles.traces[worker_id] = {CPU: cpu}
        traces = [roles.traces[worker_id][CPU] for worker_id in ids]
        for worker_id, trace in zip(ids, traces, strict=True):
            self._notified(roles, plain.truth(f"{worker_id}/odd", plain.distances(trace, traces), above=4.0))

    def _network(self, roles: Roles, worker_id: str, *, acknowledged: bool) -> None:
        """Have the network of a worker busy, and soon its processor."""
        start, length = self._start(52), LONG + LATER + SLACK + 4
        calm = self._values(1e5, 4e5)
        into = self._plateau(calm, start, length, 12e6, 15e6)
        out = self._plateau(self._values(1e5, 4e5), start, length, 9e6, 11e6)
        cpu = self._plateau(self._values(5, 80), start + 6, length - 12, 91, 100)
        roles.traces[worker_id] = {CPU: cpu, "NetworkIn": into, "NetworkOut": out}
        megabits = [
            (at, (received + sent) * 8 / PERIOD / 1e6) for (at, received), (_, sent) in zip(into, out, strict=True)
        ]
        busy = plain.truth(f"{worker_id}/net-high", megabits, above=MEGABITS)
        roles.acknowledged |= {page.key for page in busy if acknowledged}
        self._escalating(roles, busy, LATER)
        hot = plain.truth("", cpu)
        self._escalating(roles, plain.overlap(f"{worker_id}/both", hot, busy), SOON)

    def _warm(self, roles: Roles, worker_id: str, *, outlasts: bool) -> None:
        """Have a worker hot and warm at once, then cold, or first warm for a while: only then is that notified."""
        start, hot = self._start(45), 20 if outlasts else LONG + 10
        cpu = self._plateau(self._values(5, 70), start, hot, 91, 100)
        if outlasts:
            cpu = self._plateau(cpu, start + hot, LONG + 10, 86, 89)
        roles.traces[worker_id] = {CPU: cpu}
        warm = plain.truth(f"{worker_id}/cpu-warm", cpu, above=WARMTH)
        for episode, begin in plain.uninhibited(warm, plain.truth("", cpu)).items():
            if begin is not None:
                roles.expected.append(Expected(episode, "ops", episode.clears - begin >= LONG, not_before=begin))

    def _spot(self, roles: Roles, worker_id: str) -> None:
        """Warn an instance after Redis died for the last time, because the queue does not repeat a lost warning."""
        at = self.begin + int(self.seconds * self.chance.uniform(0.8, 0.95))
        roles.traces[worker_id] = {CPU: self._values(5, 80)}
        roles.warnings[worker_id] = Episode(f"{worker_id}/spot", at, at + LONG)
        self._notified(roles, [roles.warnings[worker_id]])

    def _notified(self, roles: Roles, episodes: Sequence[Episode]) -> None:
        roles.expected += [Expected(episode, "ops", episode.clears - episode.fires >= LONG) for episode in episodes]

    def _escalating(self, roles: Roles, episodes: Sequence[Episode], after: int) -> None:
        self._notified(roles, episodes)
        for episode in episodes:
            lasts = episode.clears - episode.fires >= LONG + after + SLACK
            must = lasts and episode.key not in roles.acknowledged
            roles.expected.append(Expected(episode, "boss", must, escalates=True))

    # --- loads -------------------------------------------------------------------------------------------------------

    def _values(self, low: float, high: float) -> Points:
        return [(at, self.chance.uniform(low, high)) for at in self.times]

    def _start(self, before: int) -> int:
        """Return a time of the storm that lies so many seconds before its end, or at its begin."""
        return self.begin + self.chance.randrange(0, max(self.seconds - before, PERIOD))

    def _plateau(self, points: Points, start: int, seconds: int, low: float, high: float) -> Points:
        inside = self._span(start, seconds)
        return [(at, self.chance.uniform(low, high) if at in inside else value) for at, value in points]

    def _span(self, start: int, seconds: int) -> range:
        begin = start // PERIOD * PERIOD
        return range(begin, begin + seconds)
