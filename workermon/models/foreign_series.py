"""Series of a metric without an instance id: published by an agent that was set up without it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from workermon.models.base import INSTANCE_ID, Dimensions, Frozen

#: Dimension sets stored for a metric: enough to see how its agents are set up.
MAX_EXAMPLES = 3


def is_foreign(dimensions: Mapping[str, str]) -> bool:
    """Return whether a dimension set has no instance id.

    >>> is_foreign({"host": "ip-10-0-0-7"}), is_foreign({"InstanceId": "i-0abc0123456789def"})
    (True, False)
    """
    return INSTANCE_ID.fullmatch(dimensions.get("InstanceId", "")) is None


def foreign_key(key: str) -> str:
    """Return the name under which the foreign series of the metric with a ``Metric.key`` are stored."""
    return f"foreign:{key}"


class ForeignSeries(Frozen):
    """ListMetrics' series without an instance id, of one metric at a time: their number, and some of them."""

    at: float = 0.0
    number: int = 0
    examples: tuple[Dimensions, ...] = ()

    @classmethod
    def from_learned(cls, learned: Mapping[str, Any], key: str) -> ForeignSeries:
        """Return the stored result for the metric with a ``Metric.key``, from the learned values of its scope."""
        try:
            return cls.model_validate(learned.get(foreign_key(key), {}))
        except ValueError:
            return cls()

    @classmethod
    def among(cls, sets: Iterable[Dimensions], at: float) -> ForeignSeries:
        """Return the foreign series, most telling first: with an unexpanded id, then with a host's name."""
        foreign = [dimensions for dimensions in sets if is_foreign(dict(dimensions))]
        foreign.sort(
            key=lambda dimensions: (not _is_unexpanded(dimensions), "host" not in dict(dimensions), dimensions)
        )
        return cls(at=at, number=len(foreign), examples=tuple(foreign[:MAX_EXAMPLES]))

    def described(self) -> str | None:
        """Describe them and what to do about it; ``None`` if there are none."""
        if not self.examples:
            return None
        first = self.examples[0]
        first_dimensions = ", ".join(f"{name}={value}" for name, value in first)
        more = f" and {self.number - 1} more" if self.number > 1 else ""
        if _is_unexpanded(first):
            todo = "the agent did not replace the variable: it does so in append_dimensions only"
        else:
            todo = 'put InstanceId = "${aws:InstanceId}" into the agent\'s append_dimensions'
        return f"it is published under {first_dimensions}{more}, which names no instance; {todo}"


def _is_unexpanded(dimensions: Dimensions) -> bool:
    return any("${" in value for _, value in dimensions)
