"""schemathesis tests the whole API against its own document, on the real application with a broker and ClickHouse in process.

No 500, no undocumented status, no answer that breaks its schema: as admin, operator, viewer, and without a key.

As admin, most routes take seconds: dozens of requests are generated and sent.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
import uvloop
from hypothesis import HealthCheck, Phase, settings
from pydantic import SecretStr
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from consumers.run import ALL_ROLES, Running, running
from pipeline.broker.factory import open_broker
from pipeline.broker.producer import Producer
from pipeline.core.search import Cursor
from pipeline.endpoints.vault import Vault
from pipeline.ops.settings import Settings
from pipeline.web.api.route_table import API_ROUTES
from pipeline.web.openapi import openapi
from schemas.api_key import Access
from tests.waiting import wait_until

pytestmark = [
    pytest.mark.slow,
    # Threads of the tested API (kafka-python's pauses) use ``random`` while hypothesis draws; it cannot tell their use from ours.
    pytest.mark.filterwarnings("ignore:Do not use the `random` module inside strategies"),
]

SCHEMA = schemathesis.openapi.from_dict(openapi(API_ROUTES, "0"))
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    unsupported_method,
]
ADMIN_KEY = "an-admin-key-of-the-settings"
CALLERS = (None, *Access)
# Clients that guess keys must wait, by address: every caller has its own, so that it is not affected by others.
ADDRESSES = {role: f"192.0.2.{number}" for number, role in enumerate(CALLERS, 1)}
# Nothing listens there: a test delivery fails at once, and nothing leaves this machine.
TARGET = "http://127.0.0.1:9/"
# The HTTP client sets these. With arbitrary values a message is not HTTP, and the server answers 400 before routing.
FRAMING = frozenset({"connection", "content-length", "expect", "host", "te", "trailer", "transfer-encoding", "upgrade"})


@dataclass(frozen=True)
class Played:
    """A running pipeline, and the objects in it."""

    url: str
    keys: dict[Access | None, str]
    ids: dict[str, int]


class PipelineThread:
    """All roles, on their own event loop: schemathesis blocks."""

    def __init__(self, chosen: Settings) -> None:
        self._settings = chosen
        self._ready = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="pipeline")
        self.running: Running | None = None

    def start(self) -> str:
        self._thread.start()
        assert self._ready.wait(60), "the pipeline did not start"
        assert self.running is not None, repr(self._error)
        return self.running.url.rstrip("/")

    def stop(self) -> None:
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(60)

    def publish_garbage(self) -> None:
        asyncio.run_coroutine_threadsafe(self._publish(), self._loop).result(30)

    async def _publish(self) -> None:
        topic = self._settings.topics.orders
        producer = Producer(open_broker(self._settings), [topic])
        await producer.start()
        await producer.send(topic, key=b"R1", value=b"\xff no event", headers=[("trace", b"\xfe")])
        await producer.close()

    def _run(self) -> None:
        try:
            uvloop.run(self._serve())
        except BaseException as error:  # noqa: BLE001 - start() tells of it
            self._error = error
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        async with running(self._settings, ALL_ROLES) as self.running:
            self._ready.set()
            await self._stopping.wait()


@pytest.fixture(scope="module")
def played(bootstrap_servers: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Played]:
    """Run the pipeline with an endpoint that has an attempt, a dead letter, and a key of each role."""
    directory: Path = tmp_path_factory.mktemp("openapi")
    pipeline = PipelineThread(
        Settings(
            kafka_bootstrap_servers=bootstrap_servers,
            kafka_topic_prefix=f"openapi{time.monotonic_ns()}.",
            kafka_partitions=2,
            kafka_replication_factor=1,
            kafka_session_timeout_ms=6_000,
            kafka_fetch_max_wait_ms=30,
            kafka_static_members=False,
            clickhouse_path=directory / "clickhouse",
            allowed_networks=(ip_network("127.0.0.0/8"),),
            encryption_key=SecretStr(Vault.new_key()),
            api_keys=(SecretStr(ADMIN_KEY),),
            trusted_proxies=(ip_network("127.0.0.0/8"),),
            http_port=0,
            recorder_batch_seconds=0.1,
            drain_seconds=1.0,
        )
    )
    url = pipeline.start()
    try:
        pipeline.publish_garbage()
        with httpx.Client(
            base_url=f"{url}/api/webhook/", headers={"Authorization": f"Bearer {ADMIN_KEY}"}, timeout=30, trust_env=False
        ) as api:
            yield Played(url, _keys(api), _ids(api))
    finally:
        pipeline.stop()


def _keys(api: httpx.Client) -> dict[Access | None, str]:
    made: dict[Access | None, str] = {Access.ADMIN: ADMIN_KEY}
    for role in (Access.VIEWER, Access.OPERATOR):
        made[role] = api.post("keys", json={"key": {"name": role, "role": role}}).json()["key"]
    return made


def _ids(api: httpx.Client) -> dict[str, int]:
    created = api.post("endpoints", json={"endpoint": {"target_url": TARGET, "events": ["order_completed"]}}).json()
    tested = api.post(f"endpoints/{created['id']}/test").json()["attempt"]["id"]

    def are_recorded() -> bool:
        has_body = api.get(f"attempts/{tested}").json().get("request_body") is not None
        return has_body and bool(api.get("dead_letters").json()["count"])

    wait_until(are_recorded, "what was sent does not reach ClickHouse")
    return {
        "endpoints": created["id"],
        "attempts": tested,
        "dead_letters": api.get("dead_letters").json()["dead_letters"][0]["id"],
    }


def _aim(case: Any, ids: dict[str, int]) -> None:
    """Mostly ask for existing objects, do not delete them, and keep every target on this machine."""
    identifier = str((case.path_parameters or {}).get("id"))
    kind = case.path.split("/")[3]
    if kind in ids and identifier.isdigit():
        if case.method == "DELETE":
            case.path_parameters["id"] = int(identifier) + 1_000_000
        elif int(identifier) % 5 < 4:
            case.path_parameters["id"] = ids[kind]
    for endpoint in _endpoints(case.body):
        kind = sum(endpoint["target_url"].encode("utf-8", "replace")) % 8
        # An invalid name is refused without a look-up.
        endpoint["target_url"] = f"{TARGET}{kind}" if kind else f"ftp://{endpoint['target_url']}"


def _endpoints(body: object) -> list[dict[str, Any]]:
    """Return the endpoints of a request body: one, or those of a backup."""
    if not isinstance(body, dict):
        return []
    restore = body.get("restore")
    lines = restore.get("endpoints") if isinstance(restore, dict) else None
    found = [body.get("endpoint"), *(lines if isinstance(lines, list) else [])]
    return [one for one in found if isinstance(one, dict) and isinstance(one.get("target_url"), str)]


def _wait_out_wrong_keys(api: httpx.Client) -> None:
    """Wait: schemathesis sent wrong keys from this address, so valid ones are refused too for up to a minute."""
    wait_until(lambda: api.get("/api/webhook/endpoints").status_code != 429, "the wrong keys are still held against this address")


# schemathesis names an operation's test only if it has another parameter; pytest-xdist runs only one of several tests with one name.
@pytest.mark.parametrize("role", [Access.ADMIN], ids=str)
@SCHEMA.parametrize()
@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
def test_the_api_matches_its_document(case: Any, role: Access, played: Played) -> None:
    _play(case, role, played)


@pytest.mark.parametrize("role", [role for role in CALLERS if role is not Access.ADMIN], ids=str)
@SCHEMA.parametrize()
# Most requests are refused early, so the document's examples, hundreds for some operations, are not needed.
@settings(max_examples=2, phases=[Phase.generate], deadline=None, suppress_health_check=list(HealthCheck))
def test_the_api_matches_its_document_for_other_callers(case: Any, role: Access | None, played: Played) -> None:
    _play(case, role, played)


def _play(case: Any, role: Access | None, played: Played) -> None:
    _aim(case, played.ids)
    for name in [name for name in case.headers or () if name.lower() in FRAMING]:
        del case.headers[name]
    headers = {"X-Forwarded-For": ADDRESSES[role]} | ({"Authorization": f"Bearer {played.keys[role]}"} if role else {})
    case.call_and_validate(base_url=played.url, headers=headers, checks=CHECKS)


def test_every_route_works_and_answers_as_documented(played: Played) -> None:
    fields = {
        "target_url": f"{TARGET}walk",
        "events": ["order_completed"],
        "headers": {"X-A": "1"},
        "filters": {"channel": ["x"]},
    }
    with httpx.Client(base_url=played.url, headers={"Authorization": f"Bearer {ADMIN_KEY}"}, timeout=30, trust_env=False) as api:
        _wait_out_wrong_keys(api)
        walked: set[tuple[str, str]] = set()

        def walk(method: str, path: str, status: int, identifier: object = None, json: object = None, **query: str) -> Any:
            response = api.request(method, path.replace("{id}", str(identifier)), json=json, params=query)
            assert response.status_code == status, response.text
            SCHEMA[path][method].validate_response(response)
            walked.add((method, path))
            is_json = response.headers.get("Content-Type", "").startswith("application/json")
            return response.json() if is_json else None

        one = "/api/webhook/endpoints/{id}"
        made = walk("POST", "/api/webhook/endpoints", 201, json={"endpoint": fields})["id"]
        walk("POST", "/api/webhook/endpoints", 200, json={"endpoint": fields})
        assert walk("POST", "/api/webhook/endpoints/preview", 200, json={"preview": {"events": ["order_completed"]}})[
            "is_complete"
        ]
        walk("GET", "/api/webhook/endpoints", 200, include_attempts="1", attempts_count="2")
        walk("GET", one, 200, made, include_attempts="1")
        walk("GET", one, 200, made)
        walk("PUT", one, 200, made, json={"endpoint": {"description": "walked"}})
        walk("PATCH", one, 200, made, json={"endpoint": {"active": False}})
        walk("POST", f"{one}/verify", 409, made)
        assert walk("POST", f"{one}/held/drop", 409, made, json={"count": 3})["held_count"] == 0
        walk("POST", f"{one}/rotate_secret", 200, made)
        asked = {
            "authentication": {"type": "basic", "username": "oms", "password": "hunter2"},
            "signature_versions": ["v1", "v1a"],
        }
        assert walk("PATCH", one, 200, made, json={"endpoint": asked})["authentication"]["username"] == "oms"
        overlap = {"rotation": {"overlap_hours": 48}}
        assert len(walk("POST", f"{one}/rotate_key_pair", 200, made, json=overlap)["public_keys"]) == 2
        assert walk("POST", f"{one}/test", 200, made)["attempt"]["failure"] == "connection_refused"
        walk("DELETE", one, 204, made)
        walk("PATCH", one, 200, played.ids["endpoints"], json={"endpoint": {"active": True}})
        stats = walk("GET", f"{one}/stats", 200, played.ids["endpoints"])
        assert sum(each["succeeded"] + each["failed"] for each in stats["buckets"]) == stats["attempts"]
        assert walk("GET", "/api/webhook/attempts", 200, per_page="1")["count"] == 1
        behind = Cursor(created_at_ms=2**42, id=0).encode()
        assert walk("GET", "/api/webhook/attempts", 200, after=behind)["count"] >= 1
        walk("GET", "/api/webhook/attempts/live", 406)
        facets = walk("GET", "/api/webhook/attempts/facets", 200, **{"q[request_body_cont]": "test_"})
        assert facets["states"]["failed"] == facets["total_count"] >= 1
        bars = walk("GET", "/api/webhook/attempts/histogram", 200, bars="3")["bars"]
        assert sum(bar["attempts"] for bar in bars) >= 1
        asked = walk("POST", "/api/webhook/sql", 200, json={"statement": "SELECT 1 AS n, 'a' AS t, NULL AS x"})
        assert (asked["rows"], [name for name, _ in asked["columns"]]) == ([[1, "a", None]], ["n", "t", "x"])
        shown = walk("GET", "/api/webhook/attempts/{id}", 200, played.ids["attempts"])
        assert shown["request_body"].startswith('{"id":"test_')
        walk("POST", "/api/webhook/attempts/{id}/resend", 409, played.ids["attempts"])  # a test
        walk("GET", "/api/webhook/dead_letters", 200, **{"q[reason_eq]": "missing_key"})
        letter = walk("GET", "/api/webhook/dead_letters/{id}", 200, played.ids["dead_letters"])
        assert letter["value"]["encoding"] == "base64"
        event = {
            "id": "repaired",
            "event_name": "order_completed",
            "occurred_at": "2026-03-02T15:04:00Z",
            "data": {"number": "R1"},
        }
        repaired = {"record": {"value": {"content": json.dumps(event)}}}
        again = walk("POST", "/api/webhook/dead_letters/{id}/republish", 202, letter["id"], json=repaired)
        assert again["event_id"] == "repaired"
        assert walk("POST", "/api/webhook/dead_letters/{id}/dismiss", 202, letter["id"])["dismissed"] is True
        failed = {"q[endpoint_id_eq]": str(played.ids["endpoints"]), "q[event_id_eq]": "repaired"}
        wait_until(lambda: walk("GET", "/api/webhook/attempts", 200, **failed)["attempts"])
        [attempt, *_] = walk("GET", "/api/webhook/attempts", 200, **failed)["attempts"]
        walk("POST", "/api/webhook/attempts/{id}/resend", 202, attempt["id"])
        walk("GET", "/api/webhook/attempts/export.csv", 200, bodies="1", **failed)
        assert walk("GET", "/api/webhook/attempts/export.json", 200, **failed)
        assert walk("GET", "/api/webhook/resends/preview", 200, **failed)["notifications"] >= 1
        run = walk("POST", "/api/webhook/resends", 202, **failed)["id"]
        wait_until(lambda: walk("GET", "/api/webhook/resends/{id}", 200, run)["state"] == "done")
        wait_until(lambda: run in [one["id"] for one in walk("GET", "/api/webhook/resends", 200)["runs"]])
        walk("POST", "/api/webhook/resends/{id}/cancel", 409, run)
        types = walk("GET", "/api/webhook/event_types", 200)["event_types"]  # what the examples have added stays
        assert {one["origin"] for one in types} >= {"built_in"}
        refund = {"name": "refund_walked", "topic": "oms.orders", "description": "One.", "schema": {}, "sample": {"id": 1}}
        walk("POST", "/api/webhook/event_types", 201, json={"event_type": refund})
        assert walk("GET", "/api/webhook/event_types/{id}", 200, "refund_walked")["entry"] == refund
        changed = {"event_type": refund | {"description": "Another."}}
        walk("PUT", "/api/webhook/event_types/{id}", 200, "refund_walked", json=changed)
        assert len(walk("GET", "/api/webhook/event_types", 200)["event_types"]) == len(types) + 1
        walk("DELETE", "/api/webhook/event_types/{id}", 204, "refund_walked")
        key = walk("POST", "/api/webhook/keys", 201, json={"key": {"name": "walker", "role": "viewer"}})["id"]
        assert key in [each["id"] for each in walk("GET", "/api/webhook/keys", 200)["keys"]]
        walk("DELETE", "/api/webhook/keys/{id}", 204, key)
        assert walk("GET", "/api/webhook/encryption", 200)["remaining"] == 0
        walk("POST", "/api/webhook/encryption", 200)
        past = {"endpoint_ids": [played.ids["endpoints"]], "since": "2026-01-01T00:00:00Z", "until": "2100-01-01T00:00:00Z"}
        walk("POST", "/api/webhook/replays/preview", 200, json={"replay": past})
        walk("POST", "/api/webhook/replays", 200, json={"replay": past | {"run": "0a1b2c3d", "limit": 1}})
        walk("GET", "/api/webhook/backups/endpoints", 200)
        lines = api.get("/api/webhook/backups/endpoints").text.removesuffix("\n").split("\n")[1:]
        restore = {"restore": {"endpoints": [json.loads(line) for line in lines], "dry_run": True}}
        assert {one["step"] for one in walk("POST", "/api/webhook/backups/endpoints", 200, json=restore)["restored"]} == {"none"}
        nobody = {"erasure": {"email": "nobody@example.com"}}
        assert walk("POST", "/api/webhook/erasures/preview", 200, json=nobody)["events"] == 0
        assert walk("POST", "/api/webhook/erasures", 200, json=nobody)["left"]["events"] == 0
        walk("GET", "/api/webhook/openapi.json", 200)
        walk("GET", "/api/webhook/reference", 200)
    assert walked == {route.key for route in API_ROUTES}
