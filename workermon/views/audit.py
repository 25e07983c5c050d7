"""Who changed what."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import Field

from workermon import ports
from workermon.views.document import Document, Time
from workermon.views.paging import Position


class AuditRow(Document):
    """A write; ``origin`` is the machine of a command, or the address of a request."""

    id: str
    at: Time
    by: str
    origin: str = Field(serialization_alias="from")
    action: str
    target: str
    outcome: str


class AuditList(Document):
    """Writes, newest first."""

    audit: tuple[AuditRow, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditView:
    """Reads the audit trail."""

    audit: ports.Audit
    now: ports.Clock

    def list(self, since: int) -> AuditList:
        """Return the writes of the last ``since`` seconds."""
        entries = self.audit.entries(self.now() - since)
        rows = [AuditRow(**entry.model_dump()) for entry in entries]
        return AuditList(audit=tuple(sorted(rows, key=audit_position)))


def audit_position(row: AuditRow) -> Position:
    """Return the sort key of rows: newest first."""
    return -row.at, row.id
