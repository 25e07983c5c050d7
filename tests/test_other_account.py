"""An id that another account has by now: nothing of its former life is taken for its own, by any implementation."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support import stages
from tests.support.repositories import Repository
from workermon import collect, config, models, ports, rules, testing
from workermon.alerts import lifecycle
from workermon.rules import threshold

NOW = 1_700_000_100.0
ONE = "i-0000000000000001a"
CPU = "cpu_utilization"
ROLE = "arn:aws:iam::123456789012:role/workermon"


class House:
    """Collection and judgement over a repository, with an instance of one id in each of two accounts."""

    def __init__(self, repository: Repository) -> None:
        self.to = repository
        self.clock = testing.ManualClock(NOW)
        self.ec2 = testing.MemoryEc2()
        self.asked: list[models.AccountRegion] = []
        #: What each account's CloudWatch has.
        self.values: dict[str, list[models.Datapoint]] = {"default": [], "lab": []}
        self.schedule, self.learned_delays = (
            testing.MemorySchedule(),
            testing.MemoryLearnedDelays(testing.MemoryStore()),
        )
        self.stage = collect.Collection(
            ec2=self.ec2,
            cloudwatch=self,
            workers=repository.workers,
            samples=repository.samples,
            schedule=self.schedule,
            configurations=repository.configurations,
            learned_delays=self.learned_delays,
            leases=repository.leases,
            costs=testing.MemoryCosts(),
            accounts=testing.MemoryAccounts(testing.MemoryStore()),
            cohorts=testing.MemoryCohorts(),
            pacer=collect.Pacer(cohorts=testing.MemoryCohorts(), cpu=lambda: 0.0, node="test"),
            kinds=rules.KINDS,
            bulkhead=collect.Bulkhead(),
            now=self.clock,
        )
        rule = threshold.KIND.rule(
            name="hot", metric=CPU, above=models.Levels(critical=90.0), breach=models.Count(m=1, n=1)
        )
        before = repository.configurations.load()
        made = config.DEFAULT.model_copy(update={"revision": before.revision + 1, "collect": (CPU,), "rules": (rule,)})
        assert repository.configurations.save(made)

    def fetch(self, scope: models.AccountRegion, queries: Any, until: float) -> ports.Answer:
        """Answer as that account's CloudWatch does."""
        self.asked.append(scope)
        points = tuple(each for each in self.values[scope.account] if each.at <= until)
        return ports.Answer({place: models.Series(query.period, points) for place, query in enumerate(queries)}, {})

    def dimensions(self, *_: Any) -> dict[str, Any]:
        """Nothing but what EC2 publishes is there."""
        return {}

    def foreign_dimensions(self, *_: Any) -> list[tuple[tuple[str, str], ...]]:
        """Nothing is published for no instance."""
        return []

    def add(self, account: str, incarnation: str) -> models.Worker:
        """Monitor the instance of an account."""
        worker = models.Worker(
            id=ONE, name="one", region="us-east-1", added_at=self.clock(), incarnation=incarnation, account=account,
            role_arn=None if account == "default" else ROLE,
        )  # fmt: skip
        self.ec2.put(models.Instance(id=ONE, region="us-east-1", status="running"), account=account)
        self.to.workers.add([worker])
        self.schedule.put([worker], self.clock())
        return worker

    def remove(self) -> None:
        """Stop monitoring it, as ``remove`` does."""
        self.schedule.delete([ONE])
        basis = self.to.alerts.load([ONE])[ONE]
        verdict = lifecycle.closing(basis, self.to.configurations.load(), "it is no longer monitored", self.clock())
        assert self.to.alerts.retire(verdict)

    def collect(self) -> collect.Report:
        """Collect it now, and judge it."""
        report = self.stage.collect([ONE])
        stages.evaluated(
            [ONE], alerts=self.to.alerts, samples=self.to.samples, configurations=self.to.configurations,
            pulse=self.to.pulse, now=self.clock,
        )  # fmt: skip
        return report

    def ledger(self) -> list[models.Datapoint]:
        """Return what is recorded of it."""
        return list(self.to.samples.read([(ONE, CPU, 300)], 0, NOW * 2)[ONE, CPU].points)


