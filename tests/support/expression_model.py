"""Expressions over two metrics, and the plainest way to compute each of them."""

from __future__ import annotations

import math

Values = dict[int, float]


def plain(text: str, slot: int, a: Values, b: Values, period: int) -> float | None:
    """Compute one slot by the simplest possible code."""

    def window(of: Values, size: int, whole: bool = False) -> list[float] | None:
        present = [of[place] for place in range(slot - size + 1, slot + 1) if place in of]
        enough = len(present) == size if whole else 2 * len(present) >= size
        return present if slot in of and enough else None

    now_a, now_b = a.get(slot), b.get(slot)
    if now_a is None or now_b is None:
        return None
    three, wide, long = window(a, 3), window(b, 4), window(a, 12)
    total, before = window(b, 2, whole=True), a.get(slot - 2)
    last = b.get(slot - 1)
    table = {
        "(a + b) * 8 / period": (now_a + now_b) * 8 / period,
        "a / b": now_a / now_b if now_b else None,
        "abs(a - b)": abs(now_a - now_b),
        "min(a, 2 * b)": min(now_a, 2 * now_b),
        'avg(a, "{3}") + b': None if three is None else sum(three) / len(three) + now_b,
        'p95(b, "{4}") - a': None if wide is None else sorted(wide)[math.ceil(0.95 * len(wide)) - 1] - now_a,
        'sum(b, "{2}") * a': None if total is None else sum(total) * now_a,
        'delta(a, "{2}") + b': None if before is None else now_a - before + now_b,
        'max(a, "{12}") - b': None if long is None else max(long) - now_b,
        "-rate(b) + a": None if last is None else -((now_b - last) / period) + now_a,
    }
    return table[text]


TEXTS = (
    "(a + b) * 8 / period", "a / b", "abs(a - b)", "min(a, 2 * b)", 'avg(a, "{3}") + b', 'p95(b, "{4}") - a',
    'max(a, "{12}") - b', 'sum(b, "{2}") * a', 'delta(a, "{2}") + b', "-rate(b) + a",
)  # fmt: skip
