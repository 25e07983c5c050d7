"""Suggest: changes of single keys of rules over datapoints that would have notified less and kept important alerts.

Each change is replayed over the ledger. Important alerts are those that somebody acknowledged, and those that lasted.
This module never applies a change.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from pydantic import Field

from workermon import models, ports, rules
from workermon.alerts import silences
from workermon.config import export, positions, toml
from workermon.rules import threshold
from workermon.views.backtest import Episode, Recording, Replay, replay, started
from workermon.views.document import Document
from workermon.views.ledger_backtest import LedgerBacktest

#: A change is worthwhile if it saves at least this many notifications, and leaves at most this share of them.
MIN_SAVED, MAX_REMAINING_SHARE = 5, 0.5

#: Seconds. An important alert may be that much later, or sooner.
MAX_DELAY = 600

#: Seconds. An episode that lasts so long is important, whether or not somebody acknowledged it.
LASTING = 1800

#: Seconds. An acknowledgement may be that much later than the end of its alert: nobody had been notified of the end
#: yet.
ACK_GRACE = 600

#: Clear levels to try, as shares of the threshold away from it, and how far to move the threshold.
_BANDS, _MOVES = (0.05, 0.1, 0.2), (0.02, 0.05)


class Suggestion(Document):
    """One key of a rule, its value before and after as in the file, and the effect of the change.

    ``notifications`` (as they would have been sent) become ``notifications_after``. All ``acknowledged`` alerts and all
    ``lasting`` ones are still among them, at most ``delay`` seconds later. ``episodes`` is the replay of the change.
    ``before`` is null if the file leaves the key out; ``changed`` is the rule with the change, and not in JSON.
    ``recorded`` is how many notifications of the rule the history has since then.
    """

    rule: str
    key: str
    before: str | None
    after: str
    notifications: int
    notifications_after: int
    acknowledged: int
    lasting: int
    delay: int
    recorded: int
    episodes: tuple[Episode, ...]
    changed: models.Rule = Field(exclude=True)


class SuggestionList(Document):
    """Suggestions for a file, and the unified diff of its text that applies all of them."""

    file: str
    suggestions: tuple[Suggestion, ...]
    diff: str = ""


class Candidate(NamedTuple):
    """A rule with another value of a key; ``value`` is as in the file."""

    key: str
    value: object
    rule: models.Rule


class _RecordedWorker(NamedTuple):
    """A worker's datapoints for a rule, further facts, and what the rule would have fired."""

    record: ports.Record
    recording: Recording
    base: Replay


