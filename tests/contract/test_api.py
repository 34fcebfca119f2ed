"""The HTTP API with the real registry on a broker, and the real search on ClickHouse.

Most tests take a second or more: each starts one API or several, which read their topics from the broker.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from ipaddress import ip_network
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from pipeline.broker.factory import open_broker
from pipeline.broker.kafka.admin import KafkaTopicAdmin
from pipeline.broker.producer import Producer
from pipeline.core.circuit import CircuitLimits
from pipeline.delivery.admission import Admission, AdmissionLimits
from pipeline.delivery.delivery_service import DeliveryService
from pipeline.delivery.endpoint_health_monitor import EndpointHealthMonitor, FailingLimits
from pipeline.delivery.publisher import DeliveryPublisher
from pipeline.endpoints.event_type_catalogue import EventTypeCatalogue
from pipeline.endpoints.health import HealthTable
from pipeline.endpoints.registry import Registry
from pipeline.endpoints.source_topics import SourceTopics
from pipeline.endpoints.vault import Vault
from pipeline.ops.clock import utc_now
from pipeline.ops.health import Health
from pipeline.ops.settings import Settings
from pipeline.sender.address_guard import AddressGuard
from pipeline.sender.client import Sender
from pipeline.sender.concurrency_limiter import ConcurrencyLimiter
from pipeline.sender.limits import SenderLimits
from pipeline.store.connection import Connections
from pipeline.store.erase import Eraser
from pipeline.store.reports.history import EventHistory
from pipeline.store.reports.notification_history import NotificationHistory
from pipeline.store.reports.recent import Reports
from pipeline.store.rows import RowPosition, Table, attempt_id, attempt_row, event_row
from pipeline.store.search.queries import Search
from pipeline.store.sql_console import SqlConsole
from pipeline.web.audit import AuditLog
from pipeline.web.auth import ApiKeys
from pipeline.web.key_ring import KeyRing
from pipeline.web.resend_runs import ResendRuns
from pipeline.web.resending import Resender
from pipeline.web.revoked_sessions import EndedSessions
from pipeline.web.server import WebServer, make_app
from pipeline.web.services import Api
from tests.contract.store_case import Store
from tests.contract.store_records import attempt, body, dispatch, event_rows, meta
from tests.waiting import until

API_KEY = "contract-key"
NOT_FOUND = {"error": "The resource you were looking for could not be found."}


@pytest.fixture
def settings(bootstrap_servers: str, topic_prefix: str) -> Settings:
    """Return settings with an endpoints topic of the test's own."""
    chosen = Settings(
        kafka_bootstrap_servers=bootstrap_servers,
        kafka_topic_prefix=topic_prefix,
        kafka_replication_factor=1,
        kafka_fetch_max_wait_ms=30,
        encryption_key=SecretStr(Vault.new_key()),
        allowed_networks=(ip_network("127.0.0.0/8"),),
        api_keys=(SecretStr(API_KEY),),
    )
    topics = chosen.topics
    wanted = (topics.endpoints, topics.api_keys, topics.ended_sessions, topics.audit, topics.event_types)
    with KafkaTopicAdmin(chosen) as admin:
        admin.create_missing([spec for spec in chosen.topics.specs() if spec.name in wanted])
    return chosen


