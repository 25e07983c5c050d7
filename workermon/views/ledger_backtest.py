"""Backtest over the ledger: workers, groups of workers, and workers that are compared with one another."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from workermon import models, ports, rules
from workermon.alerts import peer_groups
from workermon.rules import group_replay
from workermon.views import recorded_values
from workermon.views.backtest import (
    Recording,
    Replay,
    is_within,
    pair_episodes,
    replay,
    replay_over_others,
    started,
    worker_name,
)
from workermon.views.history import WorkerName
from workermon.views.replayable_rules import needed_metrics


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LedgerBacktest:
    """Replays rules over the ledger."""

    samples: ports.Samples
    workers: ports.Workers
    kinds: rules.Kinds
    now: ports.Clock

    def replay(
        self, records: Sequence[ports.Record], rule: models.Rule, configuration: models.Configuration
    ) -> tuple[Replay, ...]:
        """Return, by the name of each worker that a rule applies to, its datapoints in the ledger and the episodes.

        For a rule over groups it is the episodes of each group of these workers, by its value, without datapoints.
        """
        ordered = sorted(records, key=lambda record: (record.worker.name, record.worker.id))
        by = self.kinds[rule.kind].group_by(rule)
        if by is not None:
            groups: dict[str, list[ports.Record]] = {}
            for record in ordered:
                if rule.applies_to(record.worker) and by in record.worker.labels:
                    groups.setdefault(record.worker.labels[by], []).append(record)
            by_value = {value: self._replay_group(groups[value], rule, configuration) for value in sorted(groups)}
            return tuple(
                _of_group(rule, self.kinds[rule.kind], value, run, configuration) for value, run in by_value.items()
            )
        if self.kinds[rule.kind].compares_by(rule) is not None:
            return tuple(self._compared(ordered, rule, configuration))
        return tuple(self._replay(record, rule, configuration) for record in ordered if rule.applies_to(record.worker))

    def _compared(
        self, records: Sequence[ports.Record], rule: models.Rule, configuration: models.Configuration
    ) -> Iterator[Replay]:
        """Yield the replay of each worker with its whole group, whether or not the whole group is requested."""
        by, groups = self.kinds[rule.kind].compares_by(rule) or "", dict[str, rules.PeerGroup]()
        fleet = list(self.workers.every())
        for record in records:
            value = record.worker.labels.get(by)
            if value is None or not rule.applies_to(record.worker):
                continue
            if value not in groups:
                groups[value] = self._peers(rule, value, fleet, configuration)
            segments, until = self._segments(record, rule, configuration)
            recording = Recording(until, started(record.condition), groups[value])
            yield replay(rule, segments, configuration, self.kinds, worker=worker_name(record), recording=recording)

    def _peers(
        self, rule: models.Rule, value: str, fleet: Sequence[ports.Record], configuration: models.Configuration
    ) -> rules.PeerGroup:
        """Return the group of a value with all datapoints that the ledger has of its workers."""
        records = {record.worker.id: record for record in fleet}
        compared = peer_groups.Compared.of(self.kinds[rule.kind], rule, value, fleet, configuration)
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
        if not rule.applies_to(record.worker) or not needed_metrics(rule, configuration, self.kinds):
            return None
        if self.kinds[rule.kind].compares_by(rule) is not None:
            return next(self._compared([record], rule, configuration), None)
        return self._replay(record, rule, configuration)

    def _replay(self, record: ports.Record, rule: models.Rule, configuration: models.Configuration) -> Replay:
        kind = self.kinds[rule.kind]
        if not kind.metrics(rule):
            name = worker_name(record)
            return replay_over_others(
                rule,
                configuration,
                self.kinds,
                lambda operand: self._replay_operand(record, operand, configuration),
                worker=name,
            )
        rule = kind.for_worker(rule, record.worker.labels)
        segments, until = self._segments(record, rule, configuration)
        recording = Recording(until, started(record.condition))
        return replay(rule, segments, configuration, self.kinds, worker=worker_name(record), recording=recording)

    def _segments(
        self, record: ports.Record, rule: models.Rule, configuration: models.Configuration
    ) -> tuple[Sequence[models.Series], int | None]:
        """Return the values of a worker that a rule compares, and the newest slot that can have arrived."""
        read = {
            metric: recorded_values.of_ledger(record, metric, configuration.retention, self.samples, self.now())
            for metric in self.kinds[rule.kind].metrics(rule)
        }
        by_metric = {metric: segments for metric, (segments, _) in read.items()}
        segments = recorded_values.compared(rule, by_metric, configuration.statistic_of)
        return segments, _newest([(part[-1].period, newest) for part, newest in read.values() if part], segments)

    def _replay_group(
        self, records: Sequence[ports.Record], rule: models.Rule, configuration: models.Configuration
    ) -> _GroupRun:
        """Return the transitions of a rule over a group of these workers, and the evaluated span."""
        kind = self.kinds[rule.kind]
        members, series = dict[str, models.GroupMember](), dict[str, models.Series]()
        for record in records:
            worker = record.worker
            member_rule = kind.for_worker(rule, worker.labels)
            if kind.metrics(member_rule):
                segments, until = self._segments(record, member_rule, configuration)
                member = group_replay.member(member_rule, worker.name, segments, until)
                series |= {worker.id: segments[-1]} if segments else {}
            else:
                replayed = self._replay(record, rules.group_member_rule(member_rule), configuration)
                spans = [(episode.begin, episode.end, episode.severity) for episode in replayed.episodes]
                member = (
                    group_replay.replayed_member(worker.name, replayed.evaluated, spans) if replayed.evaluated else None
                )
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


def _of_group(
    rule: models.Rule, kind: rules.Kind[Any], value: str, run: _GroupRun, configuration: models.Configuration
) -> Replay:
    """Return the replay of a rule over one group; an episode's peak is the highest deciding number."""
    by = kind.group_by(rule) or ""
    about = WorkerName(id=models.group_subject(by, value).id, name=f"{by}={value}")
    unit = kind.unit(rule, configuration) if kind.needs_members(rule) else "count"
    episodes = []
    valued = [(change.at, change.value) for change in run.transitions if change.value is not None]
    for episode in pair_episodes(rule, run.transitions):
        values = [value for at, value in valued if is_within(at, episode)]
        update = {"worker": about.id, "peak": max(values, default=None), "unit": unit}
        episodes.append(episode.model_copy(update=update))
    return Replay(rule=rule, worker=about, unit=unit, segments=(), episodes=tuple(episodes), evaluated=run.evaluated)


def _newest(of_metrics: Sequence[tuple[int, int | None]], segments: Sequence[models.Series]) -> int | None:
    """Return the newest slot that can have arrived, by period and newest slot of the metrics in the values."""
    ends = [None if newest is None else newest + period for period, newest in of_metrics]
    known_ends = [end for end in ends if end is not None]
    return min(known_ends) - segments[-1].period if segments and len(known_ends) == len(ends) else None
