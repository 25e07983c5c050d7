"""Pure: the fleet's data in Prometheus' text format.

Families with a sample for each worker are written here line by line, in a tenth of the library's time. The tests
compare the lines with the library's, which sorts labels by name. The library writes all other families.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from prometheus_client import CollectorRegistry, Metric, exposition
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.utils import floatToGoString

from workermon import __version__, health, models, ports
from workermon.web import compression

TEXT_TYPE: Final = exposition.CONTENT_TYPE_PLAIN_0_0_4
OPENMETRICS_TYPE: Final = openmetrics.CONTENT_TYPE_LATEST

#: A family's samples: the values of its labels, and the sample's value.
Samples = Iterable[tuple[tuple[str, ...], float]]

#: Workers whose lines are in memory before they are compressed.
CHUNK: Final = 500

_NOT_IN_NAME = re.compile(r"[^a-zA-Z0-9_]")
_TO_ESCAPE = re.compile(r'[\\\n"]')
_ESCAPES = {"\\": r"\\", "\n": r"\n", '"': r"\""}


class Page(NamedTuple):
    """A page in both formats: the parts of the workers are the same in either."""

    workers: tuple[compression.Part, ...]
    text: compression.Part
    openmetrics: compression.Part


class _Family:
    """A family's lines, of which only the newest are not compressed yet."""

    def __init__(self, name: str, about: str) -> None:
        self._compressor = compression.Compressor()
        self.lines = [f"# HELP {name} {about}\n# TYPE {name} gauge\n"]

    def compress(self) -> None:
        self._compressor.add("".join(self.lines).encode())
        self.lines.clear()

    def part(self) -> compression.Part:
        self.compress()
        return self._compressor.part()


class Families:
    """The families with a sample for each worker; ``add`` takes the workers one by one."""

    def __init__(self, collect: Sequence[str]) -> None:
        self._collect = tuple(collect)
        self._added = 0
        self._info = _Family("workermon_worker_info", "A monitored worker, with its labels as label_NAME")
        self._status = _Family("workermon_worker_status", "The status of a worker's instance")
        self._checks = _Family("workermon_status_check", "A status check of EC2: 1 is ok, 0 is impaired")
        self._values = _Family(
            "workermon_metric_value", "The newest datapoint of a worker's metric, in the metric's unit"
        )
        self._times = _Family("workermon_metric_timestamp_seconds", "The CloudWatch timestamp of that datapoint")

    def add(self, worker: ports.WorkerSummary) -> None:
        """Add a worker's samples. A missing value has no sample."""
        ident = f'id="{worker.id}"'
        first = f'account="{_escape_often(worker.account)}",{ident}'
        last = f'name="{escape(worker.name)}",region="{_escape_often(worker.region)}"'
        labels = _labels(tuple(worker.labels.items())) if worker.labels else ""
        self._info.lines.append(f"workermon_worker_info{{{first},{labels}{last}}} 1.0\n")
        self._status.lines.append(f'workermon_worker_status{{{ident},status="{worker.status}"}} 1.0\n')
        begin, end = f'{{{first},metric="', f'",{last}}} '
        if worker.status == "running":
            latest = worker.latest
            for metric in self._collect:
                if metric in latest:
                    at, value = latest[metric]
                    self._values.lines.append(f"workermon_metric_value{begin}{metric}{end}{_number(value)}\n")
                    self._times.lines.append(f"workermon_metric_timestamp_seconds{begin}{metric}{end}{_time(at)}\n")
        if worker.checks is not None:
            failed, lines = _checked(worker.checks)
            self._checks.lines += [f"{line}{ident}{flag}" for line, flag in lines]
            if failed is not None and worker.collected_at is not None:
                metric, slot = models.STATUS_CHECK_FAILED, int(worker.collected_at // worker.interval) * worker.interval
                self._values.lines.append(f"workermon_metric_value{begin}{metric}{end}{failed}\n")
                self._times.lines.append(f"workermon_metric_timestamp_seconds{begin}{metric}{end}{_time(slot)}\n")
        self._added += 1
        if self._added % CHUNK == 0:
            for family in self._families:
                family.compress()

    @property
    def _families(self) -> tuple[_Family, ...]:
        return self._info, self._status, self._checks, self._values, self._times

    def parts(self) -> tuple[compression.Part, ...]:
        """Return the added samples."""
        return tuple(family.part() for family in self._families)


def _number(value: float) -> str:
    """Return a value as the library writes it."""
    return repr(float(value)) if -1e6 < value < 1e6 else str(floatToGoString(value))


@functools.lru_cache(maxsize=1024)
def _time(at: int) -> str:
    """Return a time as the library writes it. A whole fleet has few different ones."""
    return str(floatToGoString(at))


@functools.lru_cache(maxsize=16_384)
def _labels(labels: tuple[tuple[str, str], ...]) -> str:
    return "".join(f'{name}="{escape(value)}",' for name, value in sorted(label_names(dict(labels)).items()))


@functools.lru_cache(maxsize=1024)
def _checked(
    checks: tuple[tuple[models.CheckName, models.Check], ...],
) -> tuple[str | None, tuple[tuple[str, str], ...]]:
    """Return the value of ``status_check_failed``, and the line of each check that says something, around an id."""
    checks_read = models.Checks.model_validate(dict(checks))
    flags = {"ok": "1.0", "impaired": "0.0"}
    return None if checks_read.failed is None else _number(checks_read.failed), tuple(
        (f'workermon_status_check{{check="{check}",', f"}} {flags[outcome]}\n")
        for check, outcome in checks
        if outcome in flags
    )


def escape(value: str) -> str:
    """Return a label's value in the format's syntax."""
    return _TO_ESCAPE.sub(lambda match: _ESCAPES[match[0]], value) if _TO_ESCAPE.search(value) else value


#: A fleet has few accounts and regions.
_escape_often = functools.lru_cache(maxsize=1024)(escape)


def label_names(labels: Mapping[str, str]) -> dict[str, str]:
    """Return a worker's labels with Prometheus' names: ``label_`` and the name, with ``_`` for invalid characters.

    If two names become equal, the later one in the alphabet gets a number.

    >>> label_names({"team": "vfx", "cost-center": "7", "cost.center": "8"})
    {'label_cost_center': '7', 'label_cost_center_2': '8', 'label_team': 'vfx'}
    """
    names: dict[str, str] = {}
    for name in sorted(labels):
        plain = "label_" + _NOT_IN_NAME.sub("_", name)
        number, free = 1, plain
        while free in names:
            number += 1
            free = f"{plain}_{number}"
        names[free] = labels[name]
    return names


def page(exposition_: health.Exposition) -> Page:
    """Read everything and write the page."""
    families = Families(exposition_.configurations.load().collect)
    figures = exposition_.read(families.add)
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Figures(figures))
    return Page(
        families.parts(),
        compression.part(exposition.generate_latest(registry)),
        compression.part(openmetrics.generate_latest(registry)),
    )


