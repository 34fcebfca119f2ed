from __future__ import annotations

from datetime import timedelta

import pytest
from msgspec.structs import replace

from pipeline.core.signing import SigningKey, new_secret, sign
from pipeline.endpoints.endpoint import Endpoint, open_endpoint, renewed
from pipeline.endpoints.vault import Vault
from schemas.endpoint import EndpointRecord, SealedSecret
from tests.unit.sample_events import NOW, endpoint_record

VAULT = Vault(Vault.new_key())
NEW, OLD = new_secret(), new_secret()
DAY = timedelta(days=1)


def rotated() -> EndpointRecord:
    return endpoint_record(
        events=("order_completed", "shipment_shipped"),
        filters={"channel": ("spree",)},
        secrets=(SealedSecret(sealed=VAULT.seal(NEW)), SealedSecret(sealed=VAULT.seal(OLD), expires_at=NOW + DAY)),
        sealed_token=VAULT.seal("t0ken"),
    )


def signature(keys: list[SigningKey]) -> str:
    return sign(keys, "evt_1", 1, b"{}")


def test_a_record_is_opened() -> None:
    endpoint = open_endpoint(rotated(), VAULT)

    assert (endpoint.id, endpoint.target_url, endpoint.active) == (7, "https://hooks.example.com/7", True)
    assert endpoint.events == {"order_completed", "shipment_shipped"}
    assert endpoint.filters.equalities == (("channel", ("spree",)),)
    assert endpoint.filters.texts == ('data.channel == "spree"',)
    assert endpoint.token == "t0ken"
    assert endpoint.record == replace(rotated(), secrets=endpoint.record.secrets, sealed_token=endpoint.record.sealed_token)


def test_an_old_secret_signs_until_its_grace_period_ends() -> None:
    endpoint = open_endpoint(rotated(), VAULT)
    both = signature([SigningKey(NEW), SigningKey(OLD)])

    assert signature(endpoint.keys(NOW)) == both
    assert signature(endpoint.keys(NOW + DAY - timedelta(microseconds=1))) == both
    assert signature(endpoint.keys(NOW + DAY)) == signature([SigningKey(NEW)])
    assert signature(endpoint.keys(NOW + 10 * DAY)) == signature([SigningKey(NEW)])


def test_an_endpoint_without_a_token_has_none() -> None:
    assert open_endpoint(endpoint_record(), VAULT).token is None


@pytest.mark.parametrize(("active", "deleted", "is_active"), [(True, False, True), (False, False, False), (True, True, False)])
def test_paused_and_deleted_endpoints_are_not_active(active: bool, deleted: bool, is_active: bool) -> None:
    assert open_endpoint(endpoint_record(active=active, deleted=deleted), VAULT).active is is_active


def test_secrets_are_never_shown() -> None:
    endpoint = open_endpoint(rotated(), VAULT)

    for text in (repr(endpoint), str(endpoint), f"{endpoint!r:>10}", repr(endpoint.keys(NOW))):
        assert NEW.removeprefix("whsec_") not in text
        assert OLD.removeprefix("whsec_") not in text
        assert "t0ken" not in text
        assert endpoint.record.secrets[0].sealed not in text


def unusable(record: EndpointRecord, vault: Vault = VAULT) -> str:
    """Return the problem of an endpoint that cannot be delivered to."""
    endpoint = open_endpoint(record, vault)
    assert (endpoint.token, endpoint.keys(NOW)) == (None, [])
    assert (endpoint.id, endpoint.active, endpoint.events) == (record.id, True, frozenset(record.events))
    assert endpoint.problem is not None
    return endpoint.problem


def test_another_vault_cannot_open_it() -> None:
    assert "another encryption_key" in unusable(rotated(), Vault(Vault.new_key()))


def test_an_endpoint_that_can_be_opened_has_no_problem() -> None:
    assert open_endpoint(rotated(), VAULT).problem is None