@asynccontextmanager
async def serving(
    settings: Settings, search: Search | None = None, analyst: SqlConsole | None = None
) -> AsyncIterator[httpx.AsyncClient]:
    """Provide a client of an API process with its own registry, producer and server."""
    assert settings.encryption_key is not None
    vault = Vault(settings.encryption_key.get_secret_value())
    topics = settings.topics
    registry = Registry(open_broker(settings), settings.topics.endpoints, vault)
    ring = KeyRing(open_broker(settings), topics.api_keys)
    ended = EndedSessions(open_broker(settings), topics.ended_sessions, utc_now)
    producer = Producer(open_broker(settings), [topics.endpoints, topics.api_keys, topics.ended_sessions, topics.audit])
    connections = Connections(settings)
    sender = Sender(SenderLimits(), AddressGuard(settings.allowed_networks))
    health = HealthTable(open_broker(settings), topics.endpoint_health)
    health_monitor = EndpointHealthMonitor(
        health, producer, topics, utc_now, limits=FailingLimits(disable_after=timedelta(days=5))
    )
    delivery_service = DeliveryService(
        sender=sender,
        admission=Admission(
            ConcurrencyLimiter(1, 0.1), AdmissionLimits(CircuitLimits(), 0.1, 1), on_change=health_monitor.circuit_changed
        ),
        health_monitor=health_monitor,
        publisher=DeliveryPublisher(producer, topics),
        policies=settings.retry_policies,
        clock=utc_now,
    )
    catalogue = EventTypeCatalogue(open_broker(settings), topics.event_types, settings.event_types)
    audit, reports = AuditLog(producer, topics.audit, person=ring.person), Reports(connections)
    resender = Resender(
        events=settings.event_reader,
        registry=registry,
        producer=producer,
        topics=topics,
        audit=audit,
        notifications=NotificationHistory(connections),
        reports=reports,
    )
    api = Api(
        registry=registry,
        catalogue=catalogue,
        source_topics=SourceTopics(open_broker(settings), topics.prefix),
        producer=producer,
        vault=vault,
        guard=AddressGuard(settings.allowed_networks),
        search=search or Search(connections),
        reports=reports,
        delivery_service=delivery_service,
        policies=settings.retry_policies,
        topics=topics,
        ring=ring,
        keys=ApiKeys(settings.api_keys, ring.valid),
        ended_sessions=ended,
        eraser=Eraser(connections),
        history=EventHistory(connections),
        audit=audit,
        resender=resender,
        runs=ResendRuns(resender),
        events=settings.event_reader,
        analyst=analyst,
    )
    server = WebServer(make_app(health=Health(), api=api), "127.0.0.1", 0)
    async with AsyncExitStack() as stack:
        await producer.start()
        stack.push_async_callback(producer.close)
        stack.push_async_callback(connections.close)
        for table in (registry.table, ring.table, ended.table, catalogue.table):
            await table.start()
            stack.push_async_callback(table.stop)
        base_url = f"{await server.start()}/api/webhook/"
        stack.push_async_callback(server.stop)
        headers = {"Authorization": f"Bearer {API_KEY}"}
        yield await stack.enter_async_context(httpx.AsyncClient(base_url=base_url, headers=headers, timeout=60, trust_env=False))


def wrapped(target_url: str = "http://127.0.0.1/hooks", **fields: Any) -> dict[str, Any]:
    return {"endpoint": {"target_url": target_url, "events": ["order_completed"]} | fields}


async def test_a_change_can_be_read_at_once(settings: Settings) -> None:
    async with serving(settings) as api:
        created = await api.post("endpoints", json=wrapped(token="t0ken"))
        assert created.status_code == 201
        shown = created.json()
        assert shown.pop("secret").startswith("whsec_")
        shown.pop("ignored_fields")
        path = f"endpoints/{shown['id']}"
        assert (await api.get(path)).json() == shown

        for number in range(5):
            updated = (await api.patch(path, json={"endpoint": {"description": f"n{number}"}})).json()
            assert ((await api.get(path)).json()["description"], updated["version"]) == (f"n{number}", number + 2)

        assert (await api.get("endpoints")).json()["total_count"] == 1
        assert (await api.delete(path)).status_code == 204
        gone = await api.get(path)
        assert (gone.status_code, gone.json()) == (404, NOT_FOUND)
        assert (await api.get("endpoints")).json()["endpoints"] == []


async def test_concurrent_creates_of_one_url_make_one_endpoint(settings: Settings) -> None:
    async with serving(settings) as api:
        answers = await asyncio.gather(*(api.post("endpoints", json=wrapped()) for _ in range(4)))
        assert sorted(answer.status_code for answer in answers) == [200, 200, 200, 201]
        assert len({answer.json()["id"] for answer in answers}) == 1
        assert (await api.get("endpoints")).json()["total_count"] == 1


async def test_endpoints_outlive_the_process_that_created_them(settings: Settings) -> None:
    async with serving(settings) as api:
        made = [(await api.post("endpoints", json=wrapped(f"http://127.0.0.1/{number}"))).json() for number in range(3)]
        assert (await api.delete(f"endpoints/{made[1]['id']}")).status_code == 204
        kept = (await api.get("endpoints")).json()
    async with serving(settings) as api:
        assert (await api.get("endpoints")).json() == kept
        assert [endpoint["id"] for endpoint in kept["endpoints"]] == [made[0]["id"], made[2]["id"]]
        again = await api.post("endpoints", json=wrapped("http://127.0.0.1/1"))
        assert (again.status_code, again.json()["id"] > made[2]["id"]) == (201, True)


