"""What the sample receiver requires besides a signature with a secret, and how it answers a handshake."""

from __future__ import annotations

import aiohttp
import pytest

from pipeline.core.asymmetric_signing import SigningKeyPair, new_key_pair
from pipeline.core.signing import SignatureError, SigningKey, new_secret, sign
from pipeline.devtools.receiver import Receiver
from pipeline.devtools.receiver_checks import ReceiverChecks
from tests.unit.devtools.test_receiver import BODY, listening, post

PAIR = SigningKeyPair(new_key_pair())


def signed(*keys: SigningKey | SigningKeyPair) -> dict[str, str]:
    return {"webhook-id": "evt_1", "webhook-timestamp": "1000", "webhook-signature": sign(keys, "evt_1", 1000, BODY)}


@pytest.mark.parametrize(
    ("checks", "headers"),
    [
        (ReceiverChecks(), {}),
        (ReceiverChecks(basic="oms:p:ä"), {"Authorization": "Basic b21zOnA6w6Q="}),
        (ReceiverChecks(api_key="X-Api-Key: hunter2"), {"x-api-key": "hunter2"}),
        (ReceiverChecks(public_key=PAIR.public_key), signed(SigningKey(new_secret()), PAIR)),
    ],
)
def test_accepted_requests(checks: ReceiverChecks, headers: dict[str, str]) -> None:
    checks.check(headers, BODY, lambda: 1001.5)


@pytest.mark.parametrize(
    ("checks", "headers", "reason"),
    [
        (ReceiverChecks(basic="oms:hunter2"), {}, "Authorization"),
        (ReceiverChecks(basic="oms:hunter2"), {"Authorization": "Basic b21zOnA6w6Q="}, "Authorization"),
        (ReceiverChecks(api_key="X-Api-Key: hunter2"), {"x-api-key": "hunter3"}, "X-Api-Key"),
        (ReceiverChecks(api_key="X-Api-Key: hunter2"), {"x-api-key": "h\udcff"}, "X-Api-Key"),
        (ReceiverChecks(public_key=PAIR.public_key), signed(SigningKey(new_secret())), "v1a"),
        (ReceiverChecks(public_key=PAIR.public_key), signed(SigningKeyPair(new_key_pair())), "v1a"),
        (ReceiverChecks(public_key=PAIR.public_key), signed(PAIR) | {"webhook-signature": "v1a,%%%"}, "v1a"),
        (ReceiverChecks(public_key=PAIR.public_key), signed(PAIR) | {"webhook-timestamp": "1"}, "too old"),
        (ReceiverChecks(public_key=PAIR.public_key), {}, "missing"),
    ],
)
def test_refused_requests(checks: ReceiverChecks, headers: dict[str, str], reason: str) -> None:
    with pytest.raises(SignatureError, match=reason) as refused:
        checks.check(headers, BODY, lambda: 1001.5)
    assert "hunter2" not in str(refused.value) + repr(checks)


@pytest.mark.parametrize("wrong", [{"basic": "oms"}, {"api_key": "X-Key"}, {"api_key": ": key"}, {"public_key": "whpk_AA"}])
def test_checks_that_cannot_be_configured(wrong: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"whpk_|colon"):
        ReceiverChecks(**wrong)


async def test_a_receiver_refuses_invalid_requests_and_answers_handshakes() -> None:
    receiver = Receiver("erp")
    async with listening(receiver) as url, aiohttp.ClientSession() as http:
        asked = {"WebHook-Request-Origin": "hooks.example.com"}
        async with http.options(url, headers=asked) as response:
            assert (response.status, "WebHook-Allowed-Origin" in response.headers) == (405, False)
        receiver.checks = ReceiverChecks(basic="oms:hunter2", allowed_origin="hooks.example.com")
        async with http.options(url, headers=asked) as response:
            assert (response.status, response.headers["WebHook-Allowed-Origin"]) == (200, "hooks.example.com")
        async with http.options(url, headers={"WebHook-Request-Origin": "other.example.com"}) as response:
            assert response.status == 405
        assert await post(http, url, "evt_1") == 401
    assert (receiver.counts.received, receiver.counts.bad_signature) == (1, 1)
