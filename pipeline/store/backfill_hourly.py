"""Repairs the hourly aggregates after a crash of the embedded ClickHouse.

An insert creates a part of ``attempts`` and then one of ``attempts_hourly``. If ClickHouse dies between the two, the aggregates
lack that insert for good: its rows are stored, so they are not inserted again. The next process that opens the directory is its
only user and has inserted nothing yet. Whatever the aggregates lack at that moment was lost in a crash, so it is added.
A server is shared: another insert may be between the two steps, and adding its counts would count them twice.
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

# The durations of the missing attempts are not known separately, so those of the whole hour are used.
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

# The same counts may be missing twice, after two crashes. That is not a duplicate.
_SETTINGS: Final[dict[str, Any]] = {"async_insert": 0, "insert_deduplicate": 0}


async def backfill_hourly(connections: Connections) -> int:
    """Add the missing counts; returns the number of attempts. Call it before anything is inserted.

    If the process dies here, each year of aggregates is either repaired or unchanged: it is one part.

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
