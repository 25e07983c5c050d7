"""``[discover]`` is refused in a region where workers are still collected."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from workermon import errors, fleet, health, models, testing

A = "i-0aaaaaaaaaaaaaaaa"
REGION = "us-east-1"
HERE = models.AccountRegion(region=REGION)


class SearchRefused(testing.MemoryEc2):
    """An EC2 that may refuse DescribeInstances by tags, and nothing else."""

    refuses = False

    def find(self, scope: models.AccountRegion, tags: Mapping[str, str]) -> Any:
        """Refuse, if it is to."""
        if self.refuses:
            raise errors.AwsDenied(f"EC2 in {scope.region}", "DescribeInstances", "allow ec2:DescribeInstances")
        return super().find(scope, tags)


class Site(testing.Monitor):
    """One worker in a region that ``[discover]`` searches."""

    def __init__(self) -> None:
        super().__init__(now=1_700_000_000.0)
        self.search = SearchRefused()
        self.ec2 = self.search
        self.search.put(models.Instance(id=A, region=REGION, status="running", name="a"))
        self.get(fleet.Adding).add([A], fleet.AddOptions(scope=HERE, interval=60))
        configuration = self.configurations.load()
        discover = models.Discover(regions=(REGION,), tags={"Role": "render"})
        assert self.configurations.save(
            configuration.model_copy(update={"discover": discover, "revision": configuration.revision + 1})
        )

    def minutes(self, number: int, every: int = 5) -> None:
        """Let minutes pass, with a reconciliation each few of them."""
        for minute in range(number):
            self.beat_for(60)
            self.collect(A)
            if minute % every == 0:
                self.get(fleet.Reconciliation).reconcile(region=REGION, interval=60)
            self.evaluate(A)

    @property
    def notified(self) -> list[models.Notification]:
        """Return the notifications about accounts, oldest first."""
        self.deliver()
        return [notification for notification in self.received if notification.kind == "collector"]


def test_it_notifies_once_and_resolves() -> None:
    """status and an alert about the account and region name it. The worker is collected and notifies."""
    site = Site()
    site.minutes(6)
    assert site.notified == []
    site.search.refuses = True
    site.minutes(30)
    parts = {part.name: part for part in site.get(health.StatusCheck).status().parts}
    assert parts["collection"].reason == f"[discover] cannot search in default/{REGION} (denied)"
    [fired] = site.notified
    assert (fired.status, fired.scope) == ("firing", {"account": "default", "region": REGION})
    assert "[discover] cannot search there" in fired.summary
    assert fired.dedup_key == f"discover:default/{REGION}/collector"
    assert site.accounts.load()[HERE.key].failing_since is None
    site.search.refuses = False
    site.minutes(6)
    assert [row.status for row in site.notified] == ["firing", "resolved"]
    parts = {part.name: part for part in site.get(health.StatusCheck).status().parts}
    assert parts["collection"].ok


def test_it_ends_when_discover_is_configured_no_more() -> None:
    """Without [discover] the alert resolves."""
    site = Site()
    site.search.refuses = True
    site.minutes(31)
    assert [row.status for row in site.notified] == ["firing"]
    configuration = site.configurations.load()
    assert site.configurations.save(
        configuration.model_copy(update={"discover": None, "revision": configuration.revision + 1})
    )
    assert site.get(fleet.AccountClosing).close_unused_accounts() == (f"discover:default/{REGION}",)
    assert [(row.status, row.reason) for row in site.notified][1:] == [("resolved", "it is not configured")]