def test_without_any_secret_there_is_a_problem() -> None:
    assert "no signing secret" in unusable(endpoint_record())


def test_a_token_that_cannot_be_opened_is_a_problem() -> None:
    assert "another encryption_key" in unusable(replace(rotated(), sealed_token="seal\xe9"))


def test_when_all_grace_periods_are_over_the_newest_secret_signs() -> None:
    secrets = tuple(SealedSecret(sealed=VAULT.seal(secret), expires_at=NOW - DAY) for secret in (NEW, OLD))
    endpoint = open_endpoint(endpoint_record(secrets=secrets), VAULT)

    assert endpoint.problem is None
    assert signature(endpoint.keys(NOW)) == signature([SigningKey(NEW)])


def test_an_endpoint_cannot_be_changed() -> None:
    endpoint: Endpoint = open_endpoint(rotated(), VAULT)

    with pytest.raises(AttributeError):
        endpoint.problem = "none"  # type: ignore[misc]


@pytest.mark.parametrize("secret", ["not a signing secret", "whsec_hunter2", "whsec_" + "é" * 40, "whsec_"])
def test_an_invalid_secret_is_a_problem_that_does_not_show_it(secret: str) -> None:
    problem = unusable(endpoint_record(secrets=(SealedSecret(sealed=VAULT.seal(secret)),)))

    assert problem.startswith("The endpoint's signing secret is invalid")
    assert "hunter2" not in problem
    assert "é" not in problem


@pytest.mark.parametrize("sealed_with_old", ["secrets", "sealed_token", "sealed_headers"])
def test_everything_sealed_with_an_old_key_is_renewed(sealed_with_old: str) -> None:
    old, new = Vault.new_key(), Vault.new_key()
    both = Vault(f"{new},{old}")

    def sealed(field: str, secret: str) -> str:
        return (Vault(old) if field == sealed_with_old else both).seal(secret)

    record = replace(
        endpoint_record(
            secrets=(SealedSecret(sealed=sealed("secrets", NEW)), SealedSecret(sealed=both.seal(OLD), expires_at=NOW + DAY)),
            sealed_token=sealed("sealed_token", "t0ken"),
        ),
        sealed_headers={"X-Tenant": sealed("sealed_headers", "acme")},
    )
    assert not open_endpoint(record, both).is_current

    after = replace(record, **renewed(record, both))

    assert open_endpoint(after, both).is_current
    endpoint = open_endpoint(after, Vault(new))
    assert (endpoint.problem, endpoint.token, endpoint.headers) == (None, "t0ken", {"X-Tenant": "acme"})
    assert signature(endpoint.keys(NOW)) == signature([SigningKey(NEW), SigningKey(OLD)])
    assert after.secrets[1].expires_at == NOW + DAY
    assert renewed(after, both) == {
        "authentication": None,
        "key_pairs": (),
        "signature_header": None,
        "client_certificate": None,
        "secrets": after.secrets,
        "sealed_token": after.sealed_token,
        "sealed_headers": after.sealed_headers,
    }


def test_an_endpoint_that_cannot_be_opened_is_not_current() -> None:
    endpoint = open_endpoint(endpoint_record(secrets=(SealedSecret(sealed=Vault(Vault.new_key()).seal(NEW)),)), VAULT)
    assert (endpoint.problem is None, endpoint.is_current) == (False, False)


def test_headers_that_receivers_may_take_for_ours_are_named_and_not_sent() -> None:
    sealed = {name: VAULT.seal(f"value of {name}") for name in ("x-tenant", "webhook_id", "content_type", "webhook_signature")}
    endpoint = open_endpoint(replace(rotated(), sealed_headers=sealed), VAULT)

    assert endpoint.problem is None
    assert endpoint.headers == {"x-tenant": "value of x-tenant"}
    assert endpoint.unsent_headers == ("content_type", "webhook_id", "webhook_signature")
