"""Instances are found by their tags, once or for as long as the config file says so."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from workermon import errors, logs, models, ports
from workermon.fleet.desired import DesiredWorker
from workermon.fleet.members import Enrolment
from workermon.fleet.scopes import Scopes
from workermon.fleet.steps import Comparison, Step

log = logs.get(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class Discovered:
    """What carries the tags: the workers that were (or would be) added, and the ids that were monitored already."""

    added: tuple[models.Worker, ...]
    known: tuple[str, ...]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Discovery:
    """Finds instances by tag."""

    enrolment: Enrolment
    workers: ports.Workers
    ec2: ports.Ec2
    secrets: ports.Secrets
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
        """Add every instance that carries all these tags and is not monitored yet; ``dry_run`` adds nothing."""
        found: dict[str, tuple[models.AccountRegion, models.Instance]] = {}
        for scope in scopes:
            found.update({instance.id: (scope, instance) for instance in self.ec2.find(scope, tags)})
        known = self.workers.get(list(found))
        added = tuple(
            DesiredWorker(
                id=instance.id, scope=scope, name=None, interval=interval, labels=labels or {}, origin="command"
            ).to_worker(instance, self.now())
            for _, (scope, instance) in sorted(found.items())
            if instance.id not in known
        )
        if added and not dry_run:
            self.enrolment.enrol(added)
            log.info("workers.discovered", number=len(added), origin="command")
        return Discovered(added, tuple(sorted(known)))

    def compare(
        self,
        fleet: Mapping[str, ports.Record],
        configuration: models.Configuration,
        *,
        region: str | None,
        interval: int,
    ) -> Comparison:
        """Return what keeps the fleet in step with ``[discover]``.

        ``region`` and ``interval`` (seconds) are used if the file names none.
        """
        ours = {each: record.worker for each, record in fleet.items() if record.worker.origin == "discover"}
        wanted = configuration.discover
        found = Comparison()
        if wanted is None:
            found.steps.extend(Step("remove", worker_id, "no [discover] any more") for worker_id in ours)
            return found
        seen: set[str] = set()
        for scope in Scopes(configuration, self.secrets).of_discovery(wanted, region):
            try:
                instances = self.ec2.find(scope, wanted.tags)
            except errors.AwsError as why:
                found.failed[scope.key] = why
                continue
            seen.update(instance.id for instance in instances)
            found.workers.extend(
                DesiredWorker(
                    id=instance.id,
                    scope=scope,
                    name=None,
                    interval=wanted.interval or interval,
                    labels=wanted.labels,
                    origin="discover",
                ).to_worker(instance, self.now())
                for instance in sorted(instances, key=lambda instance: instance.id)
                if instance.id not in fleet
            )
        found.steps.extend(Step("add", worker.id, "it carries the tags of [discover]") for worker in found.workers)
        found.steps.extend(
            Step("remove", worker_id, "no longer carries the tags of [discover]")
            for worker_id, worker in ours.items()
            if worker_id not in seen and worker.scope.key not in found.failed
        )
        return found
