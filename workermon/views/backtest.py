"""Backtest: evaluates recorded datapoints by the rules of a file.

The rule's kind evaluates it. This module only passes the datapoints on, and pairs the transitions into episodes.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from pydantic import Field

from workermon import models, ports, rules
from workermon.views import recorded_values
from workermon.views.document import Document, Time
from workermon.views.history import WorkerName
from workermon.views.replayable_rules import needed_metrics, over_metrics


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


def episodes(
    rule: models.Rule,
    segments: Sequence[models.Series],
    kind: rules.Kind[Any],
    *,
    recording: Recording = NOTHING_KNOWN,
    unit: str = "count",
) -> list[Episode]:
    """Return the episodes of a rule of a kind over datapoints, in order of time.

    ``segments`` are consecutive, each with a period of its own. Slots before the first datapoint are not expected.
    ``unit`` is that of the values. A warm-up begins only at a known start of the worker.
    """
    rule_state, until = models.RuleState(), recording.until
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
            update={"peak": kind.peak(rule, [value for at, value in points if is_within(at, episode)]), "unit": unit}
        )
        for episode in pair_episodes(rule, all_transitions)
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
    kinds: rules.Kinds,
    *,
    worker: WorkerName | None = None,
    recording: Recording = NOTHING_KNOWN,
) -> Replay:
    """Return a rule over the datapoints of a worker; the metric's unit comes from the configuration."""
    kind = kinds[rule.kind]
    unit = kind.unit(rule, configuration)
    fired = episodes(rule, segments, kind, recording=recording, unit=unit)
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
    kinds: rules.Kinds,
    replay_of: Callable[[models.Rule], Replay | None],
    *,
    worker: WorkerName | None = None,
) -> Replay:
    """Return a rule that depends on other rules, from their replays.

    ``replay_of`` returns that of a rule; ``None`` if it does not apply or nothing is recorded. Then it counts as not
    firing, as in an evaluation.
    """
    names = kinds[rule.kind].operands(rule)
    replays = {operand.name: replay_of(operand) for operand in configuration.rules if operand.name in names}
    spans = [run.evaluated for run in replays.values() if run is not None and run.evaluated is not None]
    if not spans:
        return Replay(rule=rule, worker=worker, unit="count", segments=(), episodes=())
    begin, end = min(begin for begin, _ in spans), max(end for _, end in spans)
    facts = rules.Facts(
        condition=models.Condition(status="running", running_since=begin),
        states={name: _operand_state(run) for name, run in replays.items()},
    )
    _, transitions = kinds[rule.kind].judge(rule, models.RuleState(start=begin), facts, None)
    paired = pair_episodes(rule, transitions)
    return Replay(
        rule=rule,
        worker=worker,
        unit="count",
        segments=(),
        episodes=tuple(episode.model_copy(update={"worker": worker.id if worker else None}) for episode in paired),
        evaluated=(begin, end),
    )


def over_trace(
    configuration: models.Configuration,
    kinds: rules.Kinds,
    metric: str,
    series: models.Series,
    *,
    worker: WorkerName | None = None,
) -> tuple[Replay, ...]:
    """Return the rules that one metric alone decides over a recorded series, whatever labels they require."""
    rules_of_metric = over_metrics(configuration, kinds, metric)

    def replay_of(rule: models.Rule) -> Replay | None:
        if needed_metrics(rule, configuration, kinds) != (metric,):
            return None
        kind = kinds[rule.kind]
        if not kind.metrics(rule):
            return replay_over_others(rule, configuration, kinds, replay_of, worker=worker)
        worker_rule = kind.for_worker(rule, {})
        segments = recorded_values.compared(worker_rule, {metric: [series]}, configuration.statistic_of)
        return replay(worker_rule, segments, configuration, kinds, worker=worker)

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


def pair_episodes(rule: models.Rule, transitions: Sequence[models.Transition]) -> list[Episode]:
    """Return the episodes between transitions, in order, without their peaks."""
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


def is_within(at: int, episode: Episode) -> bool:
    """Return whether a time lies in an episode."""
    return episode.begin <= at and (episode.end is None or at < episode.end)


def started(condition: models.Condition) -> tuple[float, ...]:
    """Return the known times at which a worker started running, in order."""
    starts = [change.at for change in condition.changes if change.status == "running"]
    since = () if condition.running_since is None else (condition.running_since,)
    return tuple(sorted({*starts, *since}))
