"""Doctor: tests what ``status`` only reads: AWS permissions, the settings of Redis, the clocks."""

from __future__ import annotations

import dataclasses

from workermon import models, ports
from workermon.health import status
from workermon.health.doctor import aws, discovery, event_queues, rules, server
from workermon.health.doctor.check import Check as Check


class Examination(models.Frozen):
    """The results of all tests; ``ok`` only if every check is."""

    ok: bool
    checks: tuple[Check, ...]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Doctor:
    """Tests every part, the rules, Redis' settings, and each permission in each account and region."""

    status_check: status.StatusCheck
    event_queue_examination: event_queues.EventQueueExamination
    server_examination: server.ServerExamination
    rule_examination: rules.RuleExamination
    lateness_examination: rules.LatenessExamination
    discovery_examination: discovery.DiscoveryExamination
    aws_examination: aws.AwsExamination
    workers: ports.Workers

    def examine(self, default_region: str | None) -> Examination:
        """Test everything. Without workers, AWS is tested in ``default_region``, if there is one."""
        # First, because a newly configured queue is read for the first time meanwhile.
        queue_checks = list(self.event_queue_examination.examine(default_region))
        checks = [Check(name=part.name, ok=part.ok, reason=part.reason) for part in self.status_check.status().parts]
        checks += self.server_examination.examine()
        members: dict[models.AccountRegion, list[str]] = {}
        records = list(self.workers.every())
        for record in records:
            members.setdefault(record.worker.scope, []).append(record.worker.id)
        checks += self.rule_examination.examine(records)
        checks += self.lateness_examination.examine(records)
        checks += self.discovery_examination.examine(members, default_region)
        checks += queue_checks
        if not members and default_region is not None:
            members[models.AccountRegion(region=default_region)] = []
        for scope, worker_ids in members.items():
            checks += self.aws_examination.examine(scope, worker_ids)
        if not members:
            checks.append(Check(name="aws", ok=False, reason="no region is configured", todo="set AWS_REGION"))
        return Examination(ok=all(check.ok for check in checks), checks=tuple(checks))