class _Figures:
    """A collector for the library."""

    def __init__(self, figures: health.Figures) -> None:
        self._figures = figures

    def collect(self) -> Iterable[Metric]:
        """Yield every family but those of ``Families``."""
        figures = self._figures
        yield _alerts(figures.alerts)
        gauge = _adder(GaugeMetricFamily)
        yield gauge(
            "workermon_collection_age_seconds",
            "The age of the newest collection of the worker that waits longest",
            ("account", "region"),
            figures.collection_ages.items(),
        )
        yield from _usage(figures)
        yield gauge(
            "workermon_queue_messages",
            "Messages that wait in a queue of Celery",
            ("queue",),
            (((queue,), number) for queue, number in figures.pipeline.queues.items()),
        )
        yield gauge(
            "workermon_outbox_pending",
            "Notifications that wait for a channel",
            ("channel",),
            (((channel,), number) for channel, number in figures.pending.items()),
        )
        yield _adder(CounterMetricFamily)(
            "workermon_queue_events",
            "Messages of an event queue, and what became of them",
            ("queue", "outcome"),
            _queue_events(figures.pipeline.counts),
        )
        trip = figures.pipeline.canary.round_trip
        yield gauge(
            "workermon_canary_round_trip_seconds",
            "How long the last canary took through the whole pipeline",
            (),
            () if trip is None else [((), trip)],
        )
        yield gauge(
            "workermon_part_up",
            "A part of the pipeline, as 'workermon status' names it: 1 is alive",
            ("part",),
            (((part.name,), float(part.ok)) for part in figures.pipeline.parts),
        )
        yield gauge("workermon_build_info", "The version that serves this page", ("version",), [((__version__,), 1)])


def _alerts(alerts: Iterable[models.Alert]) -> Metric:
    samples: list[tuple[tuple[str, ...], float]] = []
    for alert in alerts:
        last = alert.last
        if last is not None:
            worker_id = last.worker.id if last.worker is not None else ""
            severity = alert.notified_severity or last.severity
            samples.append(((last.dedup_key, worker_id, last.rule, severity), 1.0))
    return _adder(GaugeMetricFamily)(
        "workermon_alert", "An alert that fires", ("dedup_key", "id", "rule", "severity"), samples
    )


def _usage(figures: health.Figures) -> Iterable[Metric]:
    counter = _adder(CounterMetricFamily)
    calls: Samples = (
        ((*models.account_and_region(scope), operation), number)
        for (scope, operation), number in figures.totals.calls.items()
    )
    yield counter("workermon_aws_calls", "Requests to AWS", ("account", "region", "operation"), calls)
    requested: Samples = (
        ((*models.account_and_region(scope), metric), number)
        for (scope, metric), number in figures.totals.metrics.items()
    )
    about = "Metrics that CloudWatch was asked for"
    yield counter("workermon_aws_metrics_requested", about, ("account", "region", "metric"), requested)
    about = "What the metrics cost, in US dollars"
    yield counter("workermon_aws_dollars", about, ("account", "region"), figures.dollars.items())


def _queue_events(counts: Mapping[str, int]) -> Samples:
    """Yield the counters of each event queue, as ``events.<queue>.<outcome>``."""
    for name, number in counts.items():
        first, _, event = name.partition(".")
        if first == "events":
            queue, _, outcome = event.rpartition(".")
            yield (queue, outcome), number


def _adder(
    family: type[GaugeMetricFamily] | type[CounterMetricFamily],
) -> Callable[[str, str, tuple[str, ...], Samples], Metric]:
    def add(name: str, about: str, labels: tuple[str, ...], samples: Samples) -> Metric:
        metric = family(name, about, labels=labels)
        for values, value in sorted(samples):
            metric.add_metric(values, value)
        return metric

    return add
