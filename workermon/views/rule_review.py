"""Review: what two config files would have fired on the same recorded data, and who would have been notified."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

from workermon import models, rules
from workermon.config import difference
from workermon.views.backtest import Episode, Replay
from workermon.views.document import Document, Time
from workermon.views.replayable_rules import over_metrics

Change = Literal["added", "changed", "removed", "unchanged"]


class Counts(Document):
    """A number before and after."""

    before: int
    after: int


class Dollars(Document):
    """Dollars that 30 days of GetMetricData cost, before and after."""

    before: float
    after: float


class RuleReview(Document):
    """The effect on one rule.

    ``fired`` counts its episodes, ``notified`` those that would have notified somebody, ``seconds`` is how long it
    fired. ``keys`` are its changes, in words. ``appeared`` are the episodes that only the new file has, ``vanished``
    those that only the old one has: no episode of the other file overlaps them on the same worker. ``recorded`` is
    false if no recorded data can decide the rule.
    """

    rule: str
    change: Change
    keys: tuple[str, ...]
    recorded: bool
    fired: Counts
    notified: Counts
    seconds: Counts
    appeared: tuple[Episode, ...]
    vanished: tuple[Episode, ...]


class ChannelReview(Document):
    """The number of alerts that a channel would have been notified of."""

    channel: str
    notified: Counts


class Review(Document):
    """Two files over the same data, from ``since`` until ``until``.

    ``workers`` is how many were replayed (null: a trace). ``not_replayed`` are the rules that no recorded data can
    decide. ``dollars_per_month`` is null without a fleet.
    """

    old: str
    new: str
    since: Time | None
    until: Time | None
    workers: int | None
    rules: tuple[RuleReview, ...]
    channels: tuple[ChannelReview, ...]
    not_replayed: tuple[str, ...]
    dollars_per_month: Dollars | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One of the two files: its name, its configuration, and the replays of its rules."""

    source: str
    configuration: models.Configuration
    replays: Sequence[Replay]


class _Alert(NamedTuple):
    """An episode, and the channels that it notifies."""

    episode: Episode
    channels: tuple[str, ...]


class _Outcome(NamedTuple):
    """The alerts of each rule, and which rules have recorded data."""

    alerts: Mapping[str, Sequence[_Alert]]
    recorded: frozenset[str]


def compare(old: Side, new: Side, kinds: rules.Kinds, *, since: float | None, workers: int | None = None) -> Review:
    """Return the differences.

    Episodes count if they began at ``since`` or later. Silences, flapping and acknowledgements are ignored.
    """
    groups = workers is not None  # a trace has one worker
    before, after = _outcome(old, kinds, since, groups=groups), _outcome(new, kinds, since, groups=groups)
    spans = [replay.evaluated for side in (old, new) for replay in side.replays if replay.evaluated is not None]
    begins = [begin for begin, _ in spans]
    return Review(
        old=old.source,
        new=new.source,
        since=max(since or 0, min(begins)) if begins else since,
        until=max((end for _, end in spans), default=None),
        workers=workers,
        rules=tuple(_rules(old, new, kinds, before, after)),
        channels=tuple(_channels(before, after)),
        not_replayed=tuple(
            rule.name
            for rule in new.configuration.rules
            if rule not in over_metrics(new.configuration, kinds, groups=groups)
        ),
    )


