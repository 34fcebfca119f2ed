"""The keys of a pipeline whose data outlives it."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from rich.console import Console

from consumers.cli import tables
from consumers.cli.embedded import EmbeddedServices, _kept, embedded_services
from pipeline.devtools.local_broker import TansuBroker
from pipeline.devtools.local_process import BrokerStartError
from pipeline.endpoints.vault import Vault
from pipeline.ops.settings import Settings

ELSEWHERE = Settings(_env_file=None, kafka_bootstrap_servers="kafka.example.com:9092", encryption_key=None, api_keys=())  # type: ignore[call-arg,unused-ignore]


def test_the_key_file_is_complete_or_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk left an empty file, and every later start ended with a traceback."""
    path = tmp_path / "keys.json"
    with monkeypatch.context() as full:

        def fail(*_: Any) -> None:
            raise OSError(28, "No space left on device")

        full.setattr(json, "dump", fail)
        with pytest.raises(OSError, match="No space"):
            _kept(path, {"api_key": "a"})
    assert _kept(path, {"api_key": "b"}) == {"api_key": "b"}
    assert path.stat().st_mode & 0o777 == 0o600
    assert _kept(path, {"api_key": "c"}) == {"api_key": "b"}
    assert [file.name for file in tmp_path.iterdir()] == ["keys.json"]


def test_a_configured_kafka_requires_a_configured_encryption_key() -> None:
    """Otherwise nobody could decrypt the endpoints' secrets after a restart."""
    message = "`oms-webhooks new-key`, and set OMS_WEBHOOKS_ENCRYPTION_KEY"
    with pytest.raises(BrokerStartError, match=message), embedded_services(ELSEWHERE):
        pass
    key = SecretStr(Vault.new_key())
    with embedded_services(ELSEWHERE.model_copy(update={"encryption_key": key})) as here:
        assert (here.broker, here.settings.encryption_key, len(here.settings.api_keys)) == (None, key, 1)


def banner(here: EmbeddedServices) -> str:
    """What is printed once everything runs."""
    written = io.StringIO()
    Console(file=written, width=1000).print(tables.banner(here, "http://127.0.0.1:8080", None))
    return written.getvalue()


def test_the_advice_to_use_a_real_kafka_mentions_the_key_that_it_needs() -> None:
    text = banner(EmbeddedServices(ELSEWHERE, TansuBroker()))
    assert "OMS_WEBHOOKS_ENCRYPTION_KEY (make one: oms-webhooks new-key) and OMS_WEBHOOKS_CLICKHOUSE_URL" in text


def test_it_announces_that_attempts_are_lost_at_exit(tmp_path: Path) -> None:
    """Their offsets are committed in a Kafka that outlives the process, so no later process records them again."""
    sentence = "Recorded attempts are kept in a temporary directory and are lost at exit. Set OMS_WEBHOOKS_CLICKHOUSE_URL or"
    assert sentence in banner(EmbeddedServices(ELSEWHERE, None))
    lasting: list[dict[str, Any]] = [{"clickhouse_url": "http://clickhouse:8123"}, {"clickhouse_path": tmp_path}]
    for place in lasting:
        assert "lost at exit" not in banner(EmbeddedServices(ELSEWHERE.model_copy(update=place), None))
