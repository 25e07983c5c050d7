"""How many examples a property test with a slow model draws."""

from __future__ import annotations

from typing import Any

from hypothesis import settings

#: Runs that draw the same examples each time draw one of so many: more of the same would find no more.
SHARE = 3


def examples(number: int, **others: Any) -> settings:
    """Return settings for so many examples in ``make explore``, which draws others each time, and a third elsewhere."""
    exploring = settings.get_current_profile_name() == "explore"
    return settings(max_examples=number if exploring else number // SHARE, deadline=None, **others)
