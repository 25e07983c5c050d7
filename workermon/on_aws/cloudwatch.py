"""CloudWatch: datapoints, and the dimensions under which they are published. Its dicts stay in this module."""

from __future__ import annotations

from collections.abc import Sequence

from workermon import models, ports
from workermon.on_aws import metric_data, metric_listing, session


class AwsCloudWatch:
    """``ports.CloudWatch`` over boto3."""

    def __init__(self, sessions: session.Sessions) -> None:
        self._sessions = sessions

    def fetch(self, scope: models.AccountRegion, queries: Sequence[models.Query], until: float) -> ports.Answer:
        """Return datapoints of each query by its place. If a call fails, only its own queries fail.

        A query whose result stayed partial counts as failed, but the datapoints that arrived are returned.
        """
        return metric_data.Fetch(self._sessions, scope, queries, until).run()

    def dimensions(
        self, scope: models.AccountRegion, namespace: str, metric_name: str, instance_ids: Sequence[str] | None
    ) -> dict[str, list[models.Dimensions]]:
        """Return the dimension sets that each instance published within the last three hours.

        ``None`` asks for every instance. An account with too many metrics to list raises an error.
        """
        with self._sessions.asking("CloudWatch", scope.of_cloudwatch):
            listing = self._listing(scope, namespace, metric_name)
            return listing.all_instances() if instance_ids is None else listing.instances(instance_ids)

    def foreign_dimensions(
        self, scope: models.AccountRegion, namespace: str, metric_name: str
    ) -> list[models.Dimensions]:
        """Return dimension sets without an instance that were published within the last three hours."""
        with self._sessions.asking("CloudWatch", scope.of_cloudwatch):
            return self._listing(scope, namespace, metric_name).foreign()

    def _listing(self, scope: models.AccountRegion, namespace: str, metric_name: str) -> metric_listing.Listing:
        source = None if scope.monitored_by is None else scope.monitored_by.source
        return metric_listing.Listing(self._sessions.cloudwatch(scope.of_cloudwatch), namespace, metric_name, source)
