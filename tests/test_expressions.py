"""Rules over an expression, from the collection to the notification."""

from __future__ import annotations

from collections.abc import Mapping

from workermon import config, models, testing, views
from workermon.notify import channels

ID = "i-0abc0123456789def"
MINUTE = 60
T0 = 1_699_999_200
PARSER = config.Parser(channel_types=channels.CHANNEL_TYPES)


class Site(testing.Monitor):
    """A monitored worker whose metrics a test puts into CloudWatch, minute by minute."""

    def __init__(self, text: str) -> None:
        super().__init__(config.to_configuration(PARSER.parse(text, "f.toml"), config.DEFAULT), T0)
        self.worker = models.Worker(
            id=ID, name="render-07", region="us-east-1", added_at=T0 - 3600, incarnation="x", detailed=True
        )
        self.ec2.put(models.Instance(id=ID, region="us-east-1", status="running", detailed=True))
        self.workers.add([self.worker])
        self.schedule.put([self.worker], T0)

    def put(self, metric: str, by_minute: Mapping[int, float]) -> None:
        """Put datapoints into CloudWatch."""
        self.cloudwatch.put(ID, metric, [(T0 + MINUTE * minute, value) for minute, value in by_minute.items()])

    def run(self, minutes: int) -> None:
        """Collect, evaluate and deliver each minute."""
        for _ in range(minutes):
            self.clock.advance(MINUTE)
            self.collect()
            self.evaluate(ID)
            self.deliver()

    def told(self) -> list[tuple[str, int, float | None]]:
        """Return what people were notified of: severity or ``resolved``, minute of the slot, and value."""
        return [
            (
                one.severity if one.status == "firing" else "resolved",
                round((models.moment(one.at) - T0) / MINUTE),
                one.value,
            )
            for one in self.received
        ]

    def why(self, metric: str) -> views.RuleExplanation:
        """Return the state of the only rule over a metric."""
        (record,) = self.workers.get([ID]).values()
        (rule,) = self.get(views.Explanation).why(record, metric).rules
        return rule


NETWORK = """[[rules]]
name = "network-high"
metric = "(network_in + network_out) * 8 / period / 1e6"
unit = "Mbit/s"
above = { warning = 80, critical = 100 }
breach = "2 of 2"
recover = "1 of 1"
"""
BYTES = 60e6 / 8  # one Mbit/s over a minute


def test_it_fires_and_resolves() -> None:
    """A rule over two metrics fires at the slot in which both make it so, with the value in its own unit."""
    site = Site(NETWORK)
    site.put("NetworkIn", {0: 10 * BYTES, 1: 60 * BYTES, 2: 60 * BYTES, 3: 5 * BYTES})
    site.put("NetworkOut", {0: 10 * BYTES, 1: 50 * BYTES, 2: 60 * BYTES, 3: 5 * BYTES})
    site.run(8)
    assert site.told() == [("critical", 2, 120), ("resolved", 3, 10)]
    fired = site.received[0]
    assert (fired.metric, fired.unit) == ("(network_in + network_out) * 8 / period / 1e6", "Mbit/s")
    assert fired.summary == "render-07: network-high 120 Mbit/s > 100 Mbit/s for 2 of 2 datapoints"


def test_a_slot_without_one_operand_is_absent() -> None:
    """As long as one metric has no datapoint there is no value, however high the other is."""
    site = Site(NETWORK)
    site.put("NetworkIn", dict.fromkeys(range(8), 500 * BYTES))
    site.put("NetworkOut", {0: BYTES, 4: BYTES})
    site.run(12)
    assert site.told() == []


def test_a_late_operand_corrects() -> None:
    """An operand that comes minutes late makes the slots evaluated anew in which it counts, those of a window too."""
    site = Site(
        '[[rules]]\nname = "r"\nmetric = \'max(network_in, "5m") - network_out\'\n'
        'above = { critical = 50 }\nbreach = "1 of 1"\nrecover = "1 of 1"\n'
    )
    minutes = range(12)
    site.put("NetworkIn", {minute: 10 for minute in minutes if minute != 4})
    site.put("NetworkOut", dict.fromkeys(minutes, 20))
    site.run(12)
    assert site.told() == []
    site.put("NetworkIn", {4: 95.0})
    site.run(2)
    history = site.alerts.history(f"{ID}/r")
    found = [((one.transition.at - T0) // MINUTE, one.transition.after, one.transition.correction) for one in history]
    assert sorted(found) == [(4, "critical", True), (9, None, True)]


def test_why_shows_the_operands() -> None:
    """``why`` of any of its metrics has the rule, and each operand of each slot that decides."""
    site = Site(NETWORK)
    site.put("NetworkIn", {0: 10 * BYTES, 1: 60 * BYTES})
    site.put("NetworkOut", {0: 10 * BYTES, 1: 50 * BYTES})
    site.run(4)
    rule = site.why("network_out")
    shown = rule.to_json()
    assert [point["value"] for point in shown["points"]] == [20, 110]
    assert shown["points"][1]["operands"] == {"network_in": 60 * BYTES, "network_out": 50 * BYTES}
    assert any("network_in 450 MB" in text for _, text in rule.lines)
