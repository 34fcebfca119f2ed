"""The retry policies of a deployment: what an endpoint's policy means, and its description in words. Pure.

The deployment defines ``standard``, ``patient`` and ``impatient``. An endpoint may have custom delays, chosen from those that
have topics.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Final

from pipeline.core.retry import RetrySchedule
from schemas.retry_policy import IMPATIENT, PATIENT, STANDARD, custom_delays
from schemas.topics import delay_label

_UNITS: Final = ((86_400_000, "day"), (3_600_000, "h"), (60_000, "min"), (1_000, "s"), (1, "ms"))
_KNOWN_POLICIES: Final = 1024


class RetryPolicies:
    def __init__(
        self,
        standard: Sequence[timedelta],
        patient: Sequence[timedelta] = (),
        impatient: Sequence[timedelta] = (),
        further: Iterable[timedelta] = (),
    ) -> None:
        """``further``: delays that have topics, and that endpoints may choose. A policy without delays is the standard one."""
        named = {STANDARD: standard, PATIENT: patient or standard, IMPATIENT: impatient or standard}
        self.delays = tuple(sorted({delay for delays in (*named.values(), tuple(further)) for delay in delays}))
        """Every delay that a policy may have, shortest first."""
        self.standard = RetrySchedule(standard)
        self._named = {name: self._schedule(delays) for name, delays in named.items()}
        # Endpoints come and go, but their policies are few.
        self.schedule_of = functools.lru_cache(maxsize=_KNOWN_POLICIES)(self._find)
        """The schedule of a policy, by its text."""

    def _find(self, policy: str) -> RetrySchedule:
        """The schedule of a policy. An unknown one (of a newer release) is treated as standard, so that there are always retries.

        A delay that no longer has a topic becomes the next longer one that has, or the longest.
        """
        if (named := self._named.get(policy)) is not None:
            return named
        try:
            wanted = custom_delays(policy)
        except ValueError:
            return self.standard
        return self._schedule([next((one for one in self.delays if one >= delay), self.delays[-1]) for delay in wanted])

    def _schedule(self, delays: Sequence[timedelta]) -> RetrySchedule:
        # A receiver may ask (Retry-After) for more than any delay of an impatient policy.
        return RetrySchedule(delays, longer=self.standard.delays)

    def unknown(self, policy: str) -> str | None:
        """The delays of a policy that the deployment does not have, in a sentence that lists the existing ones; None if there are
        none.
        """
        if policy in self._named:
            return None
        missing = [delay_label(delay) for delay in custom_delays(policy) if delay not in self.delays]
        if not missing:
            return None
        names = ", ".join(map(delay_label, self.delays))
        return f"retry_policy has delays without a topic: {', '.join(missing)}. Choose from {names}."

    def words(self, policy: str) -> str:
        """The policy as a sentence: ``Retries after 5 s, 1 min and 10 min; gives up after 11 min 5 s.``"""
        delays = self.schedule_of(policy).delays
        names = [length(delay) for delay in delays]
        listed = names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
        return f"Retries after {listed}; gives up after {length(sum(delays, timedelta(0)))}."


def length(delay: timedelta) -> str:
    """A length of time in its two largest units: ``5 s``, ``7 h 11 min``, ``2 days 12 h``."""
    rest = round(delay / timedelta(milliseconds=1))
    parts: list[str] = []
    for size, unit in _UNITS:
        count, rest = divmod(rest, size)
        if count:
            parts.append(f"{count} {unit}s" if unit == "day" and count > 1 else f"{count} {unit}")
        elif parts:
            break  # 1 day and 5 s are 1 day
        if len(parts) == 2:
            break
    return " ".join(parts) or "0 s"
