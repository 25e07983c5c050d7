"""Memory of a datapoint on a real server, with everything, written one a minute as in production."""

from __future__ import annotations

import contextlib

import redis

from workermon import config, models
from workermon.on_redis import client, samples, workers

WORKERS, MINUTES = 100, 60
HOUR = 1_799_999_200 // 3600 * 3600


def test_a_datapoint_takes_at_most_sixteen_bytes(redis_url: str, redis_client: redis.Redis) -> None:
    """This is measured over an hour of five metrics, written by the minute with overlapping requests."""
    names = config.DEFAULT.collect
    fleet = [
        models.Worker(id=f"i-{number:017x}", name=f"w-{number}", region="us-east-1", added_at=HOUR, incarnation="one")
        for number in range(WORKERS)
    ]
    with contextlib.closing(client.connect(redis_url)) as connected:
        ledger = samples.RedisSamples(connected, "workermon:metrics", lambda: config.DEFAULT.retention)
        workers.RedisWorkers(connected).add(fleet)

        def write(minute: int, series: dict[str, models.Series]) -> None:
            at = HOUR + 60.0 * minute
            condition = models.Condition(status="running", collected_at=at, slot=int(at // 60))
            new_samples = [
                models.Sample(worker=worker, collected_at=at, status="running", series=series) for worker in fleet
            ]
            ledger.write_many([(sample, condition, "{}") for sample in new_samples])

        def memory() -> int:
            return int(redis_client.info("memory")["used_memory_dataset"])

        write(0, {})
        before = memory()
        for minute in range(MINUTES):
            points = [models.Datapoint(HOUR + 60 * back, back / 7) for back in range(max(minute - 15, 0), minute + 1)]
            write(minute + 1, {name: models.Series(60, tuple(points)) for name in names})
        growth = memory() - before
        stored = ledger.read([(fleet[0].id, names[0], 60)], HOUR, HOUR + 3600)
    assert len(stored[fleet[0].id, names[0]].points) == MINUTES
    assert growth / (WORKERS * len(names) * MINUTES) <= 16
