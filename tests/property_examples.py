"""How many examples a property test tries: 15 in ``make test``, 100 in ``make test-slow``.

A test that needs a number of its own says ``@settings(max_examples=examples(60))``, which is 60 in ``make test-slow`` and 9 in
``make test``; or just the number, where a promise hangs on it.
"""

from __future__ import annotations

from hypothesis import HealthCheck, settings

_THOROUGH = 100


def register_profiles() -> None:
    """Make the two profiles known; ``pytest --hypothesis-profile=thorough`` chooses the other one.

    Examples have no deadline, nor are they too slow to make: the machine may be busy. What must be quick is measured in CPU time.
    """
    for name, most in (("quick", 15), ("thorough", _THOROUGH)):
        settings.register_profile(name, deadline=None, max_examples=most, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("quick")


def examples(thorough: int) -> int:
    """As many in the thorough profile, and the same share of them in another one as of the tests that name no number."""
    return max(1, thorough * settings().max_examples // _THOROUGH)
