"""/metrics: each line as Prometheus's own library writes it, and all that the contract names."""

from __future__ import annotations

import gzip
import shutil
import subprocess
from collections.abc import Callable, Iterable

import pytest
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Metric, exposition
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from tests.contract import builders
from tests.support.commands import A, Ports
from workermon import config, fleet, health, models, ports
from workermon.web import compression, metrics, prometheus

TEXTS = st.text(max_size=12)
NAMES = st.text(st.characters(codec="utf-8", exclude_categories=["C"]), min_size=1, max_size=12)


class Written:
    """A collector of prometheus-client for one worker's samples, like a plain program's."""

    def __init__(self, worker: models.Worker, condition: models.Condition) -> None:
        self.worker, self.condition = worker, condition

    def collect(self) -> Iterable[Metric]:
        """Yield the families in their order."""
        worker, condition = self.worker, self.condition
        worker_labels = {"id": worker.id, "name": worker.name, "region": worker.region, "account": worker.account}
        labels = worker_labels | prometheus.label_names(worker.labels)
        info = GaugeMetricFamily(
            "workermon_worker_info", "A monitored worker, with its labels as label_NAME", labels=[*labels]
        )
        info.add_metric([*labels.values()], 1)
        yield info
        status = GaugeMetricFamily(
            "workermon_worker_status", "The status of a worker's instance", labels=["id", "status"]
        )
        status.add_metric([worker.id, condition.status], 1)
        yield status
        checks = GaugeMetricFamily(
            "workermon_status_check", "A status check of EC2: 1 is ok, 0 is impaired", labels=["id", "check"]
        )
        for check, outcome in (("system", "ok"), ("instance", "impaired")):
            checks.add_metric([worker.id, check], outcome == "ok")
        yield checks
        value = GaugeMetricFamily(
            "workermon_metric_value", "The newest datapoint of a worker's metric, in the metric's unit",
            labels=[*worker_labels, "metric"],
        )  # fmt: skip
        at = GaugeMetricFamily(
            "workermon_metric_timestamp_seconds",
            "The CloudWatch timestamp of that datapoint",
            labels=[*worker_labels, "metric"],
        )
        point = condition.latest["cpu_utilization"]
        value.add_metric([*worker_labels.values(), "cpu_utilization"], point.value)
        at.add_metric([*worker_labels.values(), "cpu_utilization"], point.at)
        failed = [*worker_labels.values(), models.STATUS_CHECK_FAILED]
        value.add_metric(failed, 1)
        at.add_metric(failed, int(condition.collected_at or 0) // worker.interval * worker.interval)
        yield value
        yield at


@given(NAMES, st.dictionaries(NAMES, TEXTS, max_size=3), st.floats(allow_nan=False, allow_infinity=False))
def test_a_workers_lines_are_those_of_the_library(name: str, labels: dict[str, str], value: float) -> None:
    """For any name, labels and value each line equals that of prometheus-client."""
    worker = builders.worker().model_copy(update={"name": name, "labels": labels})
    condition = models.Condition(
        status="running",
        collected_at=builders.NOW + 61.5,
        checks=models.Checks(system="ok", instance="impaired"),
        latest={"cpu_utilization": models.Datapoint(builders.NOW, value)},
    )
    families = prometheus.Families(config.DEFAULT.collect)
    families.add(ports.WorkerSummary.of(ports.Record(worker, condition, {}, 0, None, 1)))
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Written(worker, condition))
    assert b"".join(compression.plain(families.parts())).decode() == exposition.generate_latest(registry).decode()


@given(st.lists(st.binary(max_size=300), max_size=4))
def test_parts_are_one_gzip_file(plain: list[bytes]) -> None:
    """Parts that are compressed separately and joined are one valid gzip file with the right checksum."""
    parts = [compression.part(text) for text in plain]
    assert gzip.decompress(compression.gzipped(parts)) == b"".join(plain) == b"".join(compression.plain(parts))