def _outcome(side: Side, kinds: rules.Kinds, since: float | None, *, groups: bool) -> _Outcome:
    """Return the alerts of each rule that begin at ``since`` or later; ``groups``: also of rules over groups."""
    by_worker: dict[str | None, dict[str, Sequence[Episode]]] = {}
    for replay in side.replays:
        worker = replay.worker.id if replay.worker else None
        by_worker.setdefault(worker, {})[replay.rule.name] = replay.episodes
    alerts: dict[str, list[_Alert]] = {rule.name: [] for rule in over_metrics(side.configuration, kinds, groups=groups)}
    for replay in side.replays:
        worker = replay.worker.id if replay.worker else None
        episodes = by_worker[worker]
        inhibitors = [episode for name in replay.rule.inhibited_by for episode in episodes.get(name, ())]
        for episode in replay.episodes:
            if since is None or episode.begin >= since:
                channels = () if _covered(episode, inhibitors) else replay.rule.channels(episode.severity)
                alerts.setdefault(replay.rule.name, []).append(_Alert(episode, channels))
    recorded = frozenset(replay.rule.name for replay in side.replays if replay.evaluated is not None)
    return _Outcome(alerts, recorded)


def _covered(episode: Episode, inhibitors: Iterable[Episode]) -> bool:
    """Return whether another rule inhibits an episode all the time, so that nobody is ever notified of it."""
    at = episode.begin
    for inhibitor in sorted(inhibitors, key=lambda alert: alert.begin):
        if inhibitor.begin <= at:
            at = max(at, math.inf if inhibitor.end is None else inhibitor.end)
    return at >= (math.inf if episode.end is None else episode.end)


def _rules(old: Side, new: Side, kinds: rules.Kinds, before: _Outcome, after: _Outcome) -> Iterable[RuleReview]:
    was = {rule.name: rule for rule in old.configuration.rules}
    becomes = {rule.name: rule for rule in new.configuration.rules}
    keys = {
        changed.name: tuple(map(str, changed.changes))
        for changed in difference.changes(old.configuration, new.configuration, kinds).differences
        if changed.what == "rule"
    }
    for name in dict.fromkeys((*becomes, *was)):
        if name not in before.alerts and name not in after.alerts:
            continue
        of_old, of_new = before.alerts.get(name, ()), after.alerts.get(name, ())
        yield RuleReview(
            rule=name,
            change=_change(was.get(name), becomes.get(name)),
            keys=keys.get(name, ()),
            recorded=name in before.recorded or name in after.recorded,
            fired=Counts(before=len(of_old), after=len(of_new)),
            notified=Counts(before=_notified(of_old), after=_notified(of_new)),
            seconds=Counts(before=_seconds(of_old), after=_seconds(of_new)),
            appeared=_only(of_new, of_old),
            vanished=_only(of_old, of_new),
        )


def _change(was: models.Rule | None, becomes: models.Rule | None) -> Change:
    if was is None:
        return "added"
    if becomes is None:
        return "removed"
    return "unchanged" if was == becomes else "changed"


def _notified(alerts: Iterable[_Alert]) -> int:
    return sum(bool(alert.channels) for alert in alerts)


def _seconds(alerts: Iterable[_Alert]) -> int:
    """Return for how long past alerts fired."""
    return sum(round(alert.episode.end - alert.episode.begin) for alert in alerts if alert.episode.end is not None)


def _only(alerts: Iterable[_Alert], other_alerts: Sequence[_Alert]) -> tuple[Episode, ...]:
    """Return the episodes that overlap none of the others on the same worker."""
    return tuple(
        alert.episode
        for alert in alerts
        if not any(overlap(alert.episode, other_alert.episode) for other_alert in other_alerts)
    )


def overlap(first: Episode, second: Episode) -> bool:
    """Return whether two episodes of the same worker overlap."""
    if first.worker != second.worker:
        return False
    ends = (math.inf if episode.end is None else episode.end for episode in (first, second))
    return max(first.begin, second.begin) <= min(ends)


def _channels(before: _Outcome, after: _Outcome) -> Iterable[ChannelReview]:
    counts = [
        [name for alerts in outcome.alerts.values() for alert in alerts for name in alert.channels]
        for outcome in (before, after)
    ]
    for channel in sorted({*counts[0], *counts[1]}):
        yield ChannelReview(
            channel=channel, notified=Counts(before=counts[0].count(channel), after=counts[1].count(channel))
        )
