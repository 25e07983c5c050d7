"""Workers that a user wants, and the checks before they are added."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Iterable, Mapping

from workermon import errors, models, ports

#: Maximum characters of a name from a tag (EC2 allows 256; control characters grow when they are escaped).
MAX_NAME_LENGTH = 256


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DesiredWorker:
    """A worker that a user wants, before EC2 is asked; ``found_by_tag`` as in ``models.Worker``, times in seconds."""

    id: str
    scope: models.AccountRegion
    name: str | None
    interval: int
    labels: Mapping[str, str]
    origin: models.Origin
    found_by_tag: bool = False

    def to_worker(self, instance: models.Instance | None, at: float) -> models.Worker:
        """Return the worker to add, named by the user, else by its instance's ``Name`` tag, else by its id."""
        return models.Worker(
            id=self.id,
            name=self.name or tag_name(instance) or self.id,
            named_by_user=self.name is not None,
            region=self.scope.region,
            account=self.scope.account,
            role_arn=self.scope.role_arn,
            external_id=self.scope.external_id,
            monitored_by=self.scope.monitored_by,
            interval=self.interval,
            labels=dict(self.labels),
            origin=self.origin,
            found_by_tag=self.found_by_tag,
            added_at=at,
            incarnation=uuid.uuid4().hex,
            detailed=instance is not None and instance.detailed,
        )

    def changed(self, worker: models.Worker) -> models.Worker | None:
        """Return a monitored worker as wanted; ``None`` if it is already so.

        A worker added by a command stays one, unless ``[discover]`` takes it over.
        """
        taken_over = self.origin == "discover" and worker.found_by_tag
        after = worker.model_copy(
            update={
                "name": self.name or worker.name,
                "named_by_user": self.name is not None,
                "region": self.scope.region,
                "account": self.scope.account,
                "role_arn": self.scope.role_arn,
                "external_id": self.scope.external_id,
                "monitored_by": self.scope.monitored_by,
                "interval": self.interval,
                "labels": dict(self.labels),
                "origin": "command" if worker.origin == "command" and not taken_over else self.origin,
                "found_by_tag": worker.found_by_tag and not taken_over,
            }
        )
        return None if after == worker else after


@dataclasses.dataclass(frozen=True, slots=True)
class Described:
    """EC2's answers about some workers, by id, and the reasons for those that are missing."""

    instances: dict[str, models.Instance]
    missing: dict[str, str]

    def not_found(self) -> errors.NotFound:
        """Return the error that names all that are missing."""
        return errors.NotFound(
            f"{'instances' if len(self.missing) > 1 else 'instance'} {', '.join(self.missing)}",
            ", ".join(dict.fromkeys(self.missing.values())),
            "check id, region and account; nothing was added",
        )


def tag_name(instance: models.Instance | None) -> str:
    """Return an instance's ``Name`` tag as a worker's name: on one line, empty if there is none."""
    if instance is None or not instance.name:
        return ""
    return errors.printable(instance.name).strip()[:MAX_NAME_LENGTH].strip()


def describe(desired: Iterable[DesiredWorker], ec2: ports.Ec2) -> Described:
    """Ask EC2 for these workers; a terminated one counts as missing."""
    by_scope: dict[models.AccountRegion, list[str]] = {}
    for worker in desired:
        by_scope.setdefault(worker.scope, []).append(worker.id)
    described = Described({}, {})
    for scope, worker_ids in by_scope.items():
        answer = ec2.describe(scope, worker_ids)
        for worker_id in worker_ids:
            instance = answer.get(worker_id)
            if instance is None:
                described.missing[worker_id] = f"unknown to EC2 in {scope.region}"
            elif instance.status in models.GONE:
                described.missing[worker_id] = f"{instance.status} in {scope.region}"
            else:
                described.instances[worker_id] = instance
    return described


def check_names(desired: Iterable[DesiredWorker], workers: ports.Workers) -> None:
    """Raise ``errors.InvalidInput`` if a wanted name is another worker's name or another instance's id."""
    desired_ids = {worker.name: worker.id for worker in desired if worker.name is not None}
    if not desired_ids:
        return
    for name, worker_id in desired_ids.items():
        if models.INSTANCE_ID.fullmatch(name) and name != worker_id:
            raise errors.InvalidInput(f"name {name}", "is the id of another instance", "choose another")
    for record in workers.every():
        owner = desired_ids.get(record.worker.name)
        if owner is not None and owner != record.worker.id:
            raise errors.InvalidInput(
                f"name {record.worker.name}", f"is the name of {record.worker.id} already", "choose another"
            )