class _ImportantEpisodes(NamedTuple):
    """The episodes that a change has to keep."""

    acknowledged: tuple[Episode, ...]
    lasting: tuple[Episode, ...]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RuleSuggestion:
    """Searches for such changes in the ledger, the history, acknowledgements and silences."""

    ledger: LedgerBacktest
    workers: ports.Workers
    alerts: ports.Alerts
    silences: ports.Silences
    audit: ports.Audit
    kinds: rules.Kinds
    now: ports.Clock

    def suggest(self, configuration: models.Configuration) -> tuple[Suggestion, ...]:
        """Return the best worthwhile change of each rule with thresholds, the rule with most notifications first."""
        records = list(self.workers.every())
        muted = silences.in_force(self.silences.every(), configuration.silences, self.now())
        recorded = self._recorded(configuration)
        suggestions = (
            self._best(rule, records, configuration, muted, recorded[rule.name])
            for rule in configuration.rules
            if rule.kind == threshold.KIND.name
        )
        return tuple(
            sorted(
                (suggestion for suggestion in suggestions if suggestion),
                key=lambda suggestion: (-suggestion.notifications, suggestion.rule),
            )
        )

    def _recorded(self, configuration: models.Configuration) -> Counter[str]:
        """Return how many notifications of each rule the history has, as far back as the ledger reaches."""
        since = self.now() - configuration.retention
        entries = (record.entry for record in self.alerts.timeline(since))
        return Counter(entry.rule for entry in entries if entry.notification is not None and not entry.transition.muted)

    def _best(
        self,
        rule: models.Rule,
        records: Sequence[ports.Record],
        configuration: models.Configuration,
        muted: Sequence[models.Silence],
        recorded: int,
    ) -> Suggestion | None:
        by_id = {record.worker.id: record for record in records}
        replays = [
            _RecordedWorker(by_id[replayed.worker.id], _recording(replayed, by_id[replayed.worker.id]), replayed)
            for replayed in self.ledger.replay(records, rule, configuration)
            if replayed.worker is not None and replayed.evaluated is not None
        ]
        episodes_before = [episode for replayed in replays for episode in replayed.base.episodes]
        before = _notifications(episodes_before, by_id, muted)
        if before < MIN_SAVED:
            return None
        important = self._important_episodes(rule, episodes_before)
        best: Suggestion | None = None
        for candidate in candidates(rule):
            episodes = [
                episode for replayed in replays for episode in self._replayed(candidate, replayed, configuration)
            ]
            delay = _delay((*important.acknowledged, *important.lasting), episodes)
            after = _notifications(episodes, by_id, muted)
            if delay is None or delay > MAX_DELAY or not _is_worthwhile(before, after):
                continue
            if best is None or (after, delay) < (best.notifications_after, best.delay):
                had_value = threshold.KIND.export(rule).get(candidate.key)
                best = Suggestion(
                    rule=rule.name,
                    key=candidate.key,
                    before=None if had_value is None else _text(had_value),
                    after=_text(candidate.value),
                    notifications=before,
                    notifications_after=after,
                    acknowledged=len(important.acknowledged),
                    lasting=len(important.lasting),
                    delay=delay,
                    recorded=recorded,
                    episodes=tuple(sorted(episodes, key=lambda episode: episode.begin)),
                    changed=candidate.rule,
                )
        return best

    def _important_episodes(self, rule: models.Rule, episodes: Sequence[Episode]) -> _ImportantEpisodes:
        """Return the episodes that somebody acknowledged, and the others that lasted."""
        ids = sorted({models.alert_id(episode.worker or "", rule.name) for episode in episodes})
        times: dict[str, list[float]] = {alert_id: [] for alert_id in ids}
        for alert_id, acknowledged in self.silences.acknowledged(ids).items():
            times[alert_id].append(acknowledged.at if acknowledged.since is None else acknowledged.since)
        for entry in self.audit.entries(0):
            # An acknowledgement ends with its alert. The audit trail still has earlier ones.
            if entry.action.endswith("ack"):
                for alert_id in times.keys() & set(entry.target.split()):
                    times[alert_id].append(entry.at)
        acknowledged_of_alerts = [
            _acknowledged_episode(
                [episode for episode in episodes if models.alert_id(episode.worker or "", rule.name) == alert_id], at
            )
            for alert_id, moments in times.items()
            for at in moments
        ]
        acknowledged_episodes = tuple(episode for episode in episodes if episode in acknowledged_of_alerts)
        now = self.now()
        lasted = (episode for episode in episodes if episode not in acknowledged_episodes)
        lasting = tuple(
            episode for episode in lasted if (now if episode.end is None else episode.end) - episode.begin >= LASTING
        )
        return _ImportantEpisodes(acknowledged_episodes, lasting)

    def _replayed(
        self, candidate: Candidate, replayed: _RecordedWorker, configuration: models.Configuration
    ) -> tuple[Episode, ...]:
        rule, base = threshold.KIND.for_worker(candidate.rule, replayed.record.worker.labels), replayed.base
        return replay(
            rule, base.segments, configuration, self.kinds, worker=base.worker, recording=replayed.recording
        ).episodes


def _is_worthwhile(before: int, after: int) -> bool:
    """Return whether so many fewer notifications are worth a change. A rule that never fires does not count."""
    return 0 < after <= before * MAX_REMAINING_SHARE and before - after >= MIN_SAVED


def _text(value: object) -> str:
    """Return a value as written in the file, whole numbers without a decimal point."""
    if isinstance(value, Mapping):
        numbers = {
            key: int(number) if isinstance(number, float) and number.is_integer() else number
            for key, number in value.items()
        }
        return toml.value_text(numbers)
    return toml.value_text(value)


def edited(
    text: str,
    suggestions: Iterable[Suggestion],
    rules_of: Callable[[str], Sequence[models.Rule]],
    kinds: rules.Kinds,
) -> tuple[str, tuple[Suggestion, ...]]:
    """Return the text of a file with these changes, and those that could be applied to it.

    ``rules_of`` parses the rules of a text. A change counts only if the new text parses to exactly that change.
    """
    edits = []
    for suggestion in suggestions:
        present = list(rules_of(text))
        place = next((place for place, rule in enumerate(present) if rule.name == suggestion.rule), None)
        if place is None:
            continue
        path = ("rules", place, suggestion.key)
        before = threshold.KIND.options(present[place]).side
        changed = positions.with_value(text, path, suggestion.after, before)
        expected = [*present[:place], suggestion.changed, *present[place + 1 :]]
        if changed is not None and _are_same_in_file(rules_of(changed), expected, kinds):
            text = changed
            edits.append(suggestion)
    return text, tuple(edits)


