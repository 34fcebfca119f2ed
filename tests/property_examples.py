"""How many examples a property test tries: 15 in ``make test``, 100 in ``make test-slow``.

A test that needs its own number says ``@settings(max_examples=examples(60))``, which is 60 in ``make test-slow`` and 9 in
``make test``; or just the number, if a promise depends on it.
"""

from __future__ import annotations

from hypothesis import HealthCheck, settings

_THOROUGH = 100


def register_profiles() -> None:
    """Register the two profiles; ``pytest --hypothesis-profile=thorough`` chooses the other one.

    Examples have no deadline and may be slow to generate, because the machine may be busy. Tests of speed measure CPU time.
    """
    for name, most in (("quick", 15), ("thorough", _THOROUGH)):
        settings.register_profile(name, deadline=None, max_examples=most, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("quick")


def examples(thorough: int) -> int:
    """Return this number in the thorough profile, and a proportionally smaller one otherwise."""
    return max(1, thorough * settings().max_examples // _THOROUGH)
