from __future__ import annotations

import asyncio
import contextlib
import io
import time
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import aiohttp
import pytest

from pipeline.core.listen_errors import ListenError
from pipeline.core.signing import SigningKey, new_secret, sign
from pipeline.devtools.receiver import MAX_BODY_BYTES, Behaviour, Received, Receiver, ReceiverLimits, is_late
from tests.waiting import until

BODY = b'{"id":"evt_1","event_name":"order_completed"}'


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)) as session:
        yield session


@contextlib.asynccontextmanager
async def listening(receiver: Receiver) -> AsyncIterator[str]:
    url = await receiver.start()
    try:
        yield url
    finally:
        await receiver.stop()


def signed(secret: str, webhook_id: str = "evt_1", body: bytes = BODY, timestamp: int | None = None) -> dict[str, str]:
    at = int(time.time()) if timestamp is None else timestamp
    return {
        "webhook-id": webhook_id,
        "webhook-timestamp": str(at),
        "webhook-signature": sign([SigningKey(secret)], webhook_id, at, body),
    }


async def post(http: aiohttp.ClientSession, url: str, webhook_id: str) -> int:
    async with http.post(url, data=BODY, headers={"webhook-id": webhook_id}) as response:
        return response.status


async def test_signed_delivery_is_acknowledged_and_kept(http: aiohttp.ClientSession) -> None:
    secret = new_secret()
    seen: list[Received] = []
    receiver = Receiver("erp", secret, on_delivery=seen.append, clock=lambda: 1000.5)
    async with listening(receiver) as url:
        headers = signed(secret, timestamp=1000) | {"Authorization": "Bearer sesame"}
        async with http.post(f"{url}any/path?x=1", data=BODY, headers=headers) as response:
            assert (response.status, await response.read()) == (204, b"")

    assert seen == list(receiver.deliveries)
    (delivery,) = seen
    assert (delivery.path, delivery.webhook_id, delivery.attempt) == ("/any/path", "evt_1", 1)
    assert (delivery.outcome, delivery.status, delivery.body) == ("acknowledged", 204, BODY)
    assert delivery.received_at == 1000.5
    assert delivery.headers["authorization"] == "Bearer sesame"
    assert "sesame" not in repr(delivery)
    assert secret not in repr(receiver)


async def test_bad_signature_is_answered_with_401_and_does_not_count_as_a_delivery(http: aiohttp.ClientSession) -> None:
    receiver = Receiver("erp", new_secret())
    async with listening(receiver) as url:
        async with http.post(url, data=BODY, headers=signed(new_secret())) as response:
            assert response.status == 401
            assert "No signature" in await response.text()
        async with http.post(url, data=BODY) as response:
            assert response.status == 401
            assert "webhook-id is missing" in await response.text()

    assert (receiver.counts.received, receiver.counts.bad_signature) == (2, 2)
    assert (receiver.counts.distinct, receiver.counts.acknowledged, receiver.attempts) == (0, 0, {})
    assert [delivery.outcome for delivery in receiver.deliveries] == ["bad_signature", "bad_signature"]


async def test_secret_may_be_set_later(http: aiohttp.ClientSession) -> None:
    secret = new_secret()
    receiver = Receiver("erp")
    async with listening(receiver) as url:
        assert await post(http, url, "evt_1") == 204
        receiver.secret = secret
        assert await post(http, url, "evt_2") == 401
        async with http.post(url, data=BODY, headers=signed(secret, "evt_2")) as response:
            assert response.status == 204

    with pytest.raises(ValueError, match="must start with whsec_"):
        receiver.secret = "sesame"


async def test_the_first_attempts_of_every_id_fail(http: aiohttp.ClientSession) -> None:
    receiver = Receiver("erp", behaviour=Behaviour(fail_first=2, status=503))
    async with listening(receiver) as url:
        statuses = [await post(http, url, webhook_id) for webhook_id in ("evt_1", "evt_2") * 4]

    assert statuses == [503, 503, 503, 503, 204, 204, 204, 204]
    assert receiver.attempts == {"evt_1": 4, "evt_2": 4}
    assert receiver.acknowledgements == {"evt_1": 2, "evt_2": 2}
    counts = receiver.counts
    assert (counts.received, counts.acknowledged, counts.refused, counts.distinct, counts.retries) == (8, 4, 4, 2, 6)


