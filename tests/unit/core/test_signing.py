from __future__ import annotations

import base64
import time
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from pipeline.core.signing import SignatureError, SigningKey, new_secret, sign, verify

NOW = 1_772_463_840
BODY = '{"id":"evt_1","event_name":"order_completed","data":{"city":"Łódź"}}'.encode()

secrets_ = st.binary(min_size=24, max_size=64).map(lambda key: "whsec_" + base64.b64encode(key).decode())
ids = st.from_regex(r"[A-Za-z0-9_:=+/-]{1,128}", fullmatch=True)
bodies = st.text(st.characters(exclude_categories=["Cs"])).map(str.encode)


def headers_of(keys: list[SigningKey], webhook_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    return {
        "webhook-id": webhook_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": sign(keys, webhook_id, timestamp, body),
    }


@given(secrets_, ids, bodies)
def test_public_verifier_accepts_our_signature(secret: str, webhook_id: str, body: bytes) -> None:
    headers = headers_of([SigningKey(secret)], webhook_id, int(time.time()), body)

    Webhook(secret).verify(body, headers, json_parse=False)
    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(body + b" ", headers, json_parse=False)


@given(secrets_, secrets_, ids, bodies)
def test_public_verifier_accepts_both_secrets_during_a_rotation(new: str, old: str, webhook_id: str, body: bytes) -> None:
    headers = headers_of([SigningKey(new), SigningKey(old)], webhook_id, int(time.time()), body)

    assert len(headers["webhook-signature"].split(" ")) == 2
    Webhook(new).verify(body, headers, json_parse=False)
    Webhook(old).verify(body, headers, json_parse=False)
    with pytest.raises(WebhookVerificationError):
        Webhook(new_secret()).verify(body, headers, json_parse=False)


@given(secrets_, ids, bodies)
def test_we_accept_the_public_signer(secret: str, webhook_id: str, body: bytes) -> None:
    signature = Webhook(secret).sign(webhook_id, datetime.fromtimestamp(NOW, UTC), body.decode())
    headers = {"webhook-id": webhook_id, "webhook-timestamp": str(NOW), "webhook-signature": signature}

    verify([SigningKey(secret)], headers, body, now=NOW)
    assert signature == sign([SigningKey(secret)], webhook_id, NOW, body)


@given(secrets_, secrets_, ids, st.binary(), st.integers(min_value=0, max_value=10**12))
def test_any_shared_key_verifies(ours: str, theirs: str, webhook_id: str, body: bytes, timestamp: int) -> None:
    headers = headers_of([SigningKey(ours)], webhook_id, timestamp, body)

    verify([SigningKey(theirs), SigningKey(ours)], headers, body, now=timestamp)
    verify([SigningKey(ours)], {name.title(): value for name, value in headers.items()}, body, now=timestamp)
    if ours != theirs:
        with pytest.raises(SignatureError, match="No signature"):
            verify([SigningKey(theirs)], headers, body, now=timestamp)


@given(secrets_, st.binary(min_size=1), st.data())
def test_a_single_changed_bit_of_the_body_is_detected(secret: str, body: bytes, data: st.DataObject) -> None:
    headers = headers_of([SigningKey(secret)], "evt_1", NOW, body)
    position = data.draw(st.integers(0, len(body) - 1))
    changed = bytearray(body)
    changed[position] ^= 1 << data.draw(st.integers(0, 7))

    with pytest.raises(SignatureError, match="No signature"):
        verify([SigningKey(secret)], headers, bytes(changed), now=NOW)


@pytest.mark.parametrize("name", ["webhook-id", "webhook-timestamp", "webhook-signature"])
@pytest.mark.parametrize(("value", "reason"), [(None, "is missing"), ("", "is missing"), ("é", "is not ASCII")])
def test_unusable_header_is_named(name: str, value: str | None, reason: str) -> None:
    key = SigningKey(new_secret())
    headers = headers_of([key], "evt_1", NOW, BODY)
    if value is None:
        del headers[name]
    else:
        headers[name] = value

    with pytest.raises(SignatureError, match=f"{name} {reason}"):
        verify([key], headers, BODY, now=NOW)


@pytest.mark.parametrize(
    ("now", "reason"),
    [(NOW + 300, None), (NOW - 300, None), (NOW + 301, "too old: 301 seconds"), (NOW - 301, "too new: 301 seconds")],
)
def test_timestamp_may_be_five_minutes_away(now: int, reason: str | None) -> None:
    key = SigningKey(new_secret())
    headers = headers_of([key], "evt_1", NOW, BODY)

    if reason is None:
        verify([key], headers, BODY, now=now)
    else:
        with pytest.raises(SignatureError, match=reason):
            verify([key], headers, BODY, now=now)


@pytest.mark.parametrize("timestamp", ["soon", "-1", "1.5", "1_0", " 1", "1" * 16, "1" * 5000])
def test_timestamp_must_be_whole_seconds(timestamp: str) -> None:
    headers = {"webhook-id": "evt_1", "webhook-timestamp": timestamp, "webhook-signature": "v1,AAAA"}

    with pytest.raises(SignatureError, match="whole number"):
        verify([SigningKey(new_secret())], headers, BODY, now=NOW)


def test_signatures_of_other_versions_are_skipped() -> None:
    key = SigningKey(new_secret())
    headers = headers_of([key], "evt_1", NOW, BODY)
    ours = headers["webhook-signature"]

    headers["webhook-signature"] = f"v1a,AAAA {ours} v2,BBBB"
    verify([key], headers, BODY, now=NOW)

    for unusable in (ours.replace("v1,", "v1a,"), ours.removeprefix("v1,"), "v1,", "v1", ","):
        headers["webhook-signature"] = unusable
        with pytest.raises(SignatureError, match="No signature"):
            verify([key], headers, BODY, now=NOW)


def test_nothing_is_signed_or_accepted_without_a_key() -> None:
    headers = headers_of([SigningKey(new_secret())], "evt_1", NOW, BODY)

    with pytest.raises(ValueError, match="no key to sign with"):
        sign([], "evt_1", NOW, BODY)
    with pytest.raises(SignatureError, match="No signature"):
        verify([], headers, BODY, now=NOW)


def test_new_secret_is_the_base64_of_32_random_bytes() -> None:
    assert new_secret(lambda size: b"\x01" * size) == "whsec_" + base64.b64encode(b"\x01" * 32).decode()
    assert new_secret() != new_secret()


@pytest.mark.parametrize(
    ("secret", "reason"),
    [
        ("", "must start with whsec_"),
        (base64.b64encode(b"k" * 32).decode(), "must start with whsec_"),
        ("whsec_", "holds 0 bytes"),
        ("whsec_" + base64.b64encode(b"k" * 23).decode(), "holds 23 bytes"),
        ("whsec_" + base64.b64encode(b"k" * 65).decode(), "holds 65 bytes"),
        ("whsec_c2VjcmV0LXNlY3JldA", "not base64"),
        ("whsec_c2VjcmV0\nLXNlY3JldA==", "not base64"),
        ("whsec_sécret", "not base64"),
    ],
)
def test_unusable_secret_is_explained_without_showing_it(secret: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as raised:
        SigningKey(secret)

    assert len(secret) <= len("whsec_") or secret not in str(raised.value)
    assert raised.value.__cause__ is None
    assert raised.value.__suppress_context__ or raised.value.__context__ is None


def test_key_is_never_shown() -> None:
    secret = new_secret(lambda size: b"k" * size)
    key = SigningKey(secret)

    for shown in (repr(key), str(key), f"{[key]}"):
        assert shown.strip("[]") == "SigningKey(***)"
    assert not hasattr(key, "__dict__")
