"""What a worker reports to its group, as a short text: every evaluation of a worker writes one."""

from __future__ import annotations

from workermon.models import GroupMember


def packed(member: GroupMember) -> str:
    """Return a member as text.

    >>> packed(GroupMember("web 1", 120, 60, 7, ((60, 0), (90, 2))))
    '120 60  7 0 60:0,90:2 web 1'
    """
    known_until = "" if member.known_until is None else member.known_until
    changes = ",".join(f"{at}:{level}" for at, level in member.changes)
    recorded = "" if member.recorded is None else member.recorded
    return f"{known_until} {member.period} {recorded} {member.added} {int(member.trimmed)} {changes} {member.name}"


def unpacked(text: str) -> GroupMember:
    """Parse a member's text. Raises ``ValueError`` for any other text."""
    known_until, period, recorded, added, trimmed, changes, name = text.split(" ", 6)
    pairs = (change.split(":") for change in changes.split(",")) if changes else ()
    return GroupMember(
        name=name,
        known_until=int(known_until) if known_until else None,
        period=int(period),
        added=int(added),
        changes=tuple([(int(at), int(level)) for at, level in pairs]),
        trimmed=trimmed == "1",
        recorded=int(recorded) if recorded else None,
    )