def _are_same_in_file(
    some_rules: Sequence[models.Rule], other_rules: Sequence[models.Rule], kinds: rules.Kinds
) -> bool:
    """Return whether rules are equal in a file."""
    return [export.rule_table(rule, kinds) for rule in some_rules] == [
        export.rule_table(rule, kinds) for rule in other_rules
    ]


def unified_diff(before: str, after: str, source: str) -> str:
    """Return the unified diff of a file's text; empty if nothing changes."""
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), source, source, lineterm="")
    return "".join(f"{line}\n" for line in lines)


def _acknowledged_episode(episodes: Iterable[Episode], at: float) -> Episode | None:
    """Return the episode that somebody acknowledged at a time: the last one that had fired."""
    last = max(
        (episode for episode in episodes if episode.begin <= at), key=lambda episode: episode.begin, default=None
    )
    return None if last is None or (last.end is not None and at > last.end + ACK_GRACE) else last


def _recording(replayed: Replay, record: ports.Record) -> Recording:
    until = None if replayed.evaluated is None else replayed.evaluated[1]
    return Recording(until, started(record.condition))


def _notifications(
    episodes: Iterable[Episode], records: Mapping[str, ports.Record], muted: Sequence[models.Silence]
) -> int:
    """Count the notifications of episodes: one when it fires and one when it resolves; none if silenced."""
    number = 0
    for episode in episodes:
        worker = records[episode.worker or ""].worker
        if not silences.muting(muted, models.alert_id(worker.id, episode.rule), worker, episode.begin):
            number += 1 + (episode.end is not None)
    return number


def _delay(expected: Iterable[Episode], episodes: Sequence[Episode]) -> int | None:
    """Return by how many seconds at most each expected episode would have fired later; ``None`` if one is lost."""
    latest = 0.0
    for episode in expected:
        end = math.inf if episode.end is None else episode.end
        among = (
            candidate
            for candidate in episodes
            if candidate.worker == episode.worker
            and candidate.begin <= end
            and (candidate.end is None or candidate.end > episode.begin)
            and candidate.begin >= episode.begin - MAX_DELAY  # within an older one, nobody would be notified
            and models.SEVERITIES.index(candidate.severity) >= models.SEVERITIES.index(episode.severity)
        )
        first = min((candidate.begin for candidate in among), default=None)
        if first is None:
            return None
        latest = max(latest, first - episode.begin)
    return round(latest)


# --- what is tried -----------------------------------------------------------------------------------------------


def candidates(rule: models.Rule) -> Iterator[Candidate]:
    """Yield a rule with thresholds with other values of one key, smaller changes first."""
    options, table = threshold.KIND.options(rule), threshold.KIND.export(rule)
    if "breach" in table:
        for m, n in _counts(options.breach):
            yield _candidate(rule, "breach", models.Count(m=m, n=n), f"{m} of {n}")
    for m, n in _counts(options.recover):
        yield _candidate(rule, "recover", models.Count(m=m, n=n), f"{m} of {n}")
    levels = table[options.side]
    if not isinstance(levels, dict) or not all(isinstance(value, int | float) for value in levels.values()):
        return  # they come from labels
    away = -1 if options.side == "above" else 1
    for part in _BANDS:
        clear = {name: _rounded(value + away * part * abs(value)) for name, value in levels.items()}
        yield _candidate(rule, "clear", models.Levels(**clear), clear)
    for part in _MOVES:
        moved = {name: _rounded(value - away * part * abs(value)) for name, value in levels.items()}
        yield _candidate(rule, options.side, models.Levels(**moved), moved)


def _counts(count: models.Count) -> Iterator[tuple[int, int]]:
    """Yield other numbers of slots: the same number of more slots, all of more, and one more of two more."""
    m, n = count.m, count.n
    tried = [(m, n + 1), (m, n + 2), (m, 2 * n), (n + 1, n + 1), (m + 1, n + 2), (n + 2, n + 2), (2 * n, 2 * n)]
    yield from dict.fromkeys(pair for pair in tried if pair != (m, n) and pair[1] <= models.DAY // 60)


def _candidate(rule: models.Rule, key: str, value: object, written: object) -> Candidate:
    options = threshold.KIND.options(rule).model_copy(update={key: value})
    dumped = options.model_dump(mode="json", exclude_defaults=True)
    return Candidate(key, written, rule.model_copy(update={"options": dumped}))


def _rounded(value: float) -> float:
    """Return a number rounded to three significant digits, whole if it is large."""
    if value == 0:
        return 0.0
    rounded = round(value, max(0, 2 - math.floor(math.log10(abs(value)))))
    return int(rounded) if rounded == int(rounded) else rounded
