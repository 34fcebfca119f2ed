from __future__ import annotations

import pytest
from cryptography.fernet import Fernet
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.endpoints.vault import UnknownEncryptionKeyError, Vault, VaultError
from tests.property_examples import examples

KEY, OTHER = Vault.new_key(), Vault.new_key()


@settings(max_examples=examples(30))
@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_sealed_secrets_can_be_opened(secret: str) -> None:
    sealed = Vault(KEY).seal(secret)

    assert Vault(KEY).open(sealed) == secret
    assert sealed.isascii()
    assert not secret.strip() or secret not in sealed or len(secret) < 4


def test_the_same_secret_is_sealed_differently_each_time() -> None:
    assert Vault(KEY).seal("whsec_x") != Vault(KEY).seal("whsec_x")


def test_new_keys_differ_and_are_fernet_keys() -> None:
    assert Vault.new_key() != Vault.new_key()
    Fernet(Vault.new_key())


def test_the_key_can_be_rotated() -> None:
    before = Vault(KEY).seal("s3cret")
    both = Vault(f" {OTHER} , {KEY}\n")

    assert both.open(before) == "s3cret"
    assert Vault(OTHER).open(both.seal("s3cret")) == "s3cret", "the first key seals"
    with pytest.raises(VaultError):
        Vault(KEY).open(both.seal("s3cret"))


@pytest.mark.parametrize(
    "keys",
    ["", " ", "abc", "é", "x" * 44, f"{KEY},", f"{KEY},abc", KEY[:-1]],
    ids=["empty", "blank", "short", "not ASCII", "44 letters", "a comma too many", "one that is none", "cut off"],
)
def test_an_invalid_key_is_refused_without_showing_it(keys: str) -> None:
    with pytest.raises(VaultError, match=r"^encryption_key is not a valid key; create one with: oms-webhooks new-key$") as caught:
        Vault(keys)
    assert caught.value.__suppress_context__


@pytest.mark.parametrize(
    "sealed",
    ["", "abc", "gAAAAA", "x" * 200, Vault(OTHER).seal("s3cret"), Vault(KEY).seal("s3cret")[:-4]],
    ids=["empty", "short", "a beginning", "200 letters", "with another key", "cut off"],
)
def test_secrets_sealed_with_another_key_or_damaged_are_refused(sealed: str) -> None:
    with pytest.raises(
        UnknownEncryptionKeyError,
        match=r"^Its secrets were encrypted with another encryption_key; add that key to OMS_WEBHOOKS_ENCRYPTION_KEY in ",
    ) as caught:
        Vault(KEY).open(sealed)
    assert caught.value.__suppress_context__


def test_a_sealed_secret_that_is_not_ascii_is_refused() -> None:
    with pytest.raises(VaultError):
        Vault(KEY).open("sealé")


def test_the_vault_shows_no_key() -> None:
    assert KEY not in repr(Vault(KEY))
    assert KEY not in str(vars(Vault(KEY)))


def test_a_derived_vault_has_its_own_keys() -> None:
    first, second = Vault.new_key(), Vault.new_key()
    vault = Vault(first)
    cookies = vault.derived("cookies")
    sealed = cookies.seal("hunter2")

    assert Vault(first).derived("cookies").open(sealed) == "hunter2"
    for other in (vault, vault.derived("something else"), Vault(second).derived("cookies")):
        with pytest.raises(VaultError):
            other.open(sealed)
    # While the encryption key is rotated, secrets encrypted with the old one can be opened.
    assert Vault(f"{second},{first}").derived("cookies").open(sealed) == "hunter2"


def test_secrets_sealed_with_an_old_key_are_renewed() -> None:
    old, both = Vault(KEY).seal("s3cret"), Vault(f"{OTHER},{KEY}")

    assert (both.key_count, both.is_current(old)) == (2, False)
    renewed = both.renew(old)
    assert both.is_current(renewed)
    assert Vault(OTHER).open(renewed) == "s3cret", "the old key is no longer needed"
    assert both.renew(renewed) == renewed, "nothing to do the second time"
    assert not both.is_current("sealé")
    with pytest.raises(VaultError):
        both.renew("sealé")


def test_with_one_key_everything_is_current() -> None:
    vault = Vault(KEY)
    assert (vault.key_count, vault.is_current(vault.seal("s3cret"))) == (1, True)
