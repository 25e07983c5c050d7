"""Backtest: evaluates recorded datapoints by the rules of a file.

The rule's kind evaluates it. This module only passes the datapoints on, and pairs the transitions into episodes.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from pydantic import Field

from workermon import errors, models, ports, rules
from workermon.alerts import peer_groups
from workermon.rules import group_replay
from workermon.views import recorded
from workermon.views.document import Document, Time
from workermon.views.history import WorkerName


class Episode(Document):
    """An episode of an alert; its times are those of the deciding datapoints.

    ``severity`` is the worst that it reached, ``end`` is null while it is open. ``peak`` is the value furthest beyond
    the threshold while it fired, null if every slot of it was absent; ``unit`` is that of the peak, and not in JSON.
    """

    rule: str
    worker: str | None
    severity: models.Severity
    begin: Time = Field(serialization_alias="from")
    end: Time | None = Field(serialization_alias="to")
    peak: float | None
    unit: str = Field(default="count", exclude=True)


class EpisodeList(Document):
    """Episodes in order of time."""

    episodes: tuple[Episode, ...]


#: What to do about a rule that a trace of one metric cannot decide.
_OF_SEVERAL = "replay it from the ledger: leave --csv out"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """One rule over the recorded datapoints of one worker (``None``: a trace has no worker), and its episodes.

    ``segments`` are consecutive, each with a period of its own; ``unit`` is that of their values. A rule over other
    rules has none. ``evaluated`` has the first and the last second evaluated, ``None`` if there was nothing.
    """

    rule: models.Rule
    worker: WorkerName | None
    unit: str
    segments: tuple[models.Series, ...]
    episodes: tuple[Episode, ...]
    evaluated: tuple[int, int] | None = None

    @property
    def points(self) -> tuple[models.Datapoint, ...]:
        """Return the datapoints of all segments."""
        return tuple(point for segment in self.segments for point in segment.points)


class Recording(NamedTuple):
    """Facts beside the recorded datapoints; times in seconds.

    Slots up to ``until`` are expected (``None``: up to the last datapoint). ``started`` are the known times at which
    the worker started running, in order. ``peers`` are the workers that it is compared with.
    """

    until: int | None = None
    started: tuple[float, ...] = ()
    peers: rules.PeerGroup = rules.PeerGroup()


NOTHING_KNOWN = Recording()


def worker_name(record: ports.Record) -> WorkerName:
    """Return a worker's name in a replay."""
    return WorkerName(id=record.worker.id, name=record.worker.name)


def together(replays: Iterable[Replay]) -> EpisodeList:
    """Return the episodes of all replays."""
    episodes = [episode for replayed in replays for episode in replayed.episodes]
    return EpisodeList(
        episodes=tuple(sorted(episodes, key=lambda episode: (episode.begin, episode.rule, episode.worker or "")))
    )


def metrics_of(rule: models.Rule) -> tuple[str, ...]:
    """Return the metrics whose datapoints a rule needs."""
    return rules.KINDS[rule.kind].metrics(rule)


def needed_metrics(rule: models.Rule, configuration: models.Configuration) -> tuple[str, ...]:
    """Return the metrics whose datapoints decide a rule: its own, and those of the rules that it depends on."""
    return rules.needed_metrics(rule, configuration.rules)


def for_labels(rule: models.Rule, labels: Mapping[str, str]) -> models.Rule:
    """Return a rule for a worker with these labels."""
    return rules.KINDS[rule.kind].for_worker(rule, labels)


def over_metrics(
    configuration: models.Configuration, metric: str | None = None, *, groups: bool = False
) -> list[models.Rule]:
    """Return the rules over datapoints, which can be replayed; with ``metric``, only those over it.

    Rules over groups need the datapoints of a whole fleet. They are left out unless ``groups``.
    """
    candidates = [rule for rule in configuration.rules if groups or not _over_groups(rule)]
    needed = ((rule, needed_metrics(rule, configuration)) for rule in candidates)
    return [rule for rule, metrics in needed if metrics and metric in (None, *metrics)]


def _over_groups(rule: models.Rule) -> bool:
    """Return whether a rule needs the datapoints of a group: it is over one, or compares workers with it."""
    kind = rules.KINDS[rule.kind]
    return kind.group_by(rule) is not None or kind.compares_by(rule) is not None