async def test_every_process_sees_the_changes_of_the_others(settings: Settings) -> None:
    async with serving(settings) as one, serving(settings) as two:
        created = (await one.post("endpoints", json=wrapped())).json()
        # The second process reads the topic at its own pace, but it has read its own writes.
        await two.post("endpoints", json=wrapped("http://127.0.0.1/other"))
        path = f"endpoints/{created['id']}"
        assert (await two.patch(path, json={"endpoint": {"active": False}})).json()["version"] == 2
        assert (await two.get(f"endpoints/{created['id']}")).json()["active"] is False
        again = await two.post("endpoints", json=wrapped())
        assert (again.status_code, again.json()["id"]) == (200, created["id"])


async def test_concurrent_changes_of_two_processes_converge(settings: Settings) -> None:
    async with serving(settings) as one, serving(settings) as two:
        ids = [(await one.post("endpoints", json=wrapped(f"http://127.0.0.1/{number}"))).json()["id"] for number in range(2)]
        await two.post("endpoints", json=wrapped("http://127.0.0.1/other"))  # so that it has read the others' changes
        for turn in range(5):
            # One URL for two endpoints; then two fields of one endpoint.
            target = {"endpoint": {"target_url": f"http://127.0.0.1/same-{turn}"}}
            answers = await asyncio.gather(
                *(api.patch(f"endpoints/{i}", json=target) for api, i in zip((one, two), ids, strict=True))
            )
            assert sorted(answer.status_code for answer in answers) == [200, 422]
            changes: list[dict[str, Any]] = [{"description": f"turn {turn}"}, {"active": turn % 2 == 0}]
            await asyncio.gather(
                *(
                    api.patch(f"endpoints/{ids[0]}", json={"endpoint": each})
                    for api, each in zip((one, two), changes, strict=True)
                )
            )
            tag = {"If-Match": (await one.patch(f"endpoints/{ids[1]}", json={"endpoint": {"active": True}})).headers["ETag"]}
            await two.patch(f"endpoints/{ids[0]}", json={"endpoint": {"events": ["order_cancelled"]}})
            answers = await asyncio.gather(
                *(api.patch(f"endpoints/{ids[1]}", json={"endpoint": {"description": "x"}}, headers=tag) for api in (one, two))
            )
            assert sorted(answer.status_code for answer in answers) == [200, 412]
        shown = (await one.get(f"endpoints/{ids[0]}")).json()
        assert (shown["description"], shown["active"]) == ("turn 4", True)
    async with serving(settings) as later, serving(settings) as another:
        listed = (await later.get("endpoints")).json()["endpoints"]
        assert (await another.get("endpoints")).json()["endpoints"] == listed
        urls = [endpoint["target_url"] for endpoint in listed]
        assert len(urls) == len(set(urls)) == 3


async def test_a_key_revoked_in_one_process_is_refused_by_others(settings: Settings) -> None:
    async with serving(settings) as one, serving(settings) as two:
        made = (await one.post("keys", json={"key": {"name": "Ada", "role": "viewer"}})).json()
        await two.post("keys", json={"key": {"name": "Bob", "role": "viewer"}})  # so that it has read the other's change
        headers = {"Authorization": f"Bearer {made['key']}"}
        assert (await two.get("endpoints", headers=headers)).status_code == 200
        assert (await one.delete(f"keys/{made['id']}")).status_code == 204

        async def is_refused() -> bool:
            return (await two.get("endpoints", headers=headers)).status_code == 401

        await until(is_refused)  # it reads at its own pace


async def test_attempts_are_found_with_their_requests(settings: Settings, store: Store) -> None:
    event = meta(1, order_number="R758805215")
    attempts = [attempt(number, event=event, attempt=number) for number in (1, 2)]
    await store.writer.append(Table.ATTEMPTS, 0, [attempt_row(RowPosition(0, n), one) for n, one in enumerate(attempts)])
    await store.writer.append(Table.EVENTS, 0, [event_row(RowPosition(0, 0), dispatch(1, event=event), body(1))])

    async with serving(settings, store.search) as api:
        found = (await api.get("attempts", params={"q[order_number_eq]": "R758805215", "strict": "1"})).json()
        assert [one["id"] for one in found["attempts"]] == [attempt_id(0, 1), attempt_id(0, 0)]
        assert (found["total_count"], found["attempts"][1]["created_at"]) == (2, "2026-03-02T12:00:01.123Z")

        detail = (await api.get(f"attempts/{attempt_id(0, 0)}")).json()
        assert detail["request_body"] == body(1).decode()
        assert (detail["response_body"], detail["response_body_encoding"]) == ("Grüße ✓", "text")
        assert detail["response_headers"] == [["Server", "nginx"], ["Set-Cookie", "a=1"], ["Set-Cookie", "b=2"]]
        assert detail["siblings"] == [found["attempts"][0]]
        assert (await api.get(f"attempts/{attempt_id(0, 7)}")).json() == NOT_FOUND
        assert (await api.get(f"attempts/{10**18 - 1}")).status_code == 404


