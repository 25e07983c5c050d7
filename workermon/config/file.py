"""A valid config file, and the checks before it is used."""

from __future__ import annotations

from collections.abc import Callable

from pydantic import Field

from workermon import errors, models
from workermon.config import catalogue, grammar, problems, rule_warnings
from workermon.config.cases import Case
from workermon.rules import KINDS, Kinds


class File(models.Frozen):
    """A valid config file; ``None`` is a missing section, so that part is left alone.

    ``source`` is its name in errors. ``cases`` are those of its rules, by the rule's name.
    """

    source: str
    workers: tuple[grammar.WorkerSection, ...] | None = None
    discover: models.Discover | None = None
    rules: tuple[models.Rule, ...] | None = None
    channels: dict[str, models.Channel] | None = None
    metrics: dict[str, models.Metric] | None = None
    collect: grammar.CollectSection | None = None
    alerts: grammar.AlertsSection | None = None
    accounts: dict[str, models.Account] | None = None
    event_queues: dict[str, models.EventQueue] | None = None
    budget: grammar.BudgetSection | None = None
    limits: dict[str, models.Limit] | None = None
    silences: tuple[models.Maintenance, ...] | None = None
    cases: dict[str, tuple[Case, ...]] = Field(default_factory=dict)
    text: str = Field(default="", repr=False)

    def location(self, path: str, place: int | None = None) -> str:
        """Return the name of a place of this file in errors: source, path, and line and column if known.

        ``place`` is the position in the text at the path, in characters from 0.
        """
        return problems.location(self.source, path, self.text, place)


#: Seconds. CloudWatch's periods below a minute; above, any number of minutes is allowed.
SHORT_PERIODS = frozenset({1, 5, 10, 20, 30})


def check_intervals(file: File, least: int) -> None:
    """Reject an interval below the shortest allowed, in seconds."""
    intervals = [(f"workers[{place}].interval", worker.interval) for place, worker in enumerate(file.workers or ())]
    intervals.append(("discover.interval", file.discover.interval if file.discover else None))
    for path, interval in intervals:
        if interval is not None:
            check_interval(file, path, interval, least)


def check_interval(file: File, path: str, interval: int, least: int) -> None:
    """Reject an interval at a place of the file that is below the shortest allowed, in seconds.

    The place is looked up only for an error: that reads the whole file, and a file may have thousands of workers.
    """
    try:
        models.allowed_interval(interval, least, path)
    except errors.InvalidInput as error:
        raise errors.InvalidInput(file.location(path), error.reason, error.todo) from None


def check_silences(file: File, now: float) -> None:
    """Reject a silence that has ended, or that ends too late."""
    for place, silence in enumerate(file.silences or ()):
        if silence.ends is None:
            continue
        path = f"silences[{place}].ends"
        if silence.ends <= now:
            reason = f"ended at {models.rfc3339(silence.ends)}"
            raise errors.InvalidInput(file.location(path), reason, "give a time in the future, or remove it")
        if silence.begins is None and silence.ends - now > models.MAX_SILENCE:
            raise errors.InvalidInput(file.location(path), "is more than 365 days away", "choose an earlier one")


def warnings(
    file: File,
    secrets: Callable[[models.SecretRef], str],
    kinds: Kinds = KINDS,
    in_force: models.Configuration = catalogue.DEFAULT,
) -> list[str]:
    """Return what is valid in a file but does not work here, or is probably wrong.

    ``secrets`` looks up a secret. Another process may have one that is missing here. ``in_force`` has the contents of
    sections that the file lacks.
    """
    texts = [warning for channel in (file.channels or {}).values() for warning in _secret_warnings(channel, secrets)]
    metrics = in_force.metrics if file.metrics is None else {**catalogue.CATALOGUE, **file.metrics}
    retention = in_force.retention if file.collect is None else file.collect.retention
    for rule in file.rules or ():
        texts_of_rule = (*kinds[rule.kind].warnings(rule), *rule_warnings.warnings(rule, metrics, retention))
        texts += [f"rule {rule.name}: {warning}" for warning in texts_of_rule]
    for name, metric in (file.metrics or {}).items():
        period = metric.period
        if period is not None and period not in SHORT_PERIODS and period % 60:
            reason = f"CloudWatch takes 1, 5, 10, 20, 30 and multiples of 60 s, not {period} s"
            texts.append(f"metrics.{name}.period: {reason}")
    return texts


def _secret_warnings(channel: models.Channel, secrets: Callable[[models.SecretRef], str]) -> list[str]:
    texts = []
    for key in ("url", "secret"):
        ref = getattr(channel, key)
        if not isinstance(ref, models.SecretRef):
            continue
        path = f"channels.{channel.name}.{key}"
        try:
            secrets(ref)
        except errors.SecretNotAllowed as error:
            texts.append(f"{path}: {error.reason} (asked for here: {ref.env or ref.file})")
        except errors.InvalidInput:
            missing = f"{ref.env} is not set here" if ref.env is not None else f"{ref.file} cannot be read here"
            texts.append(f"{path}: {missing}; the process that delivers needs it")
    return texts