@pytest.fixture
def house(repository: Repository) -> House:
    """Give one with the instance of the default account monitored and on fire."""
    made = House(repository)
    made.values["default"] = [models.Datapoint(int(NOW) - 600, 99.0), models.Datapoint(int(NOW) - 300, 98.0)]
    made.values["lab"] = [models.Datapoint(int(NOW) - 900, 5.0)]
    made.add("default", "former")
    made.collect()
    assert [alert.rule for alert in made.to.alerts.open()] == ["hot"]
    return made


def test_what_the_other_account_has_is_all_that_there_is(house: House) -> None:
    """Ledger, alerts and what was learnt of its dimensions begin anew; and only that account is asked."""
    house.remove()
    assert house.to.alerts.open() == []
    house.clock.advance(5)  # within the same slot
    house.asked.clear()
    house.add("lab", "new")
    assert house.collect().collected == (ONE,)
    assert {(scope.account, scope.role_arn) for scope in house.asked} == {("lab", ROLE)}
    assert house.ledger() == house.values["lab"]
    assert house.to.alerts.open() == []
    record = house.to.workers.get([ONE])[ONE]
    assert record.condition.latest[CPU] == house.values["lab"][0]


def test_an_answer_of_the_former_account_that_comes_late_is_dropped(house: House) -> None:
    """A collection that was under way writes neither datapoints nor trouble, and retires nobody."""
    house.clock.advance(60)
    inner = house.ec2.statuses

    def meanwhile(scope: models.AccountRegion, worker_ids: Any) -> Any:
        house.ec2.statuses = inner  # type: ignore[method-assign]
        answer = inner(scope, worker_ids)
        house.remove()
        house.add("lab", "new")
        return {each: status.model_copy(update={"status": "terminated"}) for each, status in answer.items()}

    house.ec2.statuses = meanwhile  # type: ignore[assignment, method-assign]
    assert house.collect().collected == ()
    assert house.ledger() == []
    record = house.to.workers.get([ONE])[ONE]
    assert (record.worker.account, record.condition) == ("lab", models.Condition())
    assert house.schedule.ids() == {ONE}
    house.clock.advance(60)
    assert house.collect().collected == (ONE,)
    assert house.ledger() == house.values["lab"]


def test_who_is_added_while_its_former_self_is_retired_keeps_its_entry(house: House) -> None:
    """The former one was terminated; the new one is collected from its next run on."""
    house.clock.advance(60)
    house.ec2.put(models.Instance(id=ONE, region="us-east-1", status="terminated"))
    inner = house.schedule.delete

    def meanwhile(worker_ids: Any) -> None:
        house.schedule.delete = inner  # type: ignore[method-assign]
        house.remove()
        house.add("lab", "new")
        inner(worker_ids)

    house.schedule.delete = meanwhile  # type: ignore[method-assign]
    assert house.collect().retired == (ONE,)
    assert house.schedule.ids() == {ONE}


def test_a_listing_of_another_account_names_nobody_of_ours(repository: Repository) -> None:
    """Of an id that is monitored in one account the dimensions that another account publishes are not taken."""
    house = House(repository)
    made = config.DEFAULT.model_copy(update={"revision": 2, "collect": ("memory_utilization",), "rules": ()})
    assert repository.configurations.save(made)
    mine = house.add("default", "mine")
    fleet = [mine.model_copy(update={"id": f"i-{number:017x}", "account": "lab", "role_arn": ROLE, "incarnation": "x"})
             for number in range(10)]  # fmt: skip
    repository.workers.add(fleet)
    for each in fleet:
        house.ec2.put(models.Instance(id=each.id, region="us-east-1", status="running"), account="lab")
    house.dimensions = lambda *_: {  # type: ignore[method-assign]
        each: [(("InstanceId", each), ("Whose", "lab's"))] for each in (ONE, *(each.id for each in fleet))
    }
    house.clock.advance(60)
    house.stage.collect([each.id for each in fleet])
    records = repository.workers.get([ONE, fleet[0].id])
    assert records[fleet[0].id].dimensions
    assert records[ONE].dimensions == {}
