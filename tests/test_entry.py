"""Entries of a cohort are parsed once, with the result of parsing each alone."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.beat import KEY, worker
from workermon import settings
from workermon.on_celery import entry, schedule

ID = worker().id


def written(number: int = 1, **changes: Any) -> dict[str, Any]:
    """Return the definition of a worker's entry, with changes."""
    definition: dict[str, Any] = json.loads(schedule.definition(worker(number)).replace("@number@", "0"))
    return definition | changes


def parse(text: bytes, key: str = KEY + ID) -> entry.StoredEntry | str:
    """Return an entry as it is read, or why it cannot be."""
    try:
        return entry.parse(key.encode(), 60.0, (text, b'{"last_run_at": null}'), settings.REDBEAT_PREFIX) or "gone"
    except entry.MalformedEntry as why:
        return str(why)


def test_the_members_of_a_cohort_share_what_they_have_in_common() -> None:
    """Each has its own name and id. Schedule and options are shared objects."""
    read = [parse(json.dumps(written(number)).encode(), KEY + worker(number).id) for number in (1, 2)]
    definitions = [due_entry.definition for due_entry in read if not isinstance(due_entry, str)]
    common = {"schedule": definitions[0]["schedule"]}
    assert definitions == [written(number) | common for number in (1, 2)]
    assert definitions[0]["options"] is definitions[1]["options"]
    assert definitions[0]["schedule"] is definitions[1]["schedule"]


@pytest.mark.parametrize(
    "text",
    [
        written(),
        written(2),
        written(options={"queue": ID, "headers": {"cohort": "default/us-east-1/60#0"}}),
        written(kwargs={"worker_ids": [ID, worker(2).id]}),
        written(kwargs={"worker_ids": [f"x{ID}"]}),
        written(kwargs={}),
        written(args=[ID]),
        written(args=["@id@"]),
        written(task="theirs"),
        written(task=ID, kwargs={"worker_ids": []}),
        written(enabled=False),
        written(colour="red"),
        written(schedule={"__type__": "crontab", "minute": "1"}),
        written(schedule={"__type__": "interval", "every": 0, "relative": False}),
        written(options=3),
        written(name=f"workermon:collect:{ID}x"),
        [ID],
        f"workermon:collect:{ID}",
    ],
    ids=str,
)
def test_an_entry_is_read_as_if_it_were_the_only_one(text: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """For any content the result is that of parsing it alone."""
    raw = json.dumps(text).encode()
    shared = parse(raw)
    monkeypatch.setattr(entry, "_template", lambda _: None)
    alone = parse(raw)
    assert (shared if isinstance(shared, str) else shared._replace(definition={})) == (
        alone if isinstance(alone, str) else alone._replace(definition={})
    )
    for first, second in ((shared, alone), (alone, shared)):
        if not isinstance(first, str) and not isinstance(second, str):
            assert {name: str(value) for name, value in first.definition.items()} == {
                name: str(value) for name, value in second.definition.items()
            }


@pytest.mark.parametrize("worker_id", ["", "a\nb", 'a"b', "a\\nb", "ü", "@id@", "@", "1"])
def test_an_id_with_characters_of_its_own_is_compared_as_it_is(worker_id: str) -> None:
    """JSON escapes some characters that a key has. Entries are combined only if they really match."""
    name = settings.ENTRY_PREFIX + worker_id
    fitting = parse(json.dumps(written(name=name, kwargs={"worker_ids": [worker_id]})).encode(), KEY + worker_id)
    assert not isinstance(fitting, str)
    assert fitting.definition["kwargs"] == {"worker_ids": [worker_id]}
    renamed = parse(json.dumps(written(name="another", kwargs={"worker_ids": [worker_id]})).encode(), KEY + worker_id)
    assert "not that of its key" in str(renamed)
    escaped = json.dumps(worker_id)[1:-1]
    if escaped != worker_id:
        raw = json.dumps(written(name=name, kwargs={"worker_ids": [worker_id]})).encode()
        assert "not that of its key" in str(parse(raw, KEY + escaped))


def test_bytes_that_are_no_text_are_no_entry() -> None:
    """Bytes in a key or definition that are not text are refused in one line."""
    raw = json.dumps(written()).encode().replace(ID.encode(), b"\xff\xfe")
    with pytest.raises(entry.MalformedEntry):
        entry.parse(KEY.encode() + b"\xff\xfe", 60.0, (raw, b""), settings.REDBEAT_PREFIX)
