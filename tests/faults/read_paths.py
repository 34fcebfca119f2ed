"""The same attempts through every way of reading them: tables, views, rollup, and the API's search, its counts and figures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import clickhouse_connect
import httpx

from tests.faults.deployment import CLICKHOUSE_PASSWORD, Deployment
from tests.faults.evidence import Evidence


@dataclass(frozen=True)
class Reading:
    """What one way of reading says: how many attempts (or events), and how many different ones."""

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
_FIGURES = "SELECT sum(attempts), sum(failures) FROM attempt_figures"
_FAILURES = "SELECT countIf(state = 'failed') FROM attempts"


@dataclass(frozen=True)
class Readings:
    """What all of them say."""

    attempts: Mapping[str, Reading]
    events: Mapping[str, Reading]
    failures: int
    figures: tuple[int, int]
    """Attempts and failures in the hourly rollup."""

    def differences(self, found: Evidence) -> Iterator[str]:
        """Where they say something else than Kafka holds."""
        ids = {attempt.id for attempt in found.attempts}
        for wanted, readings in ((len(ids), self.attempts), (len(found.dispatches), self.events)):
            for name, reading in readings.items():
                if (reading.rows, reading.different) != (wanted, wanted):
                    yield f"{name} shows {reading.rows:,} rows, {reading.different:,} different ones; Kafka holds {wanted:,}"

    @property
    def left_out(self) -> int:
        """Attempts that the rollup does not count."""
        return self.attempts["attempts"].rows - self.figures[0]


def from_clickhouse(deployment: Deployment) -> Readings:
    """Ask ClickHouse. It blocks."""
    url = httpx.URL(deployment.settings.clickhouse_url)
    client = clickhouse_connect.get_client(
        host=url.host, port=url.port or 0, password=CLICKHOUSE_PASSWORD, database=deployment.settings.clickhouse_database
    )
    try:

        def asked(queries: Mapping[str, str]) -> dict[str, Reading]:
            return {name: Reading(*map(int, client.query(query).result_rows[0])) for name, query in queries.items()}

        attempts, failures = client.query(_FIGURES).result_rows[0]
        return Readings(
            asked(_ATTEMPTS), asked(_EVENTS), int(client.query(_FAILURES).result_rows[0][0]), (int(attempts), int(failures))
        )
    finally:
        client.close()


async def from_the_api(deployment: Deployment) -> dict[str, Reading]:
    """Walk through all attempts by the cursor, and ask for the counts beside them."""
    found: dict[str, Reading] = {}
    ids: list[int] = []
    page = "/api/webhook/attempts?per_page=200"
    async with deployment.api() as client:
        answer = (await client.get(page)).raise_for_status().json()
        assert answer["total_count_is_exact"]
        found["total_count"] = Reading(answer["total_count"], answer["total_count"])
        while True:
            ids += [attempt["id"] for attempt in answer["attempts"]]
            if answer["next_cursor"] is None:
                break
            answer = (await client.get(page, params={"per_page": 200, "after": answer["next_cursor"]})).raise_for_status().json()
        found["the search, by its cursor"] = Reading(len(ids), len(set(ids)))
        facets = (await client.get("/api/webhook/attempts/facets")).raise_for_status().json()
        for name, count in (
            ("facets by state", sum(facets["states"].values())),
            ("facets by event", sum(facets["events"].values())),
            ("facets by endpoint", sum(one["count"] for one in facets["endpoints"])),
        ):
            found[name] = Reading(count, count)
        histogram = (await client.get("/api/webhook/attempts/histogram")).raise_for_status().json()
        counted = sum(bar["attempts"] for bar in histogram["bars"])
        found["histogram"] = Reading(counted, counted)
    return found