def test_a_large_body_is_read_in_pieces() -> None:
    """However well it is compressed, no more than a piece of it is in memory at once."""
    part = compression.part(b"x" * 3_000_001)
    pieces = [len(piece) for piece in compression.plain([part])]
    assert (sum(pieces), max(pieces)) == (3_000_001, 1 << 18)


def test_a_fleet_of_more_than_a_chunk_is_written_family_by_family() -> None:
    """The lines of a family are together, the first worker's first."""
    families = prometheus.Families(())
    ids = [f"i-{number:017x}" for number in range(prometheus.CHUNK + 1)]
    for worker_id in ids:
        record = ports.Record(builders.worker(worker_id), models.Condition(), {}, 0, None, 1)
        families.add(ports.WorkerSummary.of(record))
    lines = b"".join(compression.plain(families.parts())).decode().splitlines()
    expected = [f'workermon_worker_status{{id="{worker_id}",status="unknown"}} 1.0' for worker_id in ids]
    begin = lines.index("# TYPE workermon_worker_status gauge") + 1
    assert lines[begin : begin + len(ids)] == expected


@pytest.fixture
def monitor(world: Ports) -> Ports:
    """Give a monitor of one collected worker with a label."""
    world.get(fleet.Adding).add(
        [A], fleet.AddOptions(scope=models.AccountRegion(region="us-east-1"), labels={"team": 'a"b'})
    )
    world.collect(A)
    return world