async def test_share_of_failures_follows_the_rate_and_the_seed(http: aiohttp.ClientSession) -> None:
    async def statuses(seed: int) -> list[int]:
        receiver = Receiver("erp", behaviour=Behaviour(fail_rate=0.3, status=500, seed=seed))
        async with listening(receiver) as url:
            return [await post(http, url, f"evt_{n}") for n in range(200)]

    first = await statuses(seed=1)
    assert 40 <= first.count(500) <= 80
    assert first.count(500) + first.count(204) == 200
    assert await statuses(seed=1) == first
    assert await statuses(seed=2) != first


@pytest.mark.parametrize("rate", [0.0, 1.0])
async def test_rates_of_zero_and_one(http: aiohttp.ClientSession, rate: float) -> None:
    receiver = Receiver("erp", behaviour=Behaviour(fail_rate=rate))
    async with listening(receiver) as url:
        assert {await post(http, url, f"evt_{n}") for n in range(50)} == {500 if rate else 204}


async def test_behaviour_may_change_while_it_listens(http: aiohttp.ClientSession) -> None:
    receiver = Receiver("erp", behaviour=Behaviour(fail_rate=1.0, status=302))
    async with listening(receiver) as url:
        async with http.post(url, data=BODY, allow_redirects=False) as response:
            assert (response.status, await response.text()) == (302, "erp fails as asked.\n")
        receiver.behaviour = Behaviour()
        assert await post(http, url, "evt_1") == 204


async def test_reset_breaks_the_connection(http: aiohttp.ClientSession) -> None:
    receiver = Receiver("erp", behaviour=Behaviour(fail_first=1, failure="reset"))
    async with listening(receiver) as url:
        with pytest.raises(aiohttp.ClientOSError):
            await post(http, url, "evt_1")
        assert await post(http, url, "evt_1") == 204

    assert [(delivery.outcome, delivery.status, delivery.attempt) for delivery in receiver.deliveries] == [
        ("refused", None, 1),
        ("acknowledged", 204, 2),
    ]


