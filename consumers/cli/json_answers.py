"""The JSON of commands that print their own findings. Other commands print the API's JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipeline.broker.topic_admin import Difference
from pipeline.ops.reachability import CheckResult
from pipeline.ops.settings import Settings
from pipeline.store.retention import Week
from schemas.topics import TopicSpec


def topics(
    specs: Sequence[TopicSpec], partitions: int, created: Sequence[str], differences: Sequence[Difference]
) -> dict[str, Any]:
    """Every topic, its required configuration, and the differences."""
    return {
        "topics": [
            {
                "topic": spec.name,
                "key": spec.key,
                "partitions": spec.partitions or partitions,
                "settings": spec.config(),
                "created": spec.name in created,
                "differences": [
                    {"what": each.what, "wanted": each.wanted, "found": each.found}
                    for each in differences
                    if each.topic == spec.name
                ],
            }
            for spec in specs
        ]
    }


def settings(current: Settings) -> dict[str, Any]:
    """Every setting: variable, value, meaning. Values are texts; secrets are redacted."""
    fields = type(current).model_fields
    return {
        "settings": [
            {"variable": f"OMS_WEBHOOKS_{name.upper()}", "value": value, "meaning": fields[name].description or ""}
            for name, value in current.shown().items()
        ]
    }


def findings(found: Sequence[CheckResult]) -> dict[str, Any]:
    """The findings of a check. ``problem`` is null if all is well."""
    return {"findings": [{"what": each.what, "problem": each.problem} for each in found]}


def retention(weeks: Sequence[Week], days: int) -> dict[str, Any]:
    """The weeks that are older than so many days, and their rows."""
    return {
        "days": days,
        "rows": sum(week.rows for week in weeks),
        "weeks": [{"table": week.table.value, "begins": week.begins.isoformat(), "rows": week.rows} for week in weeks],
    }
