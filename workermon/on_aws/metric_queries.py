"""The queries of one GetMetricData call: as JSON, as botocore takes them, and as AWS bills them."""

from __future__ import annotations

import json
import operator
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, overload

from workermon import models

#: AWS bills this many statistics of one metric as one (the AWS pricing page of CloudWatch).
BILLED_TOGETHER = 5

#: Returns a query's namespace, metric name, dimensions and statistic.
_series: Callable[[models.Query], tuple[str, str, models.Dimensions, str]] = operator.itemgetter(2, 3, 4, 5)

_quoted = json.JSONEncoder().encode


class Queries(Sequence[dict[str, Any]]):
    """The queries at some places of a list, each with the id ``q<place>``.

    The items are dictionaries as botocore takes them. They are made only when they are read: their JSON is written
    without them, three times as fast. ``source`` is the account whose metrics a monitoring account is asked for.
    """

    def __init__(self, queries: Sequence[models.Query], places: Sequence[int], source: str | None = None) -> None:
        self._queries, self._places, self._source = queries, places, source

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, index: int) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, index: slice) -> list[dict[str, Any]]: ...
    def __getitem__(self, index: int | slice) -> dict[str, Any] | list[dict[str, Any]]:
        if isinstance(index, slice):
            return list(self)[index]
        return self._document(self._places[index])

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return map(self._document, self._places)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]  # like a list

    def _document(self, place: int) -> dict[str, Any]:
        query = self._queries[place]
        document: dict[str, Any] = {
            "Id": f"q{place}",
            "MetricStat": {
                "Metric": {
                    "Namespace": query.namespace,
                    "MetricName": query.metric_name,
                    "Dimensions": [{"Name": name, "Value": value} for name, value in query.dimensions],
                },
                "Period": query.period,
                "Stat": query.statistic,
            },
            "ReturnData": True,
        }
        return document if self._source is None else document | {"AccountId": self._source}

    def to_json(self) -> str:
        """Return the JSON of the list. Queries about the same metric, or the same dimensions, share their text."""
        account = "" if self._source is None else f',"AccountId":{_quoted(self._source)}'
        metrics: dict[tuple[str, str, str, int], tuple[str, str]] = {}
        dimension_texts: dict[models.Dimensions, str] = {}
        texts = []
        for place in self._places:
            _, _, namespace, metric_name, dimensions, statistic, period, _ = self._queries[place]
            around = metrics.get((namespace, metric_name, statistic, period))
            if around is None:
                around = metrics[namespace, metric_name, statistic, period] = (
                    f'"MetricStat":{{"Metric":{{"Namespace":{_quoted(namespace)},"MetricName":{_quoted(metric_name)}',
                    f'}},"Period":{period},"Stat":{_quoted(statistic)}}},"ReturnData":true{account}}}',
                )
            text = dimension_texts.get(dimensions)
            if text is None:
                pairs = [f'{{"Name":{_quoted(name)},"Value":{_quoted(value)}}}' for name, value in dimensions]
                text = dimension_texts[dimensions] = ",".join(pairs)
            texts.append(f'{{"Id":"q{place}",{around[0]},"Dimensions":[{text}]{around[1]}')
        return f"[{','.join(texts)}]"

    def billed(self) -> dict[str, int]:
        """Return how many metrics AWS bills for them, by ``namespace/name``."""
        requested = {_series(self._queries[place]) for place in self._places}
        statistics = Counter([(namespace, name, dimensions) for namespace, name, dimensions, _ in requested])
        counted: Counter[tuple[str, str]] = Counter()
        for (namespace, name, _), number in statistics.items():
            counted[namespace, name] += -(-number // BILLED_TOGETHER)
        return {f"{namespace}/{name}": number for (namespace, name), number in counted.items()}
