"""A worker with rules that expect other values at each time."""

from __future__ import annotations

import math

from tests.support.commands import A, Ports
from workermon import models, rules


def expecting(world: Ports) -> None:
    """Give three days of a daily load with an ``unusual`` rule, and of a rising load with a ``forecast`` rule."""
    world.configure(
        retention=7 * models.DAY,
        rules=(
            rules.KINDS["unusual"].rule(name="odd", metric="cpu_utilization", beyond=4.0),
            rules.KINDS["forecast"].rule(
                name="full", metric="network_in", reaches=900.0, within=6 * models.HOUR, over=models.DAY
            ),
        ),
    )
    start = int(world.clock()) // 300 * 300
    times = [start + 300 * place for place in range(3 * 288)]
    cpu = [(at, 40 + 20 * math.sin(at / models.DAY * 2 * math.pi) + at // 300 % 3) for at in times]
    world.cloudwatch.put(A, "CPUUtilization", cpu)
    world.cloudwatch.put(A, "NetworkIn", [(at, 10 + (at - start) / 300) for at in times])
    for _ in range(3 * 24):
        world.clock.advance(models.HOUR)
        world.collect()
        world.evaluate(A)
