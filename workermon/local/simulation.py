"""A simulated fleet: its instances, their states, and their load at any time.

The load is a function of seed and time alone, so a datapoint once served never changes. Scripted incidents make alerts
fire and resolve after ``begin`` was called. Until then the fleet is calm. Tests can replay traces of their own.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from workermon.ports import Clock

EC2 = "AWS/EC2"
AGENT = "CWAgent"

#: Names of states and their codes, as EC2 returns them.
STATES = {"pending": 0, "running": 16, "shutting-down": 32, "terminated": 48, "stopping": 64, "stopped": 80}

#: Percent. Without an incident no load goes above this, below every default threshold.
MAX_NORMAL_LOAD = 76.0

_TYPES = ("g5.2xlarge", "c6i.4xlarge", "m6i.2xlarge", "t3.large")
_TEAMS = ("vfx", "anim", "comp")

Dimensions = frozenset[tuple[str, str]]
IncidentKind = Literal["cpu", "memory", "disk", "status"]


@dataclass
class Scheduled:
    """An event that EC2 has scheduled for an instance. Times are in seconds."""

    id: str
    code: str
    not_before: float
    not_after: float | None = None
    deadline: float | None = None
    description: str = ""


@dataclass(frozen=True)
class Check:
    """The result of an EC2 status check; ``impaired_since`` in seconds."""

    status: str
    impaired_since: float | None = None
    remediation: str | None = None


#: EC2's default reasons for a state.
REASONS = {
    "pending": ("pending", "pending"),
    **dict.fromkeys(
        ("stopping", "stopped", "shutting-down", "terminated"),
        ("Client.UserInitiatedShutdown", "Client.UserInitiatedShutdown: User initiated shutdown"),
    ),
}


@dataclass
class Machine:
    """One instance; ``states`` lists its states with the time of each change, newest last."""

    id: str
    name: str
    region: str
    type: str
    image: str
    launched_at: float
    tags: dict[str, str]
    detailed: bool
    states: list[tuple[float, str]]
    number: int
    #: By name, if a test has set them. Others are not in the answers.
    checks: dict[str, Check] | None = None
    #: Code and message of EC2's reason for the last change of state.
    reason: tuple[str, str] | None = None
    #: Scheduled events, as DescribeInstanceStatus lists them.
    events: list[Scheduled] = field(default_factory=list)

    @property
    def zone(self) -> str:
        """Return the availability zone: one of three."""
        return self.region + "abc"[self.number % 3]

    @property
    def state(self) -> str:
        """Return the present state."""
        return self.states[-1][1]

    def state_at(self, at: float) -> str | None:
        """Return the state at a time; ``None`` before it was launched."""
        return next((state for since, state in reversed(self.states) if since <= at), None)


@dataclass(frozen=True)
class Incident:
    """A machine is in trouble from ``start`` for ``length`` periods (both counted from the beginning).

    ``peak`` is the percentage; ``status`` ignores it.
    """

    machine: int
    kind: IncidentKind
    start: int
    length: int
    peak: float = 0.0


#: With the default rules and periods of 2 s these fire after about 10, 21, 31 and 49 s. Each resolves within 20 s of
#: that. Later incidents are random, one each ``_EVERY`` periods.
SCRIPT = (
    Incident(machine=6, kind="cpu", start=1, length=8, peak=96.0),
    Incident(machine=12, kind="status", start=8, length=8),
    Incident(machine=2, kind="memory", start=12, length=9, peak=86.0),
    Incident(machine=18, kind="cpu", start=21, length=7, peak=93.0),
)
_SCRIPTED = 32
_EVERY = 12


@dataclass
class Stream:
    """One metric of one machine with one set of dimensions; ``trace`` replaces the simulated load."""

    machine: Machine
    namespace: str
    name: str
    dimensions: tuple[tuple[str, str], ...]
    shape: str
    salt: int
    trace: list[tuple[int, float]] | None = field(default=None)


class Simulation:
    """A fleet of ``workers`` instances that publish each ``period`` seconds, and did so for ``history`` seconds before.

    A datapoint of ``t`` appears at ``t + period + delay``. Threads may read it while one thread changes it.
    """

    def __init__(
        self,
        now: Clock,
        workers: int = 25,
        *,
        period: int = 60,
        seed: int = 1,
        history: int = 3600,
        regions: Sequence[str] = ("us-east-1",),
        detailed: bool = True,
    ) -> None:
        self.now = now
        self.period = period
        #: Seconds after the end of its period that a datapoint appears.
        self.delay = 0.0
        #: The same for single metrics, by CloudWatch's name; overrides ``delay``.
        self.delays: dict[str, float] = {}
        self.machines: dict[str, Machine] = {}
        self.streams: dict[tuple[str, str, Dimensions], Stream] = {}
        self._seed = seed
        self._count = max(workers, 1)
        self._began: int | None = None
        self._chances: dict[int, Incident] = {}
        started = self._slot(now()) - history
        chance = random.Random(seed)
        for number in range(workers):
            self._add(
                Machine(
                    id=f"i-{chance.getrandbits(68):017x}",
                    name=f"render-{number + 1:02d}",
                    region=regions[number % len(regions)],
                    type=_TYPES[number % len(_TYPES)],
                    image="ami-0" + f"{seed:016x}",
                    launched_at=started,
                    tags={"Name": f"render-{number + 1:02d}", "Role": "render", "Team": _TEAMS[number % len(_TEAMS)]},
                    detailed=detailed,
                    states=[(started, "running")],
                    number=number,
                )
            )

    # --- what a script or a test does to it

    def begin(self) -> None:
        """Start the scripted incidents now. A second call changes nothing."""
        if self._began is None:
            self._began = self._slot(self.now())

    def launch(self, tags: Mapping[str, str], region: str = "us-east-1") -> str:
        """Launch an instance with these tags; return its id. It is pending: ``set_state`` lets it run."""
        number = max((machine.number for machine in self.machines.values()), default=-1) + 1
        chance = random.Random(f"{self._seed}/{number}/{len(self.streams)}")
        machine = Machine(
            id=f"i-{chance.getrandbits(68):017x}",
            name=tags.get("Name", ""),
            region=region,
            type=_TYPES[number % len(_TYPES)],
            image="ami-0" + f"{self._seed:016x}",
            launched_at=self._slot(self.now()),
            tags=dict(tags),
            detailed=True,
            states=[(self.now(), "pending")],
            number=number,
        )
        self._add(machine)
        return machine.id

    def set_state(self, instance_id: str, state: str, reason: tuple[str, str] | None = None) -> None:
        """Put an instance into a state (of ``STATES``) from now on. It publishes only while ``running``.

        ``reason`` is code and message of EC2's reason for it. Without it the user changed the state.
        """
        if state not in STATES:
            raise ValueError(f"{state!r} is none of {', '.join(STATES)}")
        self.machines[instance_id].states.append((self.now(), state))
        self.machines[instance_id].reason = reason or REASONS.get(state)

    def schedule(
        self,
        instance_id: str,
        code: str,
        not_before: float,
        not_after: float | None = None,
        *,
        deadline: float | None = None,
        description: str = "",
    ) -> Scheduled:
        """Schedule an event for an instance, as EC2 does days ahead. The event may be changed afterwards."""
        machine = self.machines[instance_id]
        number = machine.number * 100 + len(machine.events)
        event = Scheduled(f"instance-event-{number:017x}", code, not_before, not_after, deadline, description)
        machine.events.append(event)
        return event

    def set_checks(
        self, instance_id: str, system: str | None = None, instance: str = "ok", **other_checks: str | Check
    ) -> None:
        """Fix the status checks of an instance. Without arguments they follow the simulation again.

        ``other_checks`` are ``attached_ebs``, ``application`` and ``performance``. One that is not given is not in the
        answer.
        """
        statuses = {} if system is None else {"system": system, "instance": instance, **other_checks}
        checks = {name: Check(check) if isinstance(check, str) else check for name, check in statuses.items()}
        self.machines[instance_id].checks = checks or None

    def forget(self, instance_id: str) -> None:
        """Make EC2 forget an instance, as it does an hour after a termination. The metrics stay."""
        del self.machines[instance_id]

    def replay(
        self,
        instance_id: str,
        metric_name: str,
        points: Iterable[tuple[float, float]],
        *,
        namespace: str = EC2,
        dimensions: Iterable[tuple[str, str]] | None = None,
    ) -> None:
        """Serve these ``(timestamp, value)`` pairs instead of the simulated load. Each appears when it is due.

        Without ``dimensions`` they apply to every stream of that metric, or to a new one with the instance id only.
        """
        trace = sorted((int(at), float(value)) for at, value in points)
        if dimensions is not None:
            streams = [self._stream(instance_id, namespace, metric_name, tuple(dimensions))]
        else:
            streams = [
                stream
                for stream in self.streams.values()
                if (stream.machine.id, stream.namespace, stream.name) == (instance_id, namespace, metric_name)
            ] or [self._stream(instance_id, namespace, metric_name, (("InstanceId", instance_id),))]
        for stream in streams:
            stream.trace = trace

    # --- what AWS would say

    def status(self, machine: Machine) -> dict[str, Check]:
        """Return the present status checks by name. Every other machine has the performance check."""
        if machine.state == "running" and machine.checks:
            return machine.checks
        outcome = {"running": "ok", "pending": "initializing"}.get(machine.state, "not-applicable")
        checks = {name: Check(outcome) for name in ("system", "instance", "attached_ebs", "application")}
        if machine.number % 2:
            checks["performance"] = Check(outcome)
        slot = self._slot(self.now())
        if machine.state == "running" and (incident := self._incident(machine, "status", slot)):
            checks["instance"] = Check("impaired", self._start(incident))
        return checks

    def _start(self, incident: Incident) -> float:
        return (self._began or 0) + incident.start * self.period

    def points(self, stream: Stream, since: float, until: float) -> Iterator[tuple[int, float]]:
        """Yield the datapoints of a stream that have appeared by now, ``since`` included, ``until`` not, in order."""
        appeared = self.now() - self.period - self.delays.get(stream.name, self.delay)
        if stream.trace is not None:
            yield from ((at, value) for at, value in stream.trace if since <= at < until and at <= appeared)
            return
        at = max(math.ceil(since / self.period) * self.period, self._slot(stream.machine.states[0][0]))
        last = min(math.ceil(until) - 1, appeared)
        always = len(stream.machine.states) == 1 and stream.machine.state == "running"
        while at <= last:
            if always or stream.machine.state_at(at) == "running":
                yield at, self._value(stream, at)
            at += self.period

    # --- the load

    def _slot(self, at: float) -> int:
        return int(at // self.period) * self.period

    def _value(self, stream: Stream, at: int) -> float:
        return round(self._load(stream, at), 2)

    def _load(self, stream: Stream, at: int) -> float:
        slot = at // self.period
        if stream.shape == "cpu":
            return self._cpu(stream.machine, slot)
        if stream.shape == "memory":
            incident = self._incident(stream.machine, "memory", at)
            calm = self._wave(stream.salt, slot, low=25.0, span=45.0, length=90)
            return incident.peak + self._noise(stream.salt, slot) if incident else calm
        if stream.shape == "disk":
            incident = self._incident(stream.machine, "disk", at)
            calm = 30.0 + stream.salt % 30 + slot % 2000 / 100
            return incident.peak + self._noise(stream.salt, slot) if incident else calm
        if stream.shape == "tmpfs":
            return 1.0 + stream.salt % 3 + self._noise(stream.salt, slot) / 4
        if stream.shape == "full":
            return 100.0
        if stream.shape == "credits":
            return round(500.0 + 60.0 * math.sin(slot / 200 + stream.salt))
        # Bytes: network traffic follows the machine's load.
        busy = self._cpu(stream.machine, slot) + 2.0 * self._noise(stream.salt, slot)
        return float(int(abs(busy) * self.period * (2000 + stream.salt % 9000)))

    def _cpu(self, machine: Machine, slot: int) -> float:
        salt = machine.number * 7919
        incident = self._incident(machine, "cpu", slot * self.period)
        if incident:
            return incident.peak + self._noise(salt, slot)
        return self._wave(salt, slot, low=8.0, span=55.0, length=45)

    def _wave(self, salt: int, slot: int, *, low: float, span: float, length: int) -> float:
        """Two waves and some noise; ``length`` is in periods, the result at most ``MAX_NORMAL_LOAD``."""
        phase = self._hash(salt, -1) * math.tau
        slow = math.sin(math.tau * slot / (length + salt % 29) + phase)
        fast = math.sin(math.tau * slot / (7 + salt % 5) + 2.0 * phase)
        base = low + span * (0.2 + 0.6 * self._hash(salt, -2))
        value = base + span * (0.28 * slow + 0.08 * fast) + 1.5 * self._noise(salt, slot)
        return min(max(value, 0.5), MAX_NORMAL_LOAD)

    def _noise(self, salt: int, slot: int) -> float:
        return 2.0 * self._hash(salt, slot) - 1.0

    def _hash(self, salt: int, slot: int) -> float:
        """Return a number from 0 to 1 that depends only on seed, salt and slot (a step of SplitMix64)."""
        mixed = (self._seed * 0x9E3779B97F4A7C15 + salt * 0xD1B54A32D192ED03 + slot * 0x8CB92BA72F3D8DD7) & _WORD
        mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & _WORD
        mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & _WORD
        return (mixed ^ (mixed >> 31)) / _WORD

    def _incident(self, machine: Machine, kind: IncidentKind, at: int) -> Incident | None:
        if self._began is None or at <= self._began:
            return None
        since = (at - self._began) // self.period
        candidates = SCRIPT if since < _SCRIPTED else (self._chance((since - _SCRIPTED) // _EVERY),)
        for incident in candidates:
            if (
                incident.kind == kind
                and incident.machine % self._count == machine.number
                and incident.start <= since < incident.start + incident.length
            ):
                return incident
        return None

    def _chance(self, number: int) -> Incident:
        incident = self._chances.get(number)
        if incident is None:
            chance = random.Random(self._seed * 1_000_003 + number)
            kind: IncidentKind = chance.choice(("cpu", "cpu", "memory", "disk", "status"))
            incident = self._chances[number] = Incident(
                machine=chance.randrange(10_000),
                kind=kind,
                start=_SCRIPTED + number * _EVERY,
                length=chance.randint(6, 9),
                peak=chance.choice((85.0, 94.0, 97.0)) if kind != "disk" else 93.0,
            )
        return incident

    # --- what is published

    def _add(self, machine: Machine) -> None:
        self.machines[machine.id] = machine
        instance = (("InstanceId", machine.id),)
        for name, shape in (
            ("CPUUtilization", "cpu"),
            ("NetworkIn", "bytes"),
            ("NetworkOut", "bytes"),
            ("DiskReadBytes", "bytes"),
            ("DiskWriteBytes", "bytes"),
        ):
            self._publish(machine, EC2, name, instance, shape)
        if machine.type.startswith("t"):
            self._publish(machine, EC2, "CPUCreditBalance", instance, "credits")
        # Named as the CloudWatch agent does with its wizard's configuration.
        agent = (("InstanceId", machine.id), ("ImageId", machine.image), ("InstanceType", machine.type))
        self._publish(machine, AGENT, "mem_used_percent", agent, "memory")
        disks = [("/", "nvme0n1p1", "xfs", "disk"), ("/run", "tmpfs", "tmpfs", "tmpfs")]
        if machine.number % 2:
            disks.append(("/data", "nvme1n1", "ext4", "disk"))
        if machine.number % 3 == 0:
            disks.append(("/snap/core20/2318", "loop0", "squashfs", "full"))  # always full, which is normal
        for path, device, kind, shape in disks:
            place = (*agent, ("path", path), ("device", device), ("fstype", kind))
            self._publish(machine, AGENT, "disk_used_percent", place, shape)

    def _publish(
        self, machine: Machine, namespace: str, name: str, dimensions: tuple[tuple[str, str], ...], shape: str
    ) -> Stream:
        salt = machine.number * 101 + len(self.streams)
        stream = Stream(machine, namespace, name, dimensions, shape, salt)
        self.streams[namespace, name, frozenset(dimensions)] = stream
        return stream

    def _stream(self, instance_id: str, namespace: str, name: str, dimensions: tuple[tuple[str, str], ...]) -> Stream:
        stream = self.streams.get((namespace, name, frozenset(dimensions)))
        return stream or self._publish(self.machines[instance_id], namespace, name, dimensions, "full")


_WORD = (1 << 64) - 1
