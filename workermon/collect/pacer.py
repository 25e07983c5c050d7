"""How fast this process collects: cohorts are due one after another at the nodes' pace."""

from __future__ import annotations

import dataclasses

from workermon import ports

#: The weight of the newest cohort in the pace.
WEIGHT = 0.2


@dataclasses.dataclass(slots=True, kw_only=True)
class Pacer:
    """Measures the CPU time of a cohort in this process, named ``node``. Its threads share it."""

    cohorts: ports.Cohorts
    cpu: ports.CpuClock
    node: str
    seconds: float = 0.0

    def begin(self) -> float:
        """Return the CPU time so far, for ``end``."""
        return self.cpu()

    def end(self, began: float, at: float) -> None:
        """Record that the calling thread has collected a cohort since ``began``."""
        spent = max(0.0, self.cpu() - began)
        self.seconds = self.seconds + WEIGHT * (spent - self.seconds) if self.seconds else spent
        self.cohorts.note_pace(self.node, ports.Pace(self.seconds, at))
