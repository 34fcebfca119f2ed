"""Foreign input is text: script and markup in payloads, headers, URLs, answers, errors, names and numbers, on every page."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import quote, urlencode

import pytest

from schemas.api_key import Access
from schemas.event import EventType
from schemas.samples import sample_payload
from tests.browser.chromium import Tab
from tests.browser.shop import Shop
from tests.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="session")

SHOWN = "<img src=x onerror=window.hacked=1>{{1234567*9}}"
EVIL = f"{SHOWN}\"'></script></textarea><script>window.hacked=1</script>"


@asynccontextmanager
async def answering(answer: bytes) -> AsyncIterator[str]:
    """Run a server that answers every request with these bytes."""

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(speak, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"


def evil_answer() -> bytes:
    body = f'{{"note": {json.dumps(EVIL)}}}'.encode()
    head = f"HTTP/1.1 500 {EVIL}\r\nX-Evil: {EVIL}\r\nContent-Type: text/html\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    return head.encode() + body


async def recorded(shop: Shop, endpoint_id: int) -> int:
    """Wait for the first attempt at an endpoint, and return its id."""

    async def look() -> list[dict[str, int]]:
        return await shop.pipeline.attempts(endpoint_id_eq=endpoint_id)

    return (await until(look))[-1]["id"]


async def test_foreign_input_is_only_text(shop: Shop, admin: Tab) -> None:
    pipeline = shop.pipeline
    orders = pipeline.settings.topics.orders
    async with answering(evil_answer()) as url, answering(f"HTTP/1.1 {EVIL}\r\n\r\n".encode()) as broken:
        first = await pipeline.register(
            f"{url}?a={quote(EVIL)}#".rstrip("#"),
            [EventType.ORDER_COMPLETED],
            description=EVIL,
            headers={"X-Ours": EVIL},
            filters={"number": [EVIL]},
        )
        second = await pipeline.register(
            f"{broken}?b=<b>", [EventType.ORDER_COMPLETED], description=EVIL, filters={"number": [EVIL]}
        )
        made = await pipeline.api.post("keys", json={"key": {"name": EVIL[:100], "role": Access.VIEWER.value}})
        assert made.status_code == 201, made.text
        event = {
            "id": "evt_evil",
            "event_name": "order_completed",
            "occurred_at": "2026-03-02T15:04:00Z",
            "data": {**sample_payload(EventType.ORDER_COMPLETED), "number": EVIL, "email": EVIL, EVIL: EVIL},
            "references": {"subscription_id": EVIL},
        }
        await pipeline.producer.send(orders, key=EVIL.encode(), value=json.dumps(event).encode())
        await pipeline.producer.send(orders, key=EVIL.encode(), value=EVIL.encode(), headers=[(EVIL, EVIL.encode())])
        attempts = [await recorded(shop, one["id"]) for one in (first, second)]
    letters = await until(lambda: _letters(shop))

    search = urlencode({"q[request_body_cont]": SHOWN, "q[order_number_eq]": EVIL, f"q[{EVIL}]": EVIL, "q[error_cont]": EVIL})
    paths = {
        "/webhooks": False,
        "/webhooks/endpoints": True,
        f"/webhooks/endpoints/{first['id']}": True,
        f"/webhooks/endpoints/{second['id']}": True,
        f"/webhooks/endpoints/{first['id']}/edit": True,
        "/webhooks/keys": True,
        "/webhooks/attempts": True,
        f"/webhooks/attempts?{search}": True,
        f"/webhooks/attempts?{urlencode({'q[request_body_cont]': SHOWN})}": True,
        f"/webhooks/attempts/{attempts[0]}?{urlencode({'find': SHOWN})}": True,
        f"/webhooks/attempts/{attempts[1]}": True,
        f"/webhooks/orders/{quote(EVIL, safe='')}": True,
        f"/webhooks/shipments/{quote(EVIL, safe='')}": True,
        f"/webhooks/subscriptions/{quote(EVIL, safe='')}": True,
        f"/webhooks/stock-items/{quote(EVIL, safe='')}": True,
        f"/webhooks/go?{urlencode({'text': EVIL})}": True,
        f"/webhooks/go?{urlencode({'text': '<b>127.0.0.1'})}": False,
        f"/webhooks/time-zone?{urlencode({'next': EVIL})}": False,
        f"/webhooks/resends/new?{urlencode({'q[order_number_eq]': EVIL})}": False,
        "/webhooks/resends": False,
        f"/webhooks/dead-letters?{urlencode({'q[reason_eq]': EVIL, 'q[topic_eq]': EVIL, f'q[{EVIL}]': EVIL})}": True,
        f"/webhooks/dead-letters/{letters[0]}": True,
        f"/webhooks/login?{urlencode({'next': EVIL})}": False,
        f"/webhooks/{quote(EVIL, safe='')}": False,
    }
    admin.expected.add(404)
    for path, is_shown in paths.items():
        await admin.go(path)
        # Injected script would have run by now; the handler of an image that fails to load runs a little later.
        await admin.page.wait_for_load_state("networkidle")
        assert await admin.page.evaluate("window.hacked") is None, path
        assert await admin.page.locator("img[src=x]").count() == 0, path
        shown = await admin.page.locator("body").inner_text() + " ".join(
            [await one.input_value() for one in await admin.page.locator("input, textarea").all()]
        )
        assert "11111103" not in shown, path
        if is_shown:
            assert any(begin in shown for begin in ("<img src=x", "<img%20src=x")), f"{path}: {shown}"


async def _letters(shop: Shop) -> list[int]:
    found = (await shop.pipeline.api.get("dead_letters", params={"q[reason_eq]": "not_json"})).json()["dead_letters"]
    return [one["id"] for one in found]
