"""Finds instances by their tags, once or continuously by the config file."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from workermon import errors, logs, models, ports
from workermon.fleet.account_regions import discover_scopes
from workermon.fleet.adding import Registration
from workermon.fleet.desired import DesiredWorker
from workermon.fleet.repairs import FleetDifference, Repair

log = logs.get(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class Discovered:
    """The instances with the tags: workers that were (or would be) added, and ids that were already monitored.

    ``failed`` has, by the key of an account and region, why it could not be searched.
    """

    added: tuple[models.Worker, ...]
    already_monitored: tuple[str, ...]
    failed: dict[str, errors.AwsError]


@dataclasses.dataclass(frozen=True, slots=True)
class Search:
    """The instances with the tags, by account and region, and why others could not be searched, by their keys."""

    instances: tuple[tuple[models.AccountRegion, list[models.Instance]], ...]
    failed: dict[str, errors.AwsError]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Defaults:
    """Defaults for ``[discover]``: the region, and the interval in seconds.

    ``keep_interval``: existing workers keep theirs instead.
    """

    region: str | None
    interval: int
    keep_interval: bool = False


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TagSearch:
    """Finds instances by their tags."""

    ec2: ports.Ec2

    def search(self, tags: Mapping[str, str], scopes: Sequence[models.AccountRegion]) -> Search:
        """Ask EC2 for the instances with these tags, in each account and region."""
        instances: list[tuple[models.AccountRegion, list[models.Instance]]] = []
        failed: dict[str, errors.AwsError] = {}
        for scope in scopes:
            try:
                instances.append((scope, sorted(self.ec2.find(scope, tags), key=lambda instance: instance.id)))
            except errors.AwsError as error:
                failed[scope.key] = error
        serving = {scope.account: scope.region for scope, _ in instances}
        for scope in scopes:
            if scope.key in failed and scope.account in serving:
                failed[scope.key] = errors.region_not_enabled(failed[scope.key], serving[scope.account])
        return Search(tuple(instances), failed)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Discovery:
    """Adds instances by tag, once: for a command."""

    registration: Registration
    tag_search: TagSearch
    workers: ports.Workers
    now: ports.Clock

    def discover(
        self,
        tags: Mapping[str, str],
        scopes: Sequence[models.AccountRegion],
        *,
        interval: int = 60,
        labels: Mapping[str, str] | None = None,
        dry_run: bool = False,
    ) -> Discovered:
        """Add every instance that carries all these tags and is not monitored yet; ``dry_run`` adds nothing.

        If one account and region refuses, the others are still searched. Raises ``errors.AwsError`` if all refuse.
        """
        search = self.tag_search.search(tags, scopes)
        if search.failed and not search.instances:
            raise next(iter(search.failed.values()))
        instances = {
            instance.id: (scope, instance)
            for scope, instances_there in search.instances
            for instance in instances_there
        }
        existing = self.workers.get(list(instances))
        added = tuple(
            DesiredWorker(
                id=instance.id,
                scope=scope,
                name=None,
                interval=interval,
                labels=labels or {},
                origin="command",
                found_by_tag=True,
            ).to_worker(instance, self.now())
            for _, (scope, instance) in sorted(instances.items())
            if instance.id not in existing
        )
        if added and not dry_run:
            self.registration.register(added)
            log.info("workers.discovered", number=len(added), origin="command")
        return Discovered(added, tuple(sorted(existing)), search.failed)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DiscoverComparison:
    """Compares the fleet with what the section ``[discover]`` finds."""

    tag_search: TagSearch
    secrets: ports.Secrets
    now: ports.Clock

    def compare(
        self, fleet: Mapping[str, ports.Record], configuration: models.Configuration, defaults: Defaults
    ) -> FleetDifference:
        """Return the changes that ``[discover]`` makes: workers to add, to remove, and to update."""
        ours = {worker_id: record.worker for worker_id, record in fleet.items() if record.worker.origin == "discover"}
        discover = configuration.discover
        comparison = FleetDifference()
        if discover is None:
            comparison.repairs.extend(Repair("remove", worker_id, "no [discover] any more") for worker_id in ours)
            return comparison
        search = self.tag_search.search(discover.tags, discover_scopes(configuration, self.secrets, defaults.region))
        comparison.failed.update(search.failed)
        comparison.searched.update(scope.key for scope, _ in search.instances)
        for scope, instances in search.instances:
            for instance in instances:
                desired = DesiredWorker(
                    id=instance.id,
                    scope=scope,
                    name=None,
                    interval=discover.interval or defaults.interval,
                    labels=discover.labels_of(instance.tags),
                    origin="discover",
                )
                record = fleet.get(instance.id)
                if record is None:
                    comparison.added.append(desired.to_worker(instance, self.now()))
                    comparison.repairs.append(Repair("add", instance.id, "it carries the tags of [discover]"))
                else:
                    keep_interval = defaults.keep_interval and discover.interval is None
                    _compare_worker(desired, record.worker, comparison, keep_interval=keep_interval)
        seen_ids = {instance.id for _, instances in search.instances for instance in instances}
        unknown_regions = {models.account_and_region(key)[1] for key in search.failed}
        comparison.repairs.extend(
            Repair("remove", worker_id, "no longer carries the tags of [discover]")
            for worker_id, worker in ours.items()
            if worker_id not in seen_ids and worker.region not in unknown_regions
        )
        return comparison


def _labels(worker: models.Worker) -> str:
    return ", ".join(f"{key}={value}" for key, value in sorted(worker.labels.items())) or "none"


def _compare_worker(
    desired: DesiredWorker, worker: models.Worker, comparison: FleetDifference, *, keep_interval: bool
) -> None:
    """Add to a comparison how a worker of ``[discover]`` differs from its section.

    Workers of the file, and those that a command added by their ids, keep their own set-up.
    """
    if worker.origin != "discover" and not worker.found_by_tag:
        return
    if keep_interval:
        desired = dataclasses.replace(desired, interval=worker.interval)
    after = desired.changed(worker)
    if after is None:
        return
    comparison.updated.append(after)
    if worker.origin == "discover":
        names = ("account", "role_arn", "external_id", "monitored_by", "interval", "labels")
        changed = [name.replace("_", " ") for name in names if getattr(after, name) != getattr(worker, name)]
        reason = f"[discover] has another {', '.join(changed)}"
        if changed == ["labels"]:
            reason = f"its tags or [discover] have changed its labels: {_labels(worker)} → {_labels(after)}"
        comparison.repairs.append(Repair("update", worker.id, reason))
    else:
        reason = "a command added it, and [discover] matches it too"
        comparison.repairs.append(Repair("take over", worker.id, reason))