@pytest.mark.parametrize(
    "filters",
    [
        {},
        # test_store_search_windows tests the store alone, with texts and in the other direction.
        pytest.param({"q[request_body_cont]": "NEEDLE"}, marks=pytest.mark.slow),
        pytest.param({"q[s]": "created_at asc", "q[state_eq]": "succeeded"}, marks=pytest.mark.slow),
    ],
)
async def test_cursors_while_attempts_arrive(settings: Settings, store: Store, filters: dict[str, str]) -> None:
    """Older and newer ones, and ones in between: none is shown twice, and none of the first ones is left out."""

    async def write(partition: int, numbers: range) -> None:
        rows = [attempt_row(RowPosition(partition, number), attempt(number)) for number in numbers]
        await store.writer.append(Table.EVENTS, partition, event_rows(numbers, partition, text="a needle"))
        await store.writer.append(Table.ATTEMPTS, partition, rows)

    await write(0, range(0, 160, 2))
    at_the_start = {attempt_id(0, number) for number in range(0, 160, 2)}
    walked: list[int] = []
    async with serving(settings, store.search) as api:
        answer = (await api.get("attempts", params={"per_page": "20", **filters})).json()
        walked += [one["id"] for one in answer["attempts"]]
        for turn in itertools.count():
            if answer["next_cursor"] is None:
                break
            if turn < 4:
                await write(1, range(turn * 40, turn * 40 + 10))
                await write(2, range(1000 + turn, 1001 + turn))
            answer = (await api.get("attempts", params={"per_page": "20", "after": answer["next_cursor"], **filters})).json()
            walked += [one["id"] for one in answer["attempts"]]
    assert len(walked) == len(set(walked))
    assert at_the_start <= set(walked)


async def test_sql_is_accepted_if_clickhouse_is_in_process(settings: Settings, store: Store) -> None:
    if not store.connections.is_embedded:
        pytest.skip("a server is asked directly")
    await store.writer.append(Table.ATTEMPTS, 0, [attempt_row(RowPosition(0, 0), attempt(0))])
    async with serving(settings, store.search, SqlConsole(store.connections)) as api:
        found = await api.post("sql", json={"statement": "SELECT count() AS n FROM attempt_history"})
        assert (found.status_code, found.json()["columns"], found.json()["rows"]) == (200, [["n", "UInt64"]], [[1]])
        refusable: list[Any] = [{"statement": "DROP TABLE attempts"}, {"statement": " "}, {}, []]
        for asked in refusable:
            refused = await api.post("sql", content=json.dumps(asked))
            assert (refused.status_code, list(refused.json()["errors"])) == (422, ["statement"])
        assert (await api.post("sql", content=b"{", headers={"Authorization": "Bearer wrong"})).status_code == 401
    async with serving(settings, store.search) as api:
        assert (await api.post("sql", json={"statement": "SELECT 1"})).status_code == 404


async def test_endpoints_show_their_last_attempts(settings: Settings, store: Store) -> None:
    async with serving(settings, store.search) as api:
        endpoint = (await api.post("endpoints", json=wrapped())).json()["id"]
        other = (await api.post("endpoints", json=wrapped("http://127.0.0.1/other"))).json()["id"]
        rows = [attempt_row(RowPosition(0, number), attempt(number, endpoint_id=endpoint)) for number in range(30)]
        await store.writer.append(Table.ATTEMPTS, 0, rows)

        shown = (await api.get(f"endpoints/{endpoint}?include_attempts=true&attempts_count=3")).json()
        assert [one["id"] for one in shown["attempts"]] == [attempt_id(0, number) for number in (29, 28, 27)]
        listed = (await api.get("endpoints?include_attempts=true")).json()["endpoints"]
        assert {one["id"]: len(one["attempts"]) for one in listed} == {endpoint: 25, other: 0}


