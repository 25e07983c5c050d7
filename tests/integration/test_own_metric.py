"""A custom metric, from the config file to the alert, over real HTTP and Redis."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.aws_house import TwoRegions
from workermon import config, models, ports, testing

pytestmark = pytest.mark.integration

CONFIG = """
[[metrics]]
name = "fullest_disk"
namespace = "CWAgent"
metric_name = "disk_used_percent"
statistic = "Maximum"
unit = "percent"
period = "60s"

[[rules]]
name = "disk"
metric = "fullest_disk"
above = { critical = 0 }
breach = "1 of 1"

[collect]
metrics = ["cpu_utilization", "disk_utilization", "fullest_disk"]
"""


@pytest.fixture
def house(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[TwoRegions]:
    """Give an installation with that file in force."""
    new_house = TwoRegions(redis_url, monkeypatch)
    configurations = new_house.get(ports.Configurations)
    assert configurations.save(config.to_configuration(testing.parse(CONFIG, "own"), configurations.load()))
    try:
        yield new_house
    finally:
        new_house.close()


def test_a_metric_of_ones_own_behaves_like_the_built_in_ones(house: TwoRegions) -> None:
    """Its dimensions are found, its datapoints recorded and evaluated, and the costs list it by name."""
    for _ in range(3):
        house.minute()
    worker_id = house.ids[0]
    since = house.clock() - models.DAY
    read = house.get(ports.Samples).read(
        [(worker_id, "fullest_disk", 60), (worker_id, "disk_utilization", 60)], since, house.clock()
    )
    own_points, built_in_points = read[worker_id, "fullest_disk"].points, read[worker_id, "disk_utilization"].points
    assert len(own_points) > 30
    assert (
        own_points == built_in_points
    )  # the same datapoints under another name: the fullest real filesystem, slot by slot
    dimensions = house.get(ports.Workers).get([worker_id])[worker_id].dimensions
    assert dict(dimensions["CWAgent/disk_used_percent"][0])["InstanceId"] == worker_id
    open_alerts = house.get(ports.Alerts).open()
    assert {alert.last.metric for alert in open_alerts if alert.last} == {"fullest_disk"}
    assert len(open_alerts) == len(house.ids)
    assert all("CWAgent/disk_used_percent" in scope.by_metric for scope in house.status().bill.scopes)
