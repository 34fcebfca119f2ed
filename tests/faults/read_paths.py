"""The same attempts through every read path: tables, views, rollup, and the API's search, its counts and figures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import clickhouse_connect
import httpx

from tests.faults.deployment import CLICKHOUSE_PASSWORD, Deployment


class Reading(NamedTuple):
    """The result of one read path: the number of rows, and of distinct ones."""

    rows: int
    different: int


_ATTEMPTS = {
    "attempts": "SELECT count(), uniqExact(id) FROM attempts",
    "attempt_details": "SELECT count(), uniqExact(id) FROM attempt_details",
    "attempt_history": "SELECT count(), uniqExact(id) FROM attempt_history",
}
_EVENTS = {
    "events": "SELECT count(), uniqExact(kafka_partition, kafka_offset, event_id) FROM events",
    "received_events": "SELECT sum(dispatches), sum(dispatches) FROM received_events",
}
_FIGURES = "SELECT sum(attempts + discarded + expired) FROM attempt_figures"
_TOO_MANY = """
SELECT count() FROM attempt_figures AS figures
LEFT JOIN (
    SELECT toStartOfHour(created_at) AS hour, endpoint_id, event_name, count() AS made, countIf(state = 'failed') AS failed
    FROM attempts GROUP BY hour, endpoint_id, event_name
) AS counted USING (hour, endpoint_id, event_name)
WHERE figures.attempts + figures.discarded + figures.expired > counted.made OR figures.failures > counted.failed
"""


@dataclass(frozen=True)
class Readings:
    """The results of all read paths."""

    attempts: Mapping[str, Reading]
    events: Mapping[str, Reading]
    figures: int
    """Attempts in the hourly rollup."""
    too_many: int
    """Figures of the rollup that are higher than those of the attempts."""

    def differences(self, attempts: int, dispatches: int) -> Iterator[str]:
        """Return the differences from the contents of Kafka."""
        for wanted, readings in ((attempts, self.attempts), (dispatches, self.events)):
            for name, reading in readings.items():
                if reading != (wanted, wanted):
                    yield f"{name} shows {reading.rows:,} rows, {reading.different:,} different ones; Kafka holds {wanted:,}"
        if self.too_many:
            yield f"{self.too_many:,} hourly figures count more than there is"

    @property
    def left_out(self) -> int:
        """Return attempts that the rollup does not count."""
        return self.attempts["attempts"].rows - self.figures


def from_clickhouse(deployment: Deployment) -> Readings:
    """Query ClickHouse. Blocks."""
    url = httpx.URL(deployment.settings.clickhouse_url)
    client = clickhouse_connect.get_client(
        host=url.host, port=url.port or 0, password=CLICKHOUSE_PASSWORD, database=deployment.settings.clickhouse_database
    )

    def asked(query: str) -> tuple[int, ...]:
        return tuple(map(int, client.query(query).result_rows[0]))

    try:
        return Readings(
            attempts={name: Reading(*asked(query)) for name, query in _ATTEMPTS.items()},
            events={name: Reading(*asked(query)) for name, query in _EVENTS.items()},
            figures=asked(_FIGURES)[0],
            too_many=asked(_TOO_MANY)[0],
        )
    finally:
        client.close()


async def from_the_api(deployment: Deployment) -> dict[str, Reading]:
    """Walk through all attempts with the cursor, and ask for the counts."""
    path, ids = "/api/webhook/attempts", []
    async with deployment.api() as client:
        facets = (await client.get(f"{path}/facets")).raise_for_status().json()
        histogram = (await client.get(f"{path}/histogram")).raise_for_status().json()
        answer = (await client.get(path, params={"per_page": 200})).raise_for_status().json()
        assert answer["total_count_is_exact"]
        total = answer["total_count"]
        ids += [attempt["id"] for attempt in answer["attempts"]]
        while answer["next_cursor"] is not None:
            answer = (await client.get(path, params={"per_page": 200, "after": answer["next_cursor"]})).raise_for_status().json()
            ids += [attempt["id"] for attempt in answer["attempts"]]
    counts = {
        "total_count": total,
        "facets by state": sum(facets["states"].values()),
        "facets by event": sum(facets["events"].values()),
        "facets by endpoint": sum(one["count"] for one in facets["endpoints"]),
        "the histogram": sum(bar["attempts"] for bar in histogram["bars"]),
    }
    return {name: Reading(count, count) for name, count in counts.items()} | {
        "the search, by its cursor": Reading(len(ids), len(set(ids)))
    }
