"""An id that moved to another account: nothing of its former account is used, in every implementation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from tests.support.repositories import Repository, install
from workermon import collect, config, models, ports, testing
from workermon.alerts import lifecycle
from workermon.rules import threshold

NOW = 1_700_000_100.0
ONE = "i-0000000000000001a"
CPU = "cpu_utilization"
ROLE = "arn:aws:iam::123456789012:role/workermon"


class CloudWatch(testing.MemoryCloudWatch):
    """A CloudWatch with different values of the metric in each account."""

    def __init__(self) -> None:
        super().__init__()
        self.requests: list[models.AccountRegion] = []
        self.values: dict[str, list[models.Datapoint]] = {"default": [], "lab": []}
        self.published: dict[str, list[models.Dimensions]] = {}

    def fetch(self, scope: models.AccountRegion, queries: Sequence[models.Query], until: float) -> ports.Answer:
        """Answer as that account's CloudWatch does."""
        self.requests.append(scope)
        points = tuple(value for value in self.values[scope.account] if value.at <= until)
        return ports.Answer({place: models.Series(query.period, points) for place, query in enumerate(queries)}, {})

    def dimensions(self, *_: object) -> dict[str, list[models.Dimensions]]:
        """Return the listed dimensions. At first only EC2's own exist."""
        return self.published


class House(testing.Monitor):
    """A monitor over a repository, with an instance of the same id in each of two accounts."""

    def __init__(self, repository: Repository) -> None:
        rule = threshold.KIND.rule(
            name="hot", metric=CPU, above=models.Levels(critical=90.0), breach=models.Count(m=1, n=1)
        )
        before = repository.configurations.load()
        configuration = config.DEFAULT.model_copy(
            update={"revision": before.revision + 1, "collect": (CPU,), "rules": (rule,)}
        )
        assert repository.configurations.save(configuration)
        super().__init__(configuration, NOW)
        self.cloudwatch: CloudWatch = CloudWatch()
        install(self, repository)
        self.requests, self.values = self.cloudwatch.requests, self.cloudwatch.values

    def add(self, account: str, incarnation: str) -> models.Worker:
        """Monitor the instance of an account."""
        role_arn = None if account == "default" else ROLE
        return self.add_worker(ONE, incarnation=incarnation, account=account, role_arn=role_arn)

    def remove(self) -> None:
        """Stop monitoring it, as ``remove`` does."""
        self.schedule.delete([ONE])
        basis = self.alerts.load([ONE])[ONE]
        verdict = lifecycle.closing(basis, self.configurations.load(), "it is no longer monitored", self.clock())
        assert self.alerts.retire(verdict)

    def collect_and_evaluate(self) -> collect.Report:
        """Collect it now, and evaluate it."""
        report = self.collect(ONE)
        self.evaluate(ONE)
        return report

    def ledger(self) -> list[models.Datapoint]:
        """Return the worker's recorded datapoints."""
        return list(self.samples.read([(ONE, CPU, 300)], 0, NOW * 2)[ONE, CPU].points)


@pytest.fixture
def house(repository: Repository) -> House:
    """Give one in which the default account's instance is monitored and fires."""
    new_house = House(repository)
    new_house.values["default"] = [models.Datapoint(int(NOW) - 600, 99.0), models.Datapoint(int(NOW) - 300, 98.0)]
    new_house.values["lab"] = [models.Datapoint(int(NOW) - 900, 5.0)]
    new_house.add("default", "former")
    new_house.collect_and_evaluate()
    assert [alert.rule for alert in new_house.alerts.open()] == ["hot"]
    return new_house


def test_what_the_other_account_has_is_all_that_there_is(house: House) -> None:
    """Ledger, alerts and learned dimensions start again, and only that account is asked."""
    house.remove()
    assert house.alerts.open() == []
    house.clock.advance(5)  # within the same slot
    house.requests.clear()
    house.add("lab", "new")
    assert house.collect_and_evaluate().collected == (ONE,)
    assert {(scope.account, scope.role_arn) for scope in house.requests} == {("lab", ROLE)}
    assert house.ledger() == house.values["lab"]
    assert house.alerts.open() == []
    record = house.workers.get([ONE])[ONE]
    assert record.condition.latest[CPU] == house.values["lab"][0]


def test_an_answer_of_the_former_account_that_comes_late_is_dropped(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A collection under way writes neither datapoints nor errors, and retires no worker."""
    house.clock.advance(60)
    inner = house.ec2.statuses

    def meanwhile(scope: models.AccountRegion, worker_ids: Any) -> Any:
        monkeypatch.setattr(house.ec2, "statuses", inner)
        answer = inner(scope, worker_ids)
        house.remove()
        house.add("lab", "new")
        return {worker_id: status.model_copy(update={"status": "terminated"}) for worker_id, status in answer.items()}

    monkeypatch.setattr(house.ec2, "statuses", meanwhile)
    assert house.collect_and_evaluate().collected == ()
    assert house.ledger() == []
    record = house.workers.get([ONE])[ONE]
    assert (record.worker.account, record.condition) == ("lab", models.Condition())
    assert house.schedule.ids() == {ONE}
    house.clock.advance(60)
    assert house.collect_and_evaluate().collected == (ONE,)
    assert house.ledger() == house.values["lab"]


def test_who_is_added_while_its_former_self_is_retired_keeps_its_entry(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The former incarnation is terminated. The new one is collected from its next run on."""
    house.clock.advance(60)
    house.ec2.put(models.Instance(id=ONE, region="us-east-1", status="terminated"))
    inner = house.schedule.delete

    def meanwhile(worker_ids: Any) -> None:
        monkeypatch.setattr(house.schedule, "delete", inner)
        house.remove()
        house.add("lab", "new")
        inner(worker_ids)

    monkeypatch.setattr(house.schedule, "delete", meanwhile)
    assert house.collect_and_evaluate().retired == (ONE,)
    assert house.schedule.ids() == {ONE}


def test_a_listing_of_another_account_names_nobody_of_ours(repository: Repository) -> None:
    """Dimensions that another account publishes for a monitored id are not used."""
    house = House(repository)
    configuration = config.DEFAULT.model_copy(update={"revision": 2, "collect": ("memory_utilization",), "rules": ()})
    assert repository.configurations.save(configuration)
    mine = house.add("default", "mine")
    fleet = [mine.model_copy(update={"id": f"i-{number:017x}", "account": "lab", "role_arn": ROLE, "incarnation": "x"})
             for number in range(10)]  # fmt: skip
    repository.workers.add(fleet)
    for worker in fleet:
        house.ec2.put(models.Instance(id=worker.id, region="us-east-1", status="running"), account="lab")
    house.cloudwatch.published = {
        worker_id: [(("InstanceId", worker_id), ("Whose", "lab's"))]
        for worker_id in (ONE, *(worker_id.id for worker_id in fleet))
    }
    house.clock.advance(60)
    house.collect(*(worker.id for worker in fleet))
    records = repository.workers.get([ONE, fleet[0].id])
    assert records[fleet[0].id].dimensions
    assert records[ONE].dimensions == {}
