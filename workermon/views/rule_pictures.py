"""A picture of what each rule in force would have fired on the ledger: a lane for each worker or group that fired."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Literal

from workermon import errors, models, ports, rules
from workermon.views.backtest import Replay
from workermon.views.document import Document
from workermon.views.ledger_backtest import LedgerBacktest

#: Workers to replay: each reads its whole ledger. ``rules backtest`` replays all.
MAX_WORKERS = 200

#: The same for a rule over rules that compare workers: each is replayed with its whole group.
MAX_COMPARED = 20

#: Lanes to draw, those with most episodes first.
MAX_LANES = 24

#: Units of the picture's width.
WIDTH = 1000


class RuleSummary(Document):
    """A rule in force: its subject and condition, whom it notifies, and on how many workers it fires now.

    ``replayed``: it is about datapoints, so it can be replayed. ``description``, ``runbook`` (an address) and ``owner``
    are for the people notified.
    """

    name: str
    about: str
    described: tuple[str, ...]
    labels: dict[str, str]
    notify: tuple[str, ...]
    firing: int
    replayed: bool
    description: str | None = None
    runbook: str | None = None
    owner: str | None = None


class RuleList(Document):
    """The rules in force."""

    revision: int
    rules: tuple[RuleSummary, ...]


class Bar(Document):
    """A stretch of a lane from ``x`` on, in parts of ``WIDTH``; ``severity`` is ``None`` if there is none."""

    x: float
    width: float
    begin: float
    end: float | None
    severity: models.Severity | None
    peak: float | None


class Lane(Document):
    """A worker, or a group (by its ``labels``): when it was evaluated, and when the rule would have fired."""

    id: str
    name: str
    labels: dict[str, str]
    evaluated: tuple[Bar, ...]
    marks: tuple[Bar, ...]


class Picture(Document):
    """What a rule would have fired from ``begin`` until ``end``; both are ``None`` without datapoints.

    ``subjects`` (of ``subject``) were replayed and have datapoints; on ``fired`` of them it would have fired
    ``episodes`` times. ``metrics`` decide it. ``bounded``: the rule applies to more than were replayed. ``more`` would
    have fired but are not drawn.
    """

    rule: str
    metrics: tuple[str, ...]
    unit: str
    subject: Literal["worker", "group"]
    begin: int | None
    end: int | None
    subjects: int
    bounded: bool
    fired: int
    episodes: int
    lanes: tuple[Lane, ...]
    more: int


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RuleView:
    """Reads the rules in force."""

    alerts: ports.Alerts
    configurations: ports.Configurations
    kinds: rules.Kinds

    def list(self) -> RuleList:
        """Return the rules in force, in the order of the configuration."""
        configuration = self.configurations.load()
        firing = [alert.rule for alert in self.alerts.open()]
        return RuleList(
            revision=configuration.revision,
            rules=tuple(
                RuleSummary(
                    name=rule.name,
                    about=rule.metric or self.kinds[rule.kind].pseudo_metric or rule.kind,
                    described=self.kinds[rule.kind].in_words(rule, self.kinds[rule.kind].unit(rule, configuration)),
                    labels=rule.labels,
                    notify=rule.notify,
                    firing=firing.count(rule.name),
                    replayed=bool(rules.needed_metrics(rule, configuration.rules, self.kinds)),
                    **models.annotations_of(rule),
                )
                for rule in configuration.rules
            ),
        )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PictureView:
    """Replays a rule in force over the ledger."""

    workers: ports.Workers
    alerts: ports.Alerts
    configurations: ports.Configurations
    ledger: LedgerBacktest
    kinds: rules.Kinds

    def picture(self, name: str) -> Picture:
        """Return what a rule would have fired. Raises ``errors.NotFound`` if there is no such rule over datapoints."""
        configuration = self.configurations.load()
        needed = {
            rule.name: (rule, metrics)
            for rule in configuration.rules
            if (metrics := rules.needed_metrics(rule, configuration.rules, self.kinds))
        }
        if name not in needed:
            subject = f"rule {errors.printable(name)[:64]}"
            raise errors.NotFound(subject, "no rule over datapoints has that name", errors.nearest(name, needed))
        rule, metrics = needed[name]
        records, bounded = self._workers_to_replay(rule, configuration)
        with_datapoints = [replay for replay in self.ledger.replay(records, rule, configuration) if replay.evaluated]
        begin = min((replay.evaluated[0] for replay in with_datapoints if replay.evaluated), default=None)
        end = max((replay.evaluated[1] + 1 for replay in with_datapoints if replay.evaluated), default=None)
        fired = sorted(
            (replay for replay in with_datapoints if replay.episodes), key=lambda replay: -len(replay.episodes)
        )
        by = self.kinds[rule.kind].group_by(rule)
        return Picture(
            rule=name,
            metrics=metrics,
            unit=self.kinds[rule.kind].unit(rule, configuration),
            subject="worker" if by is None else "group",
            begin=begin,
            end=end,
            subjects=len(with_datapoints),
            bounded=bounded,
            fired=len(fired),
            episodes=sum(len(replay.episodes) for replay in with_datapoints),
            lanes=tuple(_replay_lane(replay, by, (begin or 0, end or 0)) for replay in fired[:MAX_LANES]),
            more=max(0, len(fired) - MAX_LANES),
        )

    def _workers_to_replay(
        self, rule: models.Rule, configuration: models.Configuration
    ) -> tuple[Sequence[ports.Record], bool]:
        """Return the workers to replay, and whether the rule applies to more.

        Workers on which it fires now come first. For a rule that depends on groups they are whole groups.
        """
        kind = self.kinds[rule.kind]
        by = kind.group_by(rule) or kind.compares_by(rule)
        if by is not None:
            return self._groups(rule, by)
        operands = [operand_rule for operand_rule in configuration.rules if operand_rule.name in kind.operands(rule)]
        compares = any(self.kinds[operand_rule.kind].compares_by(operand_rule) for operand_rule in operands)
        limit = MAX_COMPARED if compares else MAX_WORKERS
        firing = [
            alert.last.worker.id
            for alert in self.alerts.open()
            if alert.rule == rule.name and alert.last and alert.last.worker
        ]
        first = self.workers.get(firing[:limit])
        other_records = (
            record
            for record in self.workers.every()
            if record.worker.id not in first and rule.applies_to(record.worker)
        )
        records = [*first.values(), *itertools.islice(other_records, limit + 1 - len(first))]
        return records[:limit], len(records) > limit or len(firing) > limit

    def _groups(self, rule: models.Rule, by: str) -> tuple[Sequence[ports.Record], bool]:
        """Return the workers of as many groups as can be replayed, the smallest first."""
        groups: dict[str, list[ports.Record]] = {}
        for record in self.workers.every():
            if rule.applies_to(record.worker) and by in record.worker.labels:
                groups.setdefault(record.worker.labels[by], []).append(record)
        records: list[ports.Record] = []
        for members in sorted(groups.values(), key=len):
            if len(records) + len(members) > MAX_WORKERS:
                return records, True
            records += members
        return records, False


def _replay_lane(replay: Replay, by: str | None, span: tuple[int, int]) -> Lane:
    """Return the lane of a worker, or of a value of the label ``by``."""
    assert replay.worker is not None
    assert replay.evaluated is not None
    spans = [bar_span for segment in replay.segments for bar_span in _covered_spans(segment)]
    return Lane(
        id=replay.worker.id,
        name=replay.worker.name,
        labels={} if by is None else {by: replay.worker.name.removeprefix(f"{by}=")},
        evaluated=tuple(_bar(bar_span, None, None, span) for bar_span in spans or [replay.evaluated]),
        marks=tuple(
            _bar((episode.begin, episode.end), episode.severity, episode.peak, span) for episode in replay.episodes
        ),
    )


def _covered_spans(series: models.Series) -> list[tuple[int, int]]:
    """Return the spans with datapoints, without a break of more than a period."""
    spans: list[tuple[int, int]] = []
    for at, _ in series.points:
        if spans and at - spans[-1][1] < series.period:
            spans[-1] = spans[-1][0], at + series.period
        else:
            spans.append((at, at + series.period))
    return spans


def _bar(
    bar_span: tuple[float, float | None], severity: models.Severity | None, peak: float | None, span: tuple[int, int]
) -> Bar:
    begin, end = bar_span
    scale = WIDTH / max(1, span[1] - span[0])
    x = round((begin - span[0]) * scale, 1)
    width = round(((span[1] if end is None else end) - begin) * scale, 1)
    # A short alert must be visible, too.
    return Bar(x=x, width=max(3.0 if severity else 0.5, width), begin=begin, end=end, severity=severity, peak=peak)
