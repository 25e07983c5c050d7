"""Pure: the groups of workers that a rule compares with one another, from their stored records."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from workermon import models, ports, rules


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """The workers whose label ``by`` has a ``value``, for a comparison; still without datapoints."""

    rule: models.Rule
    by: str
    value: str
    peers: Mapping[str, rules.Peer]

    @classmethod
    def of(
        cls,
        kind: rules.Kind[Any],
        rule: models.Rule,
        value: str,
        records: Iterable[ports.Record],
        configuration: models.Configuration,
    ) -> Compared:
        """Return the group of a value among these workers; ``kind`` is the rule's."""
        by = kind.compares_by(rule)
        assert by is not None
        same_label = (record for record in records if record.worker.labels.get(by) == value)
        members = (
            (record, rules.peer(kind, rule, record.worker, record.condition, configuration)) for record in same_label
        )
        return cls(
            rule=rule,
            by=by,
            value=value,
            peers={record.worker.id: peer for record, peer in members if peer is not None},
        )

    @property
    def longest_period(self) -> int:
        """Return the longest slot of its workers (seconds)."""
        return max((peer.period for peer in self.peers.values()), default=0)

    @property
    def needed_series(self) -> list[tuple[str, str, int]]:
        """Return worker, metric and period of each series that the comparison needs."""
        return [(worker_id, self.rule.metric or "", peer.recorded) for worker_id, peer in self.peers.items()]

    def with_series(self, series: Mapping[tuple[str, str], models.Series]) -> rules.PeerGroup:
        """Return the group with the datapoints of its workers."""
        empty = models.Series(60, ())
        metric = self.rule.metric or ""
        return rules.PeerGroup(
            self.by,
            self.value,
            {
                worker_id: peer._replace(points=series.get((worker_id, metric), empty).points)
                for worker_id, peer in self.peers.items()
            },
        )
