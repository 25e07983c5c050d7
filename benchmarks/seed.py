"""Add a fleet and its schedule to the Redis of the environment: ``seed.py NUMBER``."""

from __future__ import annotations

import os
import sys
import time

import house

from workermon.on_celery import schedule
from workermon.on_celery.app import app


def main() -> None:
    """Add the fleet."""
    now = time.time()
    members = house.fleet(int(sys.argv[1]), now)
    house.register(os.environ["WORKERMON_REDIS_URL"], members, now)
    schedule.RedBeatSchedule(app).put(members, now)


if __name__ == "__main__":
    main()
