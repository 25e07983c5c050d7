"""Doctor: the settings of Redis, and its clock."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from workermon import ports
from workermon.health.doctor.check import Check, clock_check

#: Seconds by which the clocks of this machine and of the server may differ.
SKEW = 5


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ServerExamination:
    """Reads what Redis reports about itself."""

    server: ports.Server
    machine: ports.MachineClock

    def examine(self) -> list[Check]:
        """Check the settings of Redis and its clock."""
        app_settings = self.server.settings()
        before = self.machine()
        theirs = self.server.time()
        ahead = theirs - (before + self.machine()) / 2
        return [_eviction(app_settings), _persistence(app_settings), clock_check("clock", "Redis", ahead, SKEW, 0.05)]


def _eviction(server_settings: Mapping[str, str]) -> Check:
    policy = server_settings.get("maxmemory_policy")
    ok = policy in (None, "noeviction")
    return Check(
        name="redis eviction",
        ok=ok,
        reason=f"maxmemory-policy is {policy}" if policy else "the server does not say",
        todo=None if ok else "set maxmemory-policy noeviction, or keys are lost",
    )


def _persistence(server_settings: Mapping[str, str]) -> Check:
    if "aof_enabled" not in server_settings:
        return Check(name="redis persistence", ok=True, reason="the server does not say")
    appends = server_settings.get("aof_enabled") == "1"
    # A server that never wrote a snapshot reports its own start as the last one. Only the absence is certain.
    snapshots = (
        int(server_settings.get("rdb_last_save_time", "0") or 0) > 0
        and server_settings.get("rdb_last_bgsave_status") == "ok"
    )
    return Check(
        name="redis persistence",
        ok=appends or snapshots,
        reason="append-only file" if appends else "snapshots only" if snapshots else "nothing is written to disk",
        todo=None if appends else "set appendonly yes, or alerts are lost in a crash",
    )
