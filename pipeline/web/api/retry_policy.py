"""The retry policy of an endpoint, in the API's format."""

from __future__ import annotations

from typing import Any

from pipeline.core.retry_policies import RetryPolicies
from schemas.topics import delay_label


def retry_values(policies: RetryPolicies, policy: str) -> dict[str, Any]:
    """The policy, and its current delays."""
    return {
        "retry_policy": policy,
        "retry_delays": [delay_label(delay) for delay in policies.schedule_of(policy).delays],
        "retry_words": policies.words(policy),
    }