def rules_for(configuration: models.Configuration, metric: str | None, source: str) -> list[models.Rule]:
    """Return the rules over the metric of a trace.

    If ``metric`` is ``None``, it is the one that all rules are about, or the one that occurs in ``source`` (the name of
    the trace). Raises ``errors.NotFound`` if no rule is about that metric, and ``errors.InvalidInput`` if the metric is
    ambiguous or if all matching rules need other metrics too.
    """
    needed = {rule.name: needed_metrics(rule, configuration) for rule in over_metrics(configuration)}
    replayed = [rule for rule in configuration.rules if len(needed.get(rule.name, ())) == 1]
    several = over_several(configuration, metric)
    metrics = list(dict.fromkeys(needed[rule.name][0] for rule in replayed))
    if several and (not metrics or (metric is not None and metric not in metrics)):
        raise errors.InvalidInput(source, f"has one metric, and rule {several[0]}", _OF_SEVERAL)
    if metric is None:
        candidates = metrics if len(metrics) == 1 else [name for name in metrics if name in source]
        if len(candidates) != 1:
            reason = "the rules are about several metrics" if metrics else "no rule is about a metric"
            todo = f"add --metric, one of {', '.join(metrics)}" if metrics else "add a [[rules]] with a threshold"
            raise errors.InvalidInput(source, reason, todo)
        metric = candidates[0]
    if metric not in metrics:
        raise errors.NotFound(f"metric {metric}", "no rule of the file is about it", errors.nearest(metric, metrics))
    return [rule for rule in replayed if needed[rule.name] == (metric,)]


def over_several(configuration: models.Configuration, metric: str | None = None) -> list[str]:
    """Return name and metrics of each rule over several metrics that include ``metric``."""
    return [
        f"{rule.name} is over {' and '.join(metrics)}"
        for rule in over_metrics(configuration, metric)
        if len(metrics := needed_metrics(rule, configuration)) > 1
    ]


def episodes(
    rule: models.Rule,
    segments: Sequence[models.Series],
    *,
    recording: Recording = NOTHING_KNOWN,
    kinds: rules.Kinds = rules.KINDS,
    unit: str = "count",
) -> list[Episode]:
    """Return the episodes of a rule over datapoints, in order of time.

    ``segments`` are consecutive, each with a period of its own. Slots before the first datapoint are not expected.
    ``unit`` is that of the values. A warm-up begins only at a known start of the worker.
    """
    kind, rule_state, until = kinds[rule.kind], models.RuleState(), recording.until
    all_transitions: list[models.Transition] = []
    points = [point for segment in segments for point in segment.points]
    for place, (period, segment_points) in enumerate(segments):
        if not segment_points:
            continue
        last = place == len(segments) - 1
        newest = max(segment_points[-1].at, until) if last and until is not None else segment_points[-1].at
        begin = segment_points[0].at // period * period
        for run in _runs(rule, recording.started, range(begin, newest + 1, period)):
            series = models.Series(period, tuple(point for point in segment_points if point.at < run.end + period))
            facts = rules.Facts.recorded(rule.metric or "", series, run.begin, lambda _: unit)
            facts = dataclasses.replace(
                facts, peers=recording.peers, lateness=0 if recording.peers.by else facts.lateness
            )
            rule_state, transitions = kind.judge(run.rule, rule_state, facts, rules.Horizon.until(run.end, period))
            all_transitions += transitions
    return [
        episode.model_copy(
            update={"peak": kind.peak(rule, [value for at, value in points if _within(at, episode)]), "unit": unit}
        )
        for episode in _paired(rule, all_transitions)
    ]


class _Run(NamedTuple):
    """Slots up to ``end`` while the worker has been running since ``begin``, and its rule there."""

    rule: models.Rule
    begin: int
    end: int


