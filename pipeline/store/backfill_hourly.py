"""Mends the hourly figures after a crash of the ClickHouse in this process.

An insert makes a part of ``attempts`` and then one of ``attempts_hourly``. Where ClickHouse died between the two, the figures lack
that insert for good: its rows are there, so nobody inserts them again. Whoever opens the directory next is alone with it and
has inserted nothing yet; what the figures lack then, they lack for that reason, and it is added.
A server is shared: there an insert may be between the two at this moment, and adding to it would count it twice.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final

from clickhouse_connect.driver.client import Client

from pipeline.store.connection import Connections

_LACKING: Final = """
SELECT hour, made - summed.counted
FROM (SELECT toStartOfHour(created_at) AS hour, count() AS made FROM attempts GROUP BY hour) AS there
LEFT JOIN (SELECT hour, sum(attempts) AS counted FROM attempts_hourly GROUP BY hour) AS summed USING (hour)
WHERE made > summed.counted
ORDER BY hour
"""

# How long the lacking ones took is not known apart from the others of their hour: the hour as a whole stands for them.
_ADD: Final = """
INSERT INTO attempts_hourly (hour, endpoint_id, event_name, attempts, failures, discarded, expired, classified, answered_ms)
SELECT
    hour, endpoint_id, event_name, made - summed.counted, greatest(failed, summed.failed) - summed.failed,
    greatest(discarded, summed.discarded) - summed.discarded, greatest(expired, summed.expired) - summed.expired,
    made - summed.counted, answered
FROM (
    SELECT
        toStartOfHour(created_at) AS hour, endpoint_id, event_name, count() AS made, countIf(state = 'failed') AS failed,
        countIf(outcome = 'discarded') AS discarded, countIf(outcome = 'expired') AS expired,
        quantilesTDigestStateIf(0.5, 0.95, 0.99)(duration_ms, outcome NOT IN ('discarded', 'expired')) AS answered
    FROM attempts
    WHERE created_at >= {first:DateTime('UTC')} AND created_at < {end:DateTime('UTC')}
        AND toStartOfHour(created_at) IN {hours:Array(DateTime('UTC'))}
    GROUP BY hour, endpoint_id, event_name
) AS there
LEFT JOIN (
    SELECT
        hour, endpoint_id, event_name, sum(attempts) AS counted, sum(failures) AS failed, sum(h.discarded) AS discarded,
        sum(h.expired) AS expired
    FROM attempts_hourly AS h
    WHERE hour IN {hours:Array(DateTime('UTC'))}
    GROUP BY hour, endpoint_id, event_name
) AS summed USING (hour, endpoint_id, event_name)
WHERE made > summed.counted
"""

# The same may be lacking twice, after two crashes: that is not a duplicate.
_SETTINGS: Final[dict[str, Any]] = {"async_insert": 0, "insert_deduplicate": 0}


async def backfill_hourly(connections: Connections) -> int:
    """Add what the hourly figures lack; returns how many attempts that were. Call it before anything is inserted.

    What dies in here leaves a year's figures mended, or as they were: they are one part each.

    Raises:
        StoreError: ClickHouse refuses a statement.
    """
    if not connections.is_embedded:
        return 0
    return await connections.set_up(_backfill)


def _backfill(client: Client) -> int:
    lacking: list[tuple[datetime, int]] = [(hour, number) for hour, number in client.query(_LACKING).result_rows]
    if lacking:
        hours = [hour for hour, _ in lacking]
        values = {"hours": hours, "first": hours[0], "end": hours[-1] + timedelta(hours=1)}
        client.command(_ADD, parameters=values, settings=_SETTINGS)
    return sum(number for _, number in lacking)
