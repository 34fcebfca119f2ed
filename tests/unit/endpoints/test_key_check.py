"""When an encryption key must be wrong, and when single endpoints are damaged."""

from __future__ import annotations

import pytest

from pipeline.core.signing import new_secret
from pipeline.endpoints.key_check import sealed_sample
from pipeline.endpoints.registry import Registry
from pipeline.endpoints.vault import Vault
from schemas.endpoint import EndpointRecord, SealedSecret
from tests.unit.endpoints.registry_case import TOPIC, VAULT, EndpointsTopic, change, registry
from tests.unit.fake_kafka import record
from tests.unit.sample_events import endpoint_record

OTHER = Vault(Vault.new_key())


def sealed_by(vault: Vault, endpoint_id: int) -> EndpointRecord:
    return endpoint_record(endpoint_id, secrets=(SealedSecret(sealed=vault.seal(new_secret())),))


def reading(*records: EndpointRecord, sample: bytes | None = None, vault: Vault = VAULT) -> Registry:
    made = registry(vault)
    made.table.is_caught_up = True
    if sample is not None:
        made._apply([record(sample, topic=TOPIC, key=b"id-claim")])
    made._apply(map(change, records))
    return made


async def test_the_key_is_wrong_if_no_endpoint_can_be_opened() -> None:
    all_of_them = reading(sealed_by(OTHER, 7), sealed_by(OTHER, 9))
    assert all_of_them.problem() == all_of_them.wrong_key()
    assert (all_of_them.wrong_key() or "").startswith(
        "All 2 endpoints are encrypted with a different encryption_key than this process has. Set OMS_WEBHOOKS_ENCRYPTION_KEY to"
    )
    assert (reading(sealed_by(OTHER, 7)).wrong_key() or "").startswith("The only endpoint is encrypted with a different")


@pytest.mark.parametrize("good", [6, 8, 10])
async def test_the_key_is_right_if_one_endpoint_can_be_opened(good: int) -> None:
    made = reading(sealed_by(OTHER, 7), sealed_by(VAULT, good), sealed_by(OTHER, 9))
    assert (made.problem(), made.wrong_key()) == (None, None)
    assert (made.unusable() or "").startswith(
        "2 endpoints are unusable, so their deliveries wait; endpoint 7: Its secrets were encrypted"
    )


async def test_without_endpoints_the_key_cannot_be_judged() -> None:
    assert reading().wrong_key() is None
    assert reading(sample=sealed_sample(OTHER)).wrong_key() is None


async def test_a_damaged_endpoint_does_not_make_the_key_wrong() -> None:
    assert reading(endpoint_record(7)).wrong_key() is None  # no secret at all
    assert reading(sealed_by(OTHER, 7), sample=sealed_sample(VAULT)).wrong_key() is None  # another process had this key


@pytest.mark.parametrize("sample", [b"{}", b"", b"[]", b"{", b'{"sample":1}', b'{"sample":"x"}', sealed_sample(OTHER)])
async def test_a_sample_that_cannot_be_opened_proves_nothing(sample: bytes) -> None:
    assert reading(sealed_by(OTHER, 7), sample=sample).wrong_key() is not None
    assert reading(sealed_by(VAULT, 7), sample=sample).wrong_key() is None


async def test_the_key_is_not_judged_before_the_endpoints_are_read() -> None:
    made = reading(sealed_by(OTHER, 7))
    made.table.is_caught_up = False
    assert made.wrong_key() is None
    assert made.problem() == f"{TOPIC} has not been read to its end yet"


async def test_registering_an_endpoint_leaves_a_sample() -> None:
    made = registry()
    topic = EndpointsTopic(made)
    endpoint, _ = await made.create(topic, lambda endpoint_id: sealed_by(VAULT, endpoint_id))
    claim = topic.sent[0].value

    assert reading(sealed_by(OTHER, endpoint.id), sample=claim).wrong_key() is None
    assert reading(sealed_by(VAULT, endpoint.id), sample=claim, vault=OTHER).wrong_key() is not None
    assert reading(sealed_by(VAULT, endpoint.id), sample=claim, vault=Vault(f"{Vault.new_key()},{Vault.new_key()}")).wrong_key()


async def test_a_key_that_is_rotated_in_rolling_order_is_never_wrong() -> None:
    old, new = Vault.new_key(), Vault.new_key()
    before = [sealed_by(Vault(old), number) for number in (7, 9)]
    during = [before[0], sealed_by(Vault(new), 9)]
    after = [sealed_by(Vault(new), number) for number in (7, 9)]
    sample = sealed_sample(Vault(old))
    for keys, states in (
        (old, [before]),
        (f"{old},{new}", [before, during, after]),
        (f"{new},{old}", [before, during, after]),
        (new, [after]),
    ):
        for state in states:
            assert reading(*state, sample=sample, vault=Vault(keys)).problem() is None
    assert reading(*before, sample=sample, vault=Vault(new)).wrong_key() is not None  # the old one was removed too early
