"""How long the contexts of client certificates are kept."""

from __future__ import annotations

import ssl

import pytest
import trustme

from pipeline.core.client_certificate import ClientIdentity
from pipeline.sender import client_identities
from pipeline.sender.client_identities import ClientContexts


@pytest.fixture(scope="module")
def identities() -> list[ClientIdentity]:
    issued = [trustme.CA().issue_cert(f"{name}.example.com") for name in "abc"]
    return [ClientIdentity(one.cert_chain_pems[0].bytes().decode(), one.private_key_pem.bytes().decode()) for one in issued]


async def test_an_unused_context_is_forgotten_after_a_while(identities: list[ClientIdentity]) -> None:
    now = [1000.0]
    contexts = ClientContexts(True, lambda context: context, clock=lambda: now[0])
    first = await contexts.of(identities[0])
    await contexts.of(identities[1])
    now[0] += 599
    assert await contexts.of(identities[0]) is first
    now[0] += 2
    contexts.forget_unused()
    assert len(contexts) == 1
    assert await contexts.of(identities[0]) is first
    now[0] += 601
    contexts.forget_unused()
    assert len(contexts) == 0
    contexts.close()


async def test_the_least_recently_used_context_is_evicted_first(
    identities: list[ClientIdentity], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_identities, "_MOST", 2)
    contexts = ClientContexts(True, lambda context: context)
    first, second = await contexts.of(identities[0]), await contexts.of(identities[1])
    assert await contexts.of(identities[0]) is first
    await contexts.of(identities[2])
    assert await contexts.of(identities[0]) is first
    assert await contexts.of(identities[1]) is not second
    contexts.close()


async def test_a_key_that_does_not_match_is_not_kept(identities: list[ClientIdentity]) -> None:
    contexts = ClientContexts(True, lambda context: context)
    with pytest.raises(ssl.SSLError):
        await contexts.of(ClientIdentity(identities[0].certificate, identities[1].private_key))
    assert len(contexts) == 0