async def test_hang_never_answers_and_does_not_delay_stopping(
    http: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.devtools.receiver._SHUTDOWN_S", 3600.0)  # it would not end if it waited for this
    receiver = Receiver("erp", behaviour=Behaviour(fail_rate=1.0, failure="hang"))
    url = await receiver.start()
    given_up = asyncio.create_task(post(http, url, "evt_1"))
    await until(lambda: receiver.counts.refused == 1)
    given_up.cancel()
    hanging = asyncio.create_task(post(http, url, "evt_2"))
    await until(lambda: receiver.counts.refused == 2)

    await receiver.stop()
    with pytest.raises(aiohttp.ClientError):
        await hanging
    assert (receiver.counts.received, receiver.counts.refused, receiver.counts.abandoned) == (2, 2, 0)


async def test_sender_that_gives_up_is_counted_as_abandoned(http: aiohttp.ClientSession) -> None:
    receiver = Receiver("erp", behaviour=Behaviour(delay=30))
    async with listening(receiver) as url:
        given_up = asyncio.create_task(post(http, url, "evt_1"))
        await until(lambda: receiver.counts.received == 1)
        given_up.cancel()
        await until(lambda: receiver.counts.abandoned == 1)

    assert (receiver.counts.received, receiver.counts.acknowledged) == (1, 0)
    assert [(delivery.outcome, delivery.attempt) for delivery in receiver.deliveries] == [("abandoned", 1)]
    assert receiver.deliveries[0].reason == "the sender closed the connection"


async def test_a_stopping_receiver_does_not_blame_the_sender(
    http: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.devtools.receiver._SHUTDOWN_S", 0.01)
    receiver = Receiver("erp", behaviour=Behaviour(delay=30))
    async with listening(receiver) as url:
        waiting = asyncio.create_task(post(http, url, "evt_1"))
        await until(lambda: receiver.counts.received == 1)
    with pytest.raises(aiohttp.ClientError):
        await waiting

    assert [(delivery.outcome, delivery.reason) for delivery in receiver.deliveries] == [
        ("abandoned", "the receiver was stopped")
    ]


async def test_sender_that_disconnects_within_the_body_is_counted_as_abandoned() -> None:
    receiver = Receiver("erp")
    async with listening(receiver) as url:
        address = urlsplit(url)
        _, writer = await asyncio.open_connection(address.hostname, address.port)
        writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nonly so much")
        await until(lambda: receiver.counts.received == 1)
        writer.close()
        await writer.wait_closed()
        await until(lambda: receiver.counts.abandoned == 1)

    assert receiver.counts.distinct == 0


async def test_delay_comes_before_the_answer(http: aiohttp.ClientSession) -> None:
    receiver = Receiver("erp", behaviour=Behaviour(delay=0.15))
    async with listening(receiver) as url:
        started = time.monotonic()
        assert await post(http, url, "evt_1") == 204
        assert time.monotonic() - started >= 0.15


async def test_body_is_limited(http: aiohttp.ClientSession) -> None:
    receiver = Receiver("erp")
    async with listening(receiver) as url, http.post(url, data=io.BytesIO(bytes(MAX_BODY_BYTES + 1))) as response:
        assert response.status == 413

    assert [(delivery.outcome, delivery.status, delivery.body) for delivery in receiver.deliveries] == [("refused", 413, b"")]


async def test_memory_is_limited(http: aiohttp.ClientSession) -> None:
    receiver = Receiver("erp", limits=ReceiverLimits(keep=3, max_ids=5))
    async with listening(receiver) as url:
        for n in range(8):
            assert await post(http, url, f"evt_{n}") == 204

    assert [delivery.webhook_id for delivery in receiver.deliveries] == ["evt_5", "evt_6", "evt_7"]
    assert list(receiver.attempts) == list(receiver.acknowledgements) == [f"evt_{n}" for n in range(3, 8)]
    assert receiver.counts.distinct == 8


async def test_other_methods_are_refused(http: aiohttp.ClientSession) -> None:
    receiver = Receiver("erp")
    async with listening(receiver) as url, http.get(url) as response:
        assert response.status == 405

    assert receiver.counts.received == 0


async def test_start_and_stop() -> None:
    receiver, other = Receiver("erp"), Receiver("crm")
    url = await receiver.start()
    try:
        with pytest.raises(RuntimeError, match="listening already"):
            await receiver.start()
        with pytest.raises(ListenError, match=r"Port \d+ is in use; choose another port \(--port\)"):
            await other.start(port=urlsplit(url).port or 0)
    finally:
        await receiver.stop()
        await receiver.stop()
    again = await receiver.start()
    await receiver.stop()
    assert again.startswith("http://127.0.0.1:")


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        ({"fail_rate": 1.5}, "fail_rate must be between 0 and 1"),
        ({"status": 99}, "status must be between 200 and 599"),
        ({"delay": -1.0}, "delay must be 0"),
        ({"fail_first": -1}, "fail_first must be 0"),
        ({"failure": "explode"}, "failure must be status, hang or reset"),
    ],
)
def test_invalid_behaviour_is_refused(behaviour: dict[str, float], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Behaviour(**behaviour)  # type: ignore[arg-type]


async def test_an_event_behind_a_later_one_of_its_key_is_noticed(http: aiohttp.ClientSession) -> None:
    receiver = Receiver("erp")
    came = [
        ("oms.orders/0/R1", "7"),
        ("oms.orders/0/R1", "9"),
        ("oms.orders/0/R1", "9"),
        ("oms.orders/0/R1", "7"),
        ("oms.orders/0/R2", "8"),
    ]
    async with listening(receiver) as url:
        for number, (key, sequence) in enumerate(came):
            headers = {"webhook-id": f"evt_{number}", "oms-event-key": key, "oms-event-sequence": sequence}
            async with http.post(url, data=BODY, headers=headers) as response:
                assert response.status == 204
        assert await post(http, url, "without") == 204

    assert receiver.counts.late == 1
    assert receiver.sequences == {"oms.orders/0/R1": 9, "oms.orders/0/R2": 8}


@pytest.mark.parametrize("sequence", ["", "-1", "x", "9" * 40])
def test_an_invalid_sequence_is_not_compared(sequence: str) -> None:
    assert not is_late({"k": 7}, {"oms-event-key": "k", "oms-event-sequence": sequence})