def _runs(rule: models.Rule, started: Sequence[float], slots: range) -> Iterator[_Run]:
    """Yield the runs of a worker among slots, in order; a single one if the rule has no warm-up."""
    plain, since, begin = rule.without_warmup(), None, slots.start
    newest = slots[-1] if slots else begin
    for at in started if rule.warmup is not None else ():
        start = math.ceil(at)
        if start > newest:
            break
        if start > begin and (before := start // slots.step * slots.step - slots.step) >= begin:
            yield _run(rule, plain, since, begin, before)
        since = start
    yield _run(rule, plain, since, begin, newest)


def _run(rule: models.Rule, plain: models.Rule, since: int | None, begin: int, end: int) -> _Run:
    if since is None or since + (rule.warmup or 0) <= begin:
        return _Run(plain, begin, end)
    return _Run(rule, since, end)


def replay(
    rule: models.Rule,
    segments: Sequence[models.Series],
    configuration: models.Configuration,
    *,
    worker: WorkerName | None = None,
    recording: Recording = NOTHING_KNOWN,
) -> Replay:
    """Return a rule over the datapoints of a worker; its kind and the metric's unit come from the configuration."""
    unit = rules.KINDS[rule.kind].unit(rule, configuration)
    fired = episodes(rule, segments, recording=recording, unit=unit)
    return Replay(
        rule=rule,
        worker=worker,
        unit=unit,
        segments=tuple(segments),
        episodes=tuple(episode.model_copy(update={"worker": worker.id if worker else None}) for episode in fired),
        evaluated=_recorded_span(segments, recording.until),
    )


def _recorded_span(segments: Sequence[models.Series], until: int | None) -> tuple[int, int] | None:
    """Return the first and the last second of the segments' slots; ``None`` if there are no datapoints."""
    filled = [segment for segment in segments if segment.points]
    if not filled:
        return None
    first, last = filled[0], filled[-1]
    newest = max(last.points[-1].at, until or 0) // last.period * last.period
    return first.points[0].at // first.period * first.period, newest + last.period - 1


def replay_over_others(
    rule: models.Rule,
    configuration: models.Configuration,
    replay_of: Callable[[models.Rule], Replay | None],
    *,
    worker: WorkerName | None = None,
) -> Replay:
    """Return a rule that depends on other rules, from their replays.

    ``replay_of`` returns that of a rule; ``None`` if it does not apply or nothing is recorded. Then it counts as not
    firing, as in an evaluation.
    """
    names = rules.KINDS[rule.kind].operands(rule)
    replays = {operand.name: replay_of(operand) for operand in configuration.rules if operand.name in names}
    spans = [run.evaluated for run in replays.values() if run is not None and run.evaluated is not None]
    if not spans:
        return Replay(rule=rule, worker=worker, unit="count", segments=(), episodes=())
    begin, end = min(begin for begin, _ in spans), max(end for _, end in spans)
    facts = rules.Facts(
        condition=models.Condition(status="running", running_since=begin),
        states={name: _operand_state(run) for name, run in replays.items()},
    )
    _, transitions = rules.KINDS[rule.kind].judge(rule, models.RuleState(start=begin), facts, None)
    paired = _paired(rule, transitions)
    return Replay(
        rule=rule,
        worker=worker,
        unit="count",
        segments=(),
        episodes=tuple(episode.model_copy(update={"worker": worker.id if worker else None}) for episode in paired),
        evaluated=(begin, end),
    )


def over_trace(
    configuration: models.Configuration, metric: str, series: models.Series, *, worker: WorkerName | None = None
) -> tuple[Replay, ...]:
    """Return the rules that one metric alone decides over a recorded series, whatever labels they require."""
    rules_of_metric = over_metrics(configuration, metric)

    def replay_of(rule: models.Rule) -> Replay | None:
        if needed_metrics(rule, configuration) != (metric,):
            return None
        if not metrics_of(rule):
            return replay_over_others(rule, configuration, replay_of, worker=worker)
        worker_rule = for_labels(rule, {})
        segments = recorded.compared(worker_rule, {metric: [series]}, configuration.statistic_of)
        return replay(worker_rule, segments, configuration, worker=worker)

    return tuple(replayed for rule in rules_of_metric if (replayed := replay_of(rule)) is not None)


def _operand_state(replayed: Replay | None) -> rules.OperandState:
    """Return another rule's view of a replayed one."""
    if replayed is None or replayed.evaluated is None:
        return rules.OperandState(not_applied="nothing is recorded")
    changes = list[models.SeverityChange]()
    for episode in replayed.episodes:
        changes.append(models.SeverityChange(math.floor(episode.begin), episode.severity, 0))
        if episode.end is not None:
            changes.append(models.SeverityChange(math.floor(episode.end), None, 0))
    return rules.OperandState(changes=tuple(changes), known_until=replayed.evaluated[1])


def _paired(rule: models.Rule, transitions: Sequence[models.Transition]) -> list[Episode]:
    paired: list[Episode] = []
    begin: int | None = None
    worst: models.Severity = "warning"
    for transition in transitions:
        if transition.after is not None:
            if begin is None:
                begin, worst = transition.at, transition.after
            worst = max(worst, transition.after, key=models.SEVERITIES.index)
        elif begin is not None:
            paired.append(_episode(rule, worst, begin, transition.at))
            begin = None
    if begin is not None:
        paired.append(_episode(rule, worst, begin, None))
    return paired


def _episode(rule: models.Rule, worst: models.Severity, begin: int, end: int | None) -> Episode:
    return Episode(rule=rule.name, worker=None, severity=worst, begin=begin, end=end, peak=None)


def _within(at: int, episode: Episode) -> bool:
    return episode.begin <= at and (episode.end is None or at < episode.end)


def started(condition: models.Condition) -> tuple[float, ...]:
    """Return the known times at which a worker started running, in order."""
    starts = [change.at for change in condition.changes if change.status == "running"]
    since = () if condition.running_since is None else (condition.running_since,)
    return tuple(sorted({*starts, *since}))


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LedgerBacktest:
    """Replays rules over the ledger."""

    samples: ports.Samples
    workers: ports.Workers
    now: ports.Clock

    def replay(
        self, records: Sequence[ports.Record], rule: models.Rule, configuration: models.Configuration
    ) -> tuple[Replay, ...]:
        """Return, by the name of each worker that a rule applies to, its datapoints in the ledger and the episodes.

        For a rule over groups it is the episodes of each group of these workers, by its value, without datapoints.
        """
        ordered = sorted(records, key=lambda record: (record.worker.name, record.worker.id))
        by = rules.KINDS[rule.kind].group_by(rule)
        if by is not None:
            groups: dict[str, list[ports.Record]] = {}
            for record in ordered:
                if rule.applies_to(record.worker) and by in record.worker.labels:
                    groups.setdefault(record.worker.labels[by], []).append(record)
            by_value = {value: self._replay_group(groups[value], rule, configuration) for value in sorted(groups)}
            return tuple(_of_group(rule, by, value, run, configuration) for value, run in by_value.items())
        if rules.KINDS[rule.kind].compares_by(rule) is not None:
            return tuple(self._compared(ordered, rule, configuration))
        return tuple(self._replay(record, rule, configuration) for record in ordered if rule.applies_to(record.worker))

    def _compared(
        self, records: Sequence[ports.Record], rule: models.Rule, configuration: models.Configuration
    ) -> Iterator[Replay]:
        """Yield the replay of each worker with its whole group, whether or not the whole group is requested."""
        by, groups = rules.KINDS[rule.kind].compares_by(rule) or "", dict[str, rules.PeerGroup]()
        fleet = list(self.workers.every())
        for record in records:
            value = record.worker.labels.get(by)
            if value is None or not rule.applies_to(record.worker):
                continue
            if value not in groups:
                groups[value] = self._peers(rule, value, fleet, configuration)
            segments, until = self._segments(record, rule, configuration)
            recording = Recording(until, started(record.condition), groups[value])
            yield replay(rule, segments, configuration, worker=worker_name(record), recording=recording)

    def _peers(
        self, rule: models.Rule, value: str, fleet: Sequence[ports.Record], configuration: models.Configuration
    ) -> rules.PeerGroup:
        """Return the group of a value with all datapoints that the ledger has of its workers."""
        records = {record.worker.id: record for record in fleet}
        compared = peer_groups.Compared.of(rule, value, fleet, configuration)
        nobody_runs = compared.with_series({}).known_until() is None
        peers = {}
        for worker_id, peer in compared.peers.items():
            segments, _ = self._segments(records[worker_id], rule, configuration)
            points = tuple(sorted(point for segment in segments for point in segment.points))
            known_until = math.floor(self.now()) if nobody_runs else peer.known_until
            peers[worker_id] = peer._replace(since=0, points=points, known_until=known_until)
        return rules.PeerGroup(compared.by, value, peers)

    def _replay_operand(
        self, record: ports.Record, rule: models.Rule, configuration: models.Configuration
    ) -> Replay | None:
        """Return the replay of a rule for another one; ``None`` if it does not apply or has no datapoints."""
        if not rule.applies_to(record.worker) or not needed_metrics(rule, configuration):
            return None
        if rules.KINDS[rule.kind].compares_by(rule) is not None:
            return next(self._compared([record], rule, configuration), None)
        return self._replay(record, rule, configuration)

    def _replay(self, record: ports.Record, rule: models.Rule, configuration: models.Configuration) -> Replay:
        if not metrics_of(rule):
            name = worker_name(record)
            return replay_over_others(
                rule, configuration, lambda operand: self._replay_operand(record, operand, configuration), worker=name
            )
        rule = for_labels(rule, record.worker.labels)
        segments, until = self._segments(record, rule, configuration)
        recording = Recording(until, started(record.condition))
        return replay(rule, segments, configuration, worker=worker_name(record), recording=recording)

    def _segments(
        self, record: ports.Record, rule: models.Rule, configuration: models.Configuration
    ) -> tuple[Sequence[models.Series], int | None]:
        """Return the values of a worker that a rule compares, and the newest slot that can have arrived."""
        read = {
            metric: recorded.of_ledger(record, metric, configuration.retention, self.samples, self.now())
            for metric in metrics_of(rule)
        }
        by_metric = {metric: segments for metric, (segments, _) in read.items()}
        segments = recorded.compared(rule, by_metric, configuration.statistic_of)
        return segments, _newest([(part[-1].period, newest) for part, newest in read.values() if part], segments)

    def _replay_group(
        self, records: Sequence[ports.Record], rule: models.Rule, configuration: models.Configuration
    ) -> _GroupRun:
        """Return the transitions of a rule over a group of these workers, and the evaluated span."""
        members, series = dict[str, models.GroupMember](), dict[str, models.Series]()
        for record in records:
            worker = record.worker
            member_rule = for_labels(rule, worker.labels)
            if metrics_of(member_rule):
                segments, until = self._segments(record, member_rule, configuration)
                member = group_replay.member(member_rule, worker.name, segments, until)
                series |= {worker.id: segments[-1]} if segments else {}
            else:
                replayed = self._replay(record, rules.group_member_rule(member_rule), configuration)
                spans = [(episode.begin, episode.end, episode.severity) for episode in replayed.episodes]
                member = group_replay.holder(worker.name, replayed.evaluated, spans) if replayed.evaluated else None
            if member is not None:
                members[worker.id] = member if record.condition.status == "running" else group_replay.departed(member)
        begins = [member.changes[0][0] for member in members.values()]
        ends = [
            member.changes[-1][0] if member.known_until is None else member.known_until for member in members.values()
        ]
        span = (min(begins), max(ends)) if members else None
        return _GroupRun(group_replay.judge(rule, members, series), span)


class _GroupRun(NamedTuple):
    """The transitions of a group, and the first and last second evaluated (``None``: there was nothing)."""

    transitions: Sequence[models.Transition]
    evaluated: tuple[int, int] | None


def _of_group(rule: models.Rule, by: str, value: str, run: _GroupRun, configuration: models.Configuration) -> Replay:
    """Return the replay of a rule over one group; an episode's peak is the highest deciding number."""
    about = WorkerName(id=models.group_subject(by, value).id, name=f"{by}={value}")
    unit = rules.KINDS[rule.kind].unit(rule, configuration) if rules.needs_members(rule) else "count"
    episodes = []
    valued = [(change.at, change.value) for change in run.transitions if change.value is not None]
    for episode in _paired(rule, run.transitions):
        values = [value for at, value in valued if _within(at, episode)]
        update = {"worker": about.id, "peak": max(values, default=None), "unit": unit}
        episodes.append(episode.model_copy(update=update))
    return Replay(rule=rule, worker=about, unit=unit, segments=(), episodes=tuple(episodes), evaluated=run.evaluated)


def _newest(of_metrics: Sequence[tuple[int, int | None]], segments: Sequence[models.Series]) -> int | None:
    """Return the newest slot that can have arrived, by period and newest slot of the metrics in the values."""
    ends = [None if newest is None else newest + period for period, newest in of_metrics]
    known_ends = [end for end in ends if end is not None]
    return min(known_ends) - segments[-1].period if segments and len(known_ends) == len(ends) else None
