"""The common part of the kinds that compare a distance in each slot: ``unusual`` and ``outlier``."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Generic, Protocol, TypeAlias, TypeVar

from workermon import models
from workermon.models import fields
from workermon.rules import breaches, distance_options, kind, over_slots, section, slots, wording

#: Datapoints of the window that ``why`` lists.
_MAX_SHOWN = 12


class Reference(Protocol):
    """What a value is compared with: its usual range, or the median of its group."""

    def distance(self, value: float) -> float:
        """Return how far a value lies above it; negative below it."""


R = TypeVar("R", bound=Reference)
Options = TypeVar("Options", bound=distance_options.Options)


#: A datapoint, and what it is compared with; ``None`` if too little is known about its time.
Compared: TypeAlias = tuple[models.Datapoint, R | None]


@dataclasses.dataclass(frozen=True, slots=True)
class Distances(Generic[R]):
    """The distances that the fold compares, and by time the value and reference of each."""

    points: list[models.Datapoint] = dataclasses.field(default_factory=list)
    by_time: dict[int, Compared[R]] = dataclasses.field(default_factory=dict)

    def add(self, options: distance_options.Options, point: models.Datapoint, reference: R | None) -> None:
        """Add a datapoint. Without a reference its distance is 0."""
        self.by_time[point.at] = point, reference
        distance = 0.0 if reference is None else options.compared(reference.distance(point.value))
        self.points.append(models.Datapoint(point.at, distance))

    def newest_compared(self, view: slots.View) -> list[Compared[R]]:
        """Return the last datapoints that decide at the cursor, for ``why``."""
        return [self.by_time[point.at] for point in view.points][-_MAX_SHOWN:]


class OverDistances(over_slots.OverSlots[Options]):
    """A kind whose rules compare how far each slot lies from a reference."""

    def __init__(self) -> None:
        super().__init__()
        self._limits: kind.ByRule[Callable[[int], breaches.Limits]] = kind.ByRule(
            lambda rule: functools.cache(functools.partial(self.options(rule).limits, rule.severity))
        )

    # --- the config file ---------------------------------------------------------------------------------------------

    def claims(self, raw_rule: Mapping[str, object]) -> bool:
        """Return whether the rule has the key of the kind's name."""
        return self.name in raw_rule

    @property
    def chosen_by(self) -> str:
        """Return how the file asks for it."""
        return f"{self.name} = …"

    def _parsed(
        self, raw_rule: distance_options.Section, keys: distance_options.Keys
    ) -> tuple[Options, models.Severity]:
        """Return the options of a section; ``keys`` are those of the kind."""
        if raw_rule.clear is not None and raw_rule.clear > keys.beyond:
            reason = f"{raw_rule.clear:g} is more than beyond, {keys.beyond:g}, so the alert would flap"
            raise section.Mistake("clear", reason, f"choose {keys.beyond:g} or less")
        if raw_rule.lasts is not None and "breach" in raw_rule.model_fields_set:
            raise section.Mistake("for", "cannot be combined with breach", "keep one of the two")
        return self.options_type(
            **keys.model_dump(),
            breach=raw_rule.breach,
            lasts=raw_rule.lasts,
            clear=raw_rule.clear,
            recover=raw_rule.recover,
            missing=raw_rule.missing,
        ), raw_rule.severity

    def _exported(self, rule: models.Rule, keys: Mapping[str, object]) -> dict[str, object]:
        """Return the keys of a rule; ``keys`` are those of the kind."""
        options = self.options(rule)
        return {
            self.name: keys,
            "severity": rule.severity,
            **({} if options.clear is None else {"clear": options.clear}),
            **({"breach": str(options.breach)} if options.lasts is None else {"for": fields.written(options.lasts)}),
            "recover": str(options.recover),
            "missing": options.missing,
        }

    def looks_back(self, rule: models.Rule) -> tuple[tuple[str, int], ...]:
        """Return how long values must lie far away."""
        lasts = self.options(rule).lasts
        return () if lasts is None else (("for", lasts),)

    # --- wording -----------------------------------------------------------------------------------------------------

    def summary(self, rule: models.Rule, transition: models.Transition, unit: str, interval: int) -> str:
        """Return the value beside its reference at that time."""
        return wording.by_reason(self.subject(rule), transition)

    # --- backtest ----------------------------------------------------------------------------------------------------

    def peak(self, rule: models.Rule, values: list[float]) -> float | None:
        """Return the highest value, or the lowest where only low ones count."""
        return (min if self.options(rule).side == "below" else max)(values, default=None)


def in_the_metric(
    transition: models.Transition, distances: Distances[R], edge: Callable[[R, float | None], float]
) -> tuple[models.Transition, Compared[R] | None]:
    """Return a transition with values instead of distances, and what decided it; ``None`` if a slot was absent.

    ``edge`` returns the limit for a value.
    """
    times = [point.at for point in transition.points]
    decided = distances.by_time.get(times[-1] if transition.withdrawn and times else transition.at)
    point, reference = decided or (None, None)
    value = None if point is None else point.value
    update: dict[str, object] = {
        "value": value,
        "points": tuple(distances.by_time[at][0] for at in times if at in distances.by_time),
        "threshold": None if reference is None else edge(reference, value),
    }
    if transition.present is not None:
        update["present"], _ = distances.by_time.get(transition.present.at, (None, None))
    return transition.model_copy(update=update), decided


def late(transition: models.Transition) -> str:
    """Return the end of a correction's reason."""
    return "; a datapoint came late or was revised" if transition.correction else ""


def points_line(compared: Sequence[Compared[R]], unit: str) -> tuple[str, str]:
    """Return the line of ``why`` that lists datapoints, each with its distance."""
    texts = []
    for point, reference in compared:
        distance = "" if reference is None else f" ({reference.distance(point.value):+.1f})"
        texts.append(f"{wording.time_of_day(point.at)} {wording.quantity(point.value, unit)}{distance}")
    return "points", "  ".join(texts) or "none"


def counted(view: slots.View) -> dict[str, object]:
    """Return which slots are absent and how many of them breach, for ``why``."""
    return {
        "missing": tuple(models.rfc3339(at) for at in view.absent),
        "breaching": view.levels[0].breaching,
        "of": view.counted,
    }
