"""The fields of an endpoint that keeps failing: since when, which notices its owner got, and when it will be disabled."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from pipeline.core.failing_stages import FAILING
from pipeline.endpoints.endpoint import Endpoint
from pipeline.endpoints.health import HealthTable
from schemas.health import HealthFact
from schemas.operational import ENDPOINT_FAILING, ENDPOINT_WILL_BE_DISABLED


def failing_values(health: HealthTable | None, endpoint: Endpoint, disable_after: timedelta) -> dict[str, Any]:
    """The fields of the answer. They are empty if the last attempt succeeded."""
    known = health.fact(endpoint.record, HealthFact.FAILING) if health is not None else None
    if known is None or known.since is None:
        return {"failing_since": None, "will_be_disabled_at": None, "owner_told": []}
    reported = [ENDPOINT_FAILING if stage == FAILING else f"{ENDPOINT_WILL_BE_DISABLED} ({stage}%)" for stage in known.told]
    end = known.since + disable_after if endpoint.active else None
    return {"failing_since": known.since, "will_be_disabled_at": end, "owner_told": reported}