def families(text: str) -> dict[str, list[tuple[dict[str, str], float]]]:
    """Return the samples of a page by name."""
    samples: dict[str, list[tuple[dict[str, str], float]]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            samples.setdefault(sample.name, []).append((sample.labels, sample.value))
    return samples


def test_the_page_has_what_the_contract_names(monitor: Ports, web: TestClient) -> None:
    """Worker, checks, values with their times, accounts, calls, dollars, queues, parts and version are there."""
    answer = web.get("/metrics", headers={"Accept-Encoding": "identity"})
    assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    page = families(answer.text)
    worker_labels = {"id": A, "name": "render-01", "region": "us-east-1", "account": "default"}
    assert page["workermon_worker_info"] == [(worker_labels | {"label_team": 'a"b'}, 1.0)]
    assert page["workermon_worker_status"] == [({"id": A, "status": "running"}, 1.0)]
    values = {labels["metric"]: value for labels, value in page["workermon_metric_value"]}
    assert values["cpu_utilization"] == 42.5
    times = {labels["metric"]: value for labels, value in page["workermon_metric_timestamp_seconds"]}
    assert times["cpu_utilization"] == int(monitor.clock()) // 300 * 300 - 300
    assert page["workermon_collection_age_seconds"] == [({"account": "default", "region": "us-east-1"}, 0.0)]
    assert {labels["part"] for labels, _ in page["workermon_part_up"]} >= {"redis", "beat", "listener", "canary"}
    assert "workermon_canary_round_trip_seconds" not in page


def test_requests_are_counted_by_account_operation_and_metric(monitor: Ports, web: TestClient) -> None:
    """The three counters of AWS have the counts, and the dollars follow from the metrics."""
    monitor.costs.note(monitor.clock(), "lab/eu-west-1", "GetMetricData", {"AWS/EC2/CPUUtilization": 1000})
    page = families(web.get("/metrics").text)
    scope_labels = {"account": "lab", "region": "eu-west-1"}
    assert (scope_labels | {"operation": "GetMetricData"}, 1.0) in page["workermon_aws_calls_total"]
    assert (scope_labels | {"metric": "AWS/EC2/CPUUtilization"}, 1000.0) in page[
        "workermon_aws_metrics_requested_total"
    ]
    dollars = {labels["account"]: value for labels, value in page["workermon_aws_dollars_total"]}
    assert dollars["lab"] == pytest.approx(0.01)


def test_an_alert_is_there_while_it_fires(monitor: Ports, web: TestClient) -> None:
    """workermon_alert has alert, worker, rule and severity. It is absent when the alert is resolved."""
    impaired = models.Checks(system="ok", instance="impaired")
    monitor.ec2.put(models.Instance(id=A, region="us-east-1", status="running", name="render-01"), checks=impaired)
    for _ in range(3):
        monitor.clock.advance(60)
        monitor.collect(A)
        monitor.evaluate(A)
    firing = {"dedup_key": f"{A}/status-check-failed", "id": A, "rule": "status-check-failed", "severity": "critical"}
    assert families(web.get("/metrics").text)["workermon_alert"] == [(firing, 1.0)]


def test_series_of_a_removed_worker_vanish(monitor: Ports, web: TestClient) -> None:
    """After 'remove' no series of the worker is left once the page is made anew."""
    monitor.get(fleet.Removing).remove([A])
    assert A not in web.get("/metrics").text


def test_openmetrics_is_given_if_asked_for(monitor: Ports, web: TestClient) -> None:
    """The library's strict parser accepts the OpenMetrics format, which ends with its mark."""
    answer = web.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert answer.headers["Content-Type"].startswith("application/openmetrics-text")
    names = {family.name for family in openmetrics.text_string_to_metric_families(answer.text)}
    assert {"workermon_worker_info", "workermon_part_up", "workermon_build_info"} <= names
    assert answer.text.endswith("# EOF\n")


def test_the_fleet_is_read_once_and_only_at_a_glance(monitor: Ports, monkeypatch: pytest.MonkeyPatch) -> None:
    """A scrape reads the summaries of workers once and no full records, not even to estimate the bill."""
    monitor.costs.note(monitor.clock(), "default/us-east-1", "GetMetricData", {"AWS/EC2/CPUUtilization": 1000})
    readings = [list(monitor.workers.summaries())]
    monkeypatch.setattr(monitor.workers, "summaries", lambda: readings.pop())
    monkeypatch.setattr(monitor.workers, "every", lambda: pytest.fail("every record is read in full"))
    prometheus.page(monitor.get(health.Exposition))
    assert readings == []


def test_it_is_compressed_if_the_reader_can(monitor: Ports, web: TestClient) -> None:
    """If the client accepts gzip, as Prometheus does, it gets gzip."""
    answer = web.get("/metrics", headers={"Accept-Encoding": "gzip"})
    assert answer.headers["Content-Encoding"] == "gzip"
    plain = web.get("/metrics", headers={"Accept-Encoding": "identity"})
    assert "Content-Encoding" not in plain.headers
    assert answer.content == plain.content
    assert plain.headers["Content-Length"] == str(len(plain.content))


def test_redis_is_read_once_in_five_seconds(monitor: Ports) -> None:
    """However many scrape, the page is made anew only when it is five seconds old."""
    at = [100.0]
    cache = metrics.Cache(lambda: at[0])
    exposition_: health.Exposition = monitor.get(health.Exposition)
    first = cache.page(exposition_)
    at[0] += 4.9
    assert cache.page(exposition_) is first
    at[0] += 0.1
    assert cache.page(exposition_) is not first


@pytest.mark.integration
def test_promtool_has_nothing_to_say(monitor: Ports, web: TestClient) -> None:
    """Debian's 'promtool check metrics' accepts the page without a warning."""
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed (Debian: prometheus)")
    monitor.costs.note(monitor.clock(), "lab/eu-west-1", "GetMetricData", {"AWS/EC2/CPUUtilization": 1000})
    text = web.get("/metrics").content
    checked = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, timeout=60)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")


def test_a_login_is_needed_where_the_api_needs_one(monitor: Ports, serve: Callable[..., TestClient]) -> None:
    """On an address other than loopback /metrics needs a token."""
    client = serve(web_host="0.0.0.0", base_url="http://monitor.example")
    assert client.get("/metrics").status_code == 401
