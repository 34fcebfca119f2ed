"""Checks whether this process has the same encryption key as the others, by decrypting values of theirs.

The record that claims an endpoint's id contains a sample, encrypted with the writer's first key. So a key that decrypts the last
sample is right even if it decrypts no endpoint: then the endpoints are damaged, or were encrypted with a wrong key earlier.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Final

from pipeline.endpoints.endpoint import Endpoint
from pipeline.endpoints.vault import Vault, VaultError

_SAMPLE: Final = "sample"


def sealed_sample(vault: Vault) -> bytes:
    """The value of a record that claims an id. Older releases write an empty object, and ignore the value."""
    return json.dumps({_SAMPLE: vault.seal(_SAMPLE)}).encode()


def wrong_key(endpoints: Iterable[Endpoint], sample: bytes | None, vault: Vault) -> str | None:
    """What is wrong with the encryption keys, and what to do; None if a key decrypts anything, or there is nothing to decrypt.

    ``sample`` is the value of the last claim of an id.
    """
    count, is_encrypted_with_unknown_key = 0, False
    for endpoint in endpoints:
        if endpoint.problem is None:
            return None
        count += 1
        is_encrypted_with_unknown_key = is_encrypted_with_unknown_key or endpoint.is_encrypted_with_unknown_key
    if not is_encrypted_with_unknown_key or _opens(sample, vault):
        return None
    subject = "The only endpoint is" if count == 1 else f"All {count:,} endpoints are"
    return (
        f"{subject} encrypted with a different encryption_key than this process has. Set OMS_WEBHOOKS_ENCRYPTION_KEY to the key "
        "of the other roles and restart this one. If that key is lost, delete the endpoints and register them again."
    )


def unusable(endpoints: Iterable[Endpoint]) -> str | None:
    """How many endpoints cannot be sent to, with the reason for the first; None if there are none."""
    found = [endpoint for endpoint in endpoints if endpoint.problem]
    if not found:
        return None
    first = min(found, key=lambda endpoint: endpoint.id)
    subject = (
        "1 endpoint is unusable, so its deliveries wait"
        if len(found) == 1
        else f"{len(found):,} endpoints are unusable, so their deliveries wait"
    )
    return f"{subject}; endpoint {first.id}: {first.problem}"


def _opens(sample: bytes | None, vault: Vault) -> bool:
    try:
        return sample is not None and vault.open(json.loads(sample)[_SAMPLE]) == _SAMPLE
    except (VaultError, ValueError, TypeError, KeyError):  # the last three: an older release wrote it
        return False
