"""The options of a rule with a threshold, for all workers and for one, and which levels are compatible."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

from workermon import models
from workermon.rules import breaches, label_levels, section

#: The keys that have a number for each severity.
LevelKey = Literal["above", "below", "clear"]
LEVEL_KEYS: tuple[LevelKey, ...] = ("above", "below", "clear")


class Options(models.Frozen):
    """``above`` and ``below`` are strict; exactly one is set. ``clear`` is the hysteresis, by default the threshold.

    ``lasts`` replaces ``breach``: all slots of so many seconds. ``from_labels`` are the levels from a worker's label,
    by their key; a rule for one worker has none.
    """

    above: models.Levels | None = None
    below: models.Levels | None = None
    breach: models.Count = models.Count(m=3, n=3)
    lasts: int | None = None
    clear: models.Levels | None = None
    recover: models.Count = models.Count(m=2, n=2)
    missing: Literal["breach", "ok", "keep"] = "keep"
    from_labels: dict[LevelKey, dict[models.Severity, label_levels.LabelNumber]] = {}

    @property
    def side(self) -> Literal["above", "below"]:
        """Return on which side of the threshold it breaches."""
        return "below" if self.above is None else "above"

    @property
    def thresholds(self) -> models.Levels:
        """Return the thresholds."""
        return self.above or self.below or models.Levels()

    @property
    def severities(self) -> frozenset[models.Severity]:
        """Return the severities that it can have, for at least some worker."""
        by_label = self.from_labels.get(self.side, {})
        return frozenset(
            severity
            for severity in models.SEVERITIES
            if self.thresholds.of(severity) is not None or severity in by_label
        )

    def count(self, period: int) -> models.Count:
        """Return how many of how many slots of ``period`` seconds make it fire."""
        if self.lasts is None:
            return self.breach
        number = -(-self.lasts // period)
        return models.Count.model_construct(m=number, n=number)  # short periods need more than a file may contain

    def limits(self, period: int) -> breaches.Limits:
        """Return the limits for the fold over slots of ``period`` seconds."""
        breach = self.count(period)
        return breaches.Limits(
            breaches.levels_of(self.thresholds, self.clear),
            self.above is not None,
            breach.m,
            breach.n,
            self.recover.m,
            self.recover.n,
            self.missing,
        )

    def of_worker(self, labels: Mapping[str, str]) -> Options:
        """Return the options for a worker with these labels. A ``clear`` that would make its alert flap is left out."""
        levels: dict[str, models.Levels | None] = {}
        for key in LEVEL_KEYS:
            numbers: models.Levels | None = getattr(self, key)
            if numbers is not None:
                worker_levels: dict[str, float | None] = {
                    severity: label_levels.of_worker(number, labels).value
                    for severity, number in self.from_labels.get(key, {}).items()
                }
                levels[key] = numbers.model_copy(update=worker_levels)
        clear, thresholds = levels.get("clear"), levels[self.side] or models.Levels()
        if clear is not None:
            other_options = {
                severity: cleared
                for severity in models.SEVERITIES
                if (cleared := clear.of(severity)) is not None
                and (threshold := thresholds.of(severity)) is not None
                and not is_beyond(cleared, threshold, self.side)
            }
            levels["clear"] = models.Levels(**other_options) if other_options else None
        return self.model_copy(update={**levels, "from_labels": {}})

    def doubts(self, labels: Mapping[str, str]) -> Iterator[str]:
        """Yield what is questionable about a worker's thresholds with these labels."""
        for key, numbers in self.from_labels.items():
            for severity, number in numbers.items():
                level_of_labels = label_levels.of_worker(number, labels)
                if level_of_labels.wrong is not None:
                    instead = (
                        f"{key}.{severity} does not apply"
                        if level_of_labels.value is None
                        else f"{level_of_labels.value:g} holds"
                    )
                    yield f"{level_of_labels.wrong}, so {instead}"
        own_levels = self.of_worker(labels)
        warning, critical = own_levels.thresholds.warning, own_levels.thresholds.critical
        ordered = warning is None or critical is None or is_beyond(critical, warning, self.side)
        if self.from_labels and not ordered:
            yield f"critical, {critical:g}, is not {self.side} the warning, {warning:g}"
        for severity in models.SEVERITIES:
            cleared = label_levels.level(self.clear, self.from_labels.get("clear", {}), severity, labels)
            threshold = own_levels.thresholds.of(severity)
            flaps = cleared is not None and threshold is not None and is_beyond(cleared, threshold, self.side)
            if self.from_labels and flaps:
                yield f"clear.{severity}, {cleared:g}, is {self.side} the threshold, {threshold:g}, so that clears"


def is_beyond(value: float, level: float, side: str) -> bool:
    """Return whether a value lies on the breaching side of another."""
    return value > level if side == "above" else value < level


def check_order(given_levels: label_levels.GivenLevels, side: str) -> None:
    """Reject a critical threshold that is not beyond the warning. Thresholds from labels are not known yet."""
    levels = given_levels.numbers()
    if levels.warning is None or levels.critical is None or is_beyond(levels.critical, levels.warning, side):
        return
    reason = f"{levels.critical:g} must be {side} the warning, {levels.warning:g}"
    raise section.Mistake(f"{side}.critical", reason, "swap them, or leave one out")


def check_clear(clear: label_levels.GivenLevels, levels: label_levels.GivenLevels, side: str) -> None:
    """Reject a hysteresis that would make the alert flap, or that belongs to no threshold of the rule."""
    if clear.warning is None and clear.critical is None:
        raise section.Mistake("clear", "has no number", "write { warning = …, critical = … }, or leave it out")
    for severity, _ in clear.by_severity():
        cleared, threshold = clear.numbers().of(severity), levels.numbers().of(severity)
        if getattr(levels, severity) is None:
            raise section.Mistake(f"clear.{severity}", f"clears a severity that {side} does not have", "remove it")
        if cleared is not None and threshold is not None and is_beyond(cleared, threshold, side):
            reason = f"{cleared:g} is {side} the threshold, {threshold:g}, so the alert would flap"
            todo = f"choose {threshold:g} or {'less' if side == 'above' else 'more'}"
            raise section.Mistake(f"clear.{severity}", reason, todo)
