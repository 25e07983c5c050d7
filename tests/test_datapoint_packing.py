"""How datapoints are packed."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from typing import NamedTuple

import hypothesis
import pytest
from hypothesis import strategies

from workermon.models import Datapoint, Series
from workermon.on_redis import datapoint_packing, keys

_HOUR = 1_699_999_200


class _Packed(NamedTuple):
    """A run with its data."""

    hour: int
    field: str
    offset: int
    at: int
    data: bytes


def _packed(metric: str, series: Series) -> list[_Packed]:
    """Pack a series run by run."""
    values = [point.value for point in series.points]
    return [
        _Packed(
            run.hour, run.field, run.offset, run.at, datapoint_packing.packed([values[place] for place in run.places])
        )
        for run in datapoint_packing.runs(metric, series.period, [point.at for point in series.points])
    ]


def _unpack(runs: Sequence[_Packed], period: int, low: int = 0, high: int = 2**40) -> list[Datapoint]:
    """Lay runs into strings as the server does, and read them back."""
    strings: dict[tuple[int, bytes], bytes] = {}
    for run in runs:
        key = run.hour, run.field.encode()
        text = strings.get(key, b"").ljust(run.offset * 8, b"\0")
        strings[key] = text[: run.offset * 8] + run.data + text[run.offset * 8 + len(run.data) :]
    unpacked: list[Datapoint] = []
    for (hour, name), text in strings.items():
        for (_, period_read), parts in datapoint_packing.fields({name: text}).items():
            assert period_read == period
            for phase, data in parts:
                unpacked += datapoint_packing.datapoints(data, hour, period, phase, low, high)
    return sorted(unpacked)


def test_a_packed_datapoint_is_eight_bytes_at_its_slot() -> None:
    """The first slot of an hour begins the string. Consecutive slots are one run."""
    points = [Datapoint(_HOUR + at, float(at)) for at in (0, 60, 120, 300)]
    runs = _packed("cpu", Series(60, tuple(points)))
    assert [(run.hour, run.field, run.offset, run.at, len(run.data)) for run in runs] == [
        (_HOUR, "cpu:60", 0, _HOUR, 24),
        (_HOUR, "cpu:60", 5, _HOUR + 300, 8),
    ]


def test_no_value_that_can_be_written_reads_as_absent() -> None:
    """Only the NaN that means absent has eight zero bytes. Zero itself has others."""
    (run,) = _packed("cpu", Series(60, (Datapoint(_HOUR, 0.0),)))
    assert run.data != bytes(8)
    (absent,) = _packed("cpu", Series(60, (Datapoint(_HOUR, math.nan),)))
    assert absent.data == bytes(8)
    assert list(datapoint_packing.datapoints(bytes(80), _HOUR, 60, 0, 0, 2**40)) == []
    assert struct.unpack(">d", datapoint_packing._NAN)[0] != struct.unpack(">d", datapoint_packing._NAN)[0]


@hypothesis.given(
    truth=strategies.dictionaries(
        strategies.integers(0, 2 * 10**9), strategies.floats(allow_nan=False), min_size=1, max_size=40
    ),
    period=strategies.integers(1, 86_400),
)
def test_whatever_is_packed_is_unpacked(truth: dict[int, float], period: int) -> None:
    """Every time, period and value is read exactly, even the bits of a negative zero."""
    points = [Datapoint(at, value) for at, value in sorted(truth.items())]
    unpacked = _unpack(_packed("cpu", Series(period, tuple(points))), period)
    assert unpacked == points
    assert [math.copysign(1, value) for _, value in unpacked] == [math.copysign(1, value) for _, value in points]


@hypothesis.given(
    times=strategies.sets(strategies.integers(_HOUR - 9000, _HOUR + 9000), min_size=1, max_size=60),
    period=strategies.sampled_from([1, 7, 60, 300, 420, 5400]),
    ends=strategies.tuples(strategies.integers(-9500, 9500), strategies.integers(-9500, 9500)),
)
def test_a_part_is_what_lies_between_its_slots(times: set[int], period: int, ends: tuple[int, int]) -> None:
    """Reading some slots gives exactly those of the whole."""
    low, high = ((_HOUR + end) // period for end in ends)
    points = [Datapoint(at, 1.0) for at in sorted(times)]
    runs = _packed("cpu", Series(period, tuple(points)))
    assert _unpack(runs, period, low, high) == [point for point in points if low <= point.at // period <= high]


def test_a_string_cut_within_a_datapoint_gives_the_whole_ones() -> None:
    """An incomplete datapoint is ignored."""
    (run,) = _packed("cpu", Series(60, (Datapoint(_HOUR, 1.0), Datapoint(_HOUR + 60, 2.0))))
    assert list(datapoint_packing.datapoints(run.data[:-3], _HOUR, 60, 0, 0, 2**40)) == [Datapoint(_HOUR, 1.0)]


@pytest.mark.parametrize("channel", ["log", "a:b", "a%3Ab", "é /", ""])
def test_a_queue_is_read_back_as_its_alert_and_channel(channel: str) -> None:
    """No channel name can be mistaken for another queue."""
    assert keys.of_queue(keys.queue("i-0aaaaaaa/a:b", channel)) == ("i-0aaaaaaa/a:b", channel)


def test_permanent_keys_are_the_listed_ones() -> None:
    """Only keys that the list names as permanent may lack a lifetime."""
    assert all(map(keys.permanent, [b"workermon:workers", b"workermon:worker:i-0aaaaaaa", b"workermon:outbox:fence"]))
    for key in (keys.ledger("i-0aaaaaaa", 0), keys.numbers_of("i/r"), keys.attempts("i/r"), keys.last("i/r"), "other"):
        assert not keys.permanent(key.encode())
    assert not keys.permanent(b"workermon:outbox:lease:x")
