"""Authentication and signatures of endpoints on the command line. Secrets come from a variable: options end up in the shell
history.
"""

from __future__ import annotations

import pytest

from pipeline.endpoints.endpoint import open_endpoint
from tests.unit.consumers.commands import Command
from tests.unit.web.service import Service

SECRET = "OMS_WEBHOOKS_ENDPOINT_SECRET"


async def test_authentication_is_set_and_removed(service: Service, run: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    await service.create()
    monkeypatch.setenv(SECRET, "hunter2-client")
    options = ["--token-url", "http://127.0.0.1/token", "--client-id", "oms", "--scope", "a", "--scope", "b"]
    done = await run("endpoints", "authentication", "1", "--auth", "oauth2_client_credentials", *options)
    assert done.exit_code == 0, done.output
    question = open_endpoint(service.kafka.changes[-1], service.vault).token_request
    assert question is not None
    assert (question.client_secret, question.scopes) == ("hunter2-client", ("a", "b"))
    shown = (await run("endpoints", "show", "1")).stdout
    assert "oauth2_client_credentials" in shown
    assert "hunter2" not in shown + done.output
    done = await run("endpoints", "authentication", "1", "--auth", "none")
    assert done.exit_code == 0
    assert service.kafka.changes[-1].authentication is None


async def test_an_endpoint_is_added_with_authentication(service: Service, run: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SECRET, "hunter2-password")
    done = await run("endpoints", "add", "http://127.0.0.1/hooks", "--auth", "basic", "--username", "oms")
    assert done.exit_code == 0, done.output
    credential = open_endpoint(service.kafka.changes[-1], service.vault).header_credential
    assert credential is not None
    assert credential.secrets[1] == "hunter2-password"


async def test_invalid_combinations_are_refused(service: Service, run: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    await service.create()
    monkeypatch.delenv(SECRET, raising=False)
    for options in ([], ["--username", "oms"], ["--auth", "basic", "--username", "oms"]):
        assert (await run("endpoints", "authentication", "1", *options)).exit_code == 2
    for options in ([], ["--header", "X-A", "--no-header"]):
        assert (await run("endpoints", "sign", "1", *options)).exit_code == 2
    assert len(service.kafka.changes) == 1


async def test_rotating_a_missing_key_pair_says_how_to_get_one(service: Service, run: Command) -> None:
    """The API's own message names a field that a command cannot set."""
    await service.create()
    refused = await run("endpoints", "rotate-key-pair", "1")
    message = "The endpoint has no v1a signatures. Run this first: oms-webhooks endpoints sign 1 --v1a"
    assert (refused.exit_code, str(refused.exception)) == (1, message)


async def test_signatures(service: Service, run: Command) -> None:
    await service.create()
    done = await run("endpoints", "sign", "1", "--v1a", "--header", "X-Signature", "--encoding", "base64", "--prefix", "sha256=")
    assert done.exit_code == 0, done.output
    record = service.kafka.changes[-1]
    assert record.key_pairs[0].public_key in done.stdout
    assert record.signature_header is not None
    assert (record.signature_header.encoding, record.signature_header.prefix) == ("base64", "sha256=")
    done = await run("endpoints", "rotate-key-pair", "1", "--overlap-hours", "48")
    assert done.stdout.count("whpk_") == 2
    done = await run("endpoints", "sign", "1", "--no-v1a", "--no-header")
    assert "is signed with v1." in done.stdout
    rotated = await run("endpoints", "rotate", "1", "--overlap-hours", "0")
    assert "no longer valid" in rotated.stdout
    rotated = await run("endpoints", "rotate", "1", "--overlap-hours", "1")
    assert "For 1 hour, requests are signed with both" in rotated.stdout
