"""How many examples a property test with a slow model draws."""

from __future__ import annotations

from typing import Any, Final

from hypothesis import settings

#: The profiles of hypothesis that the tests have; each draws one of so many examples. ``make explore`` draws new ones
#: each time. Runs that draw the same ones would find no more in more of them, and ``make quick`` has to be quick.
SHARES: Final = {"explore": 1, "same": 3, "quick": 9}


def examples(number: int, **options: Any) -> settings:
    """Return settings for so many examples in ``make explore``, and for the profile's share of them elsewhere."""
    share = SHARES.get(settings.get_current_profile_name(), 1)
    return settings(max_examples=number // share, deadline=None, **options)
