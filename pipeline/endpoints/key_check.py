"""Is the encryption key of this process the one of the others? Told by what they have encrypted, as nobody else knows.

The record that claims an endpoint's id holds a sample, encrypted with the first key of whoever wrote it. So a key that opens the last sample is right
even where it opens no endpoint: then the endpoints are damaged, or were encrypted before by somebody with a wrong key.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Final

from pipeline.endpoints.endpoint import Endpoint
from pipeline.endpoints.vault import Vault, VaultError

_SAMPLE: Final = "sample"


def sealed_sample(vault: Vault) -> bytes:
    """The value of a record that claims an id. Older releases write an empty object, and do not look at it."""
    return json.dumps({_SAMPLE: vault.seal(_SAMPLE)}).encode()


def wrong_key(endpoints: Iterable[Endpoint], sample: bytes | None, vault: Vault) -> str | None:
    """What is wrong with the encryption keys and what to do, in sentences; None when one of them opens anything, or there is nothing to open.

    ``sample`` is the value of the last claim of an id.
    """
    count, is_sealed_otherwise = 0, False
    for endpoint in endpoints:
        if endpoint.problem is None:
            return None
        count += 1
        is_sealed_otherwise = is_sealed_otherwise or endpoint.is_sealed_otherwise
    if not is_sealed_otherwise or _opens(sample, vault):
        return None
    subject = "The only endpoint is" if count == 1 else f"All {count:,} endpoints are"
    return (
        f"{subject} encrypted with another encryption_key than this process has. Set OMS_WEBHOOKS_ENCRYPTION_KEY to the key of the other roles and "
        "restart this one. If that key is lost, delete the endpoints and register them again."
    )


def unusable(endpoints: Iterable[Endpoint]) -> str | None:
    """How many endpoints nothing can be sent to, and why not to the first of them; None when there is none."""
    found = [endpoint for endpoint in endpoints if endpoint.problem]
    if not found:
        return None
    first = min(found, key=lambda endpoint: endpoint.id)
    subject = (
        "1 endpoint is unusable, its deliveries wait"
        if len(found) == 1
        else f"{len(found):,} endpoints are unusable, their deliveries wait"
    )
    return f"{subject}; endpoint {first.id}: {first.problem}"


def _opens(sample: bytes | None, vault: Vault) -> bool:
    try:
        return sample is not None and vault.open(json.loads(sample)[_SAMPLE]) == _SAMPLE
    except (VaultError, ValueError, TypeError, KeyError):  # the latter three when an older release wrote it
        return False
