"""ListMetrics: the dimensions under which a metric was recently published."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from workermon import models
from workermon.on_aws.metric_data import MAX_PAGES

if TYPE_CHECKING:
    from mypy_boto3_cloudwatch import CloudWatchClient

#: Instances. Up to this many are looked up one by one.
MAX_SINGLE_LOOKUPS = 5

#: Pages of a metric, of 500 series each, that are searched for series without an instance.
FOREIGN_PAGES = 10


class Listing:
    """Lists one metric of an account and region. The caller translates errors.

    ``source`` is the id of the linked account that owns the metrics; ``None`` for the client's own.
    """

    def __init__(self, client: CloudWatchClient, namespace: str, metric_name: str, source: str | None = None) -> None:
        self._client, self._namespace, self._metric_name = client, namespace, metric_name
        self._source = source
        #: By instance. A set's key is its sorted form, but its order is kept, because some endpoints compare it.
        self._sets: dict[str, dict[models.Dimensions, models.Dimensions]] = {}

    def all_instances(self) -> dict[str, list[models.Dimensions]]:
        """Return the dimension sets of every instance. Raises ``RuntimeError`` if the pages do not end."""
        if not self._list({"Name": "InstanceId"}, None, MAX_PAGES):
            raise RuntimeError("its pages do not end")
        return self._sorted()

    def instances(self, instance_ids: Sequence[str]) -> dict[str, list[models.Dimensions]]:
        """Return the dimension sets of some instances."""
        wanted_ids = set(instance_ids)
        # A fleet much larger than what is asked for has more pages than instances. Then one by one takes fewer calls.
        complete = len(wanted_ids) > MAX_SINGLE_LOOKUPS and self._list(
            {"Name": "InstanceId"}, wanted_ids, len(wanted_ids)
        )
        if not complete:
            for instance_id in sorted(wanted_ids):
                self._list({"Name": "InstanceId", "Value": instance_id}, wanted_ids, MAX_PAGES)
        return self._sorted()

    def foreign(self) -> list[models.Dimensions]:
        """Return dimension sets without an instance, from the first pages."""
        sets: dict[models.Dimensions, None] = {}

        def take(metric: Any) -> None:
            dimensions = tuple((dimension["Name"], dimension["Value"]) for dimension in metric.get("Dimensions") or ())
            if models.is_foreign(dict(dimensions)):
                sets[dimensions] = None

        self._pages([], take, FOREIGN_PAGES)
        return list(sets)

    def _list(self, dimension: dict[str, str], wanted_ids: set[str] | None, max_pages: int) -> bool:
        """Read the metrics that have this dimension. Return ``False`` if there are more than ``max_pages`` pages."""
        return self._pages([dimension], lambda metric: self._take(metric, wanted_ids), max_pages)

    def _pages(self, dimensions: list[dict[str, str]], take: Callable[[Any], None], max_pages: int) -> bool:
        request: dict[str, Any] = {
            "Namespace": self._namespace,
            "MetricName": self._metric_name,
            "RecentlyActive": "PT3H",
            **({"Dimensions": dimensions} if dimensions else {}),
            **({"IncludeLinkedAccounts": True, "OwningAccount": self._source} if self._source else {}),
        }
        token: str | None = None
        for _ in range(max_pages):
            page = self._client.list_metrics(**request)
            for metric in page["Metrics"]:
                take(metric)
            before, token = token, page.get("NextToken")
            if not token:
                return True
            if token == before:
                raise RuntimeError("the same page came twice")
            request["NextToken"] = token
        return False

    def _take(self, metric: Any, wanted_ids: set[str] | None) -> None:
        if metric.get("Namespace") != self._namespace or metric.get("MetricName") != self._metric_name:
            return
        dimensions = tuple((dimension["Name"], dimension["Value"]) for dimension in metric.get("Dimensions") or ())
        owner = dict(dimensions).get("InstanceId")
        if owner is not None and (wanted_ids is None or owner in wanted_ids):
            self._sets.setdefault(owner, {})[tuple(sorted(dimensions))] = dimensions

    def _sorted(self) -> dict[str, list[models.Dimensions]]:
        return {instance_id: [sets[key] for key in sorted(sets)] for instance_id, sets in self._sets.items()}