HOSTILE_QUERIES = [
    "q[order_number_eq]=%00",
    "q[request_body_cont]=%00%01'\\\"%25_",
    "q[request_body_cont]=%ff%fe",
    "q[error_cont]={p0:String}",
    "q[order_number_eq]='; DROP TABLE attempts; --",
    "q[id_in][]=" + "9" * 18,
    "q[created_at_gteq]=1900-01-01&q[created_at_lteq]=2298-12-31",
    "q[s]=created_at asc&q[s]=id&page=999999999&per_page=200",
    "&".join(f"q[sku_in][]=SKU-{number}" for number in range(300)),
]


async def test_no_query_breaks_the_search(settings: Settings, store: Store) -> None:
    async with serving(settings, store.search) as api:
        for query in HOSTILE_QUERIES:
            answer = await api.get(f"attempts?{query}")
            assert answer.status_code == 200, (query, answer.text)
            assert answer.json()["attempts"] == [], query


async def test_without_clickhouse_only_endpoints_are_served(settings: Settings) -> None:
    nowhere = settings.model_copy(update={"clickhouse_url": "http://127.0.0.1:1"})
    connections = Connections(nowhere)
    async with serving(settings, Search(connections)) as api:
        assert (await api.post("endpoints", json=wrapped())).status_code == 201
        assert (await api.get("endpoints")).json()["count"] == 1
        for path in ("attempts", "attempts/1", "endpoints?include_attempts=true"):
            answer = await api.get(path)
            assert answer.status_code == 503
            assert answer.json()["error"].startswith("Attempts cannot be searched right now: ClickHouse at 127.0.0.1:1 ")
    await connections.close()


async def log_in(api: httpx.AsyncClient, key: str) -> tuple[dict[str, str], str]:
    """Log in to the dashboard as a new browser; returns the session's cookie and the form token."""
    origin = page(api, "/")
    async with httpx.AsyncClient(base_url=origin, trust_env=False, follow_redirects=True) as browser:
        form = (await browser.get("webhooks/login")).text
        data = {"csrf": csrf_of(form), "key": key, "next": "/webhooks/keys"}
        seen = await browser.post("webhooks/login", data=data)
        assert seen.status_code == 200, seen.text
        return {"Cookie": f"oms_webhooks_session={browser.cookies['oms_webhooks_session']}"}, csrf_of(seen.text)


def page(api: httpx.AsyncClient, path: str) -> httpx.URL:
    """Return a page of the same process."""
    return api.base_url.copy_with(path=path)


def csrf_of(html: str) -> str:
    return html.partition('name="csrf" value="')[2].partition('"')[0]


async def until_out(api: httpx.AsyncClient, cookie: dict[str, str]) -> None:
    """Wait until a copied cookie leads to the login page."""

    async def is_out() -> bool:
        seen = await api.get(page(api, "/webhooks/keys"), headers=cookie)
        assert seen.status_code in {200, 303}
        return seen.status_code == 303

    await until(is_out)


async def test_a_session_ended_in_one_process_stays_ended_in_all_and_after_restarts(settings: Settings) -> None:
    async with serving(settings) as one, serving(settings) as other:
        copied, csrf = await log_in(one, API_KEY)
        assert (await other.get(page(other, "/webhooks/keys"), headers=copied)).status_code == 200

        out = await one.post(page(one, "/webhooks/logout"), data={"csrf": csrf}, headers=copied)

        assert out.status_code == 303
        assert (await one.get(page(one, "/webhooks/keys"), headers=copied)).status_code == 303
        await until_out(other, copied)
    async with serving(settings) as restarted:
        assert (await restarted.get(page(restarted, "/webhooks/keys"), headers=copied)).status_code == 303


async def test_a_session_ends_with_its_key_in_all_processes(settings: Settings) -> None:
    async with serving(settings) as one, serving(settings) as other:
        made = (await one.post("keys", json={"key": {"name": "Ada", "role": "admin"}})).json()

        async def knows_the_key() -> bool:
            return (await other.get("endpoints", headers={"Authorization": f"Bearer {made['key']}"})).status_code == 200

        await until(knows_the_key)  # it reads the key's change a moment later
        copied, _ = await log_in(other, made["key"])

        await one.delete(f"keys/{made['id']}")

        await until_out(other, copied)
        assert (await one.get(page(one, "/webhooks/keys"), headers=copied)).status_code == 303
