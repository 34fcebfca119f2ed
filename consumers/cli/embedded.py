"""The embedded services for trying things out: starts a broker and creates keys."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import SecretStr

from pipeline.devtools.local_broker import ApacheKafkaBroker, LocalBroker, TansuBroker
from pipeline.devtools.local_process import BrokerStartError
from pipeline.endpoints.vault import Vault
from pipeline.ops.settings import Settings

KafkaKind = Literal["embedded", "apache"]

# Needed by the embedded broker (measured). Do not use in production.
_EMBEDDED_PROFILE = {
    "kafka_session_timeout_ms": 6_000,
    "kafka_fetch_max_wait_ms": 30,
    "kafka_static_members": False,  # it never removes a static member that was killed
    "kafka_partitions": 3,
    "kafka_replication_factor": 1,
}
_APACHE_PROFILE = {"kafka_session_timeout_ms": 10_000, "kafka_partitions": 3, "kafka_replication_factor": 1}


@dataclass(frozen=True, slots=True)
class EmbeddedServices:
    """The settings and the broker of a pipeline on this machine."""

    settings: Settings
    broker: LocalBroker | None
    """None if a Kafka is configured, because then we start no broker."""


@contextmanager
def embedded_services(
    settings: Settings, kafka: KafkaKind | None = None, data_dir: Path = Path("var/apache")
) -> Iterator[EmbeddedServices]:
    """Start a broker unless a Kafka is configured, and create missing keys. The broker stops at the end of the block.

    The encryption key of a configured Kafka is never created: nobody would know it after this process, and every endpoint that was stored
    with it would be unusable.

    Raises:
        BrokerStartError: the broker does not start; or a Kafka is configured, and ``kafka`` names another one, or there is no encryption key.
    """
    if settings.kafka_bootstrap_servers:
        if kafka is not None:
            raise BrokerStartError(
                f"No broker is started, because the Kafka at {settings.kafka_bootstrap_servers} is configured. To use it, leave out "
                "--kafka. Otherwise unset OMS_WEBHOOKS_KAFKA_BOOTSTRAP_SERVERS."
            )
        if settings.encryption_key is None:
            raise BrokerStartError(
                "There is no key to encrypt endpoint secrets, and the endpoints in this Kafka outlive this process. Create one with "
                "`oms-webhooks new-key`, and set OMS_WEBHOOKS_ENCRYPTION_KEY."
            )
        yield EmbeddedServices(_with_keys(settings, None), None)
        return
    broker: LocalBroker
    if kafka == "apache":
        data_dir.mkdir(parents=True, exist_ok=True)
        broker = ApacheKafkaBroker(data_dir=data_dir / "kafka", log_path=data_dir / "kafka.log")
        profile: dict[str, object] = _APACHE_PROFILE | {"clickhouse_path": settings.clickhouse_path or data_dir / "clickhouse"}
    else:
        _refuse_a_lasting_store(settings)
        broker, profile = TansuBroker(), dict(_EMBEDDED_PROFILE)
    try:
        profile["kafka_bootstrap_servers"] = broker.start()
        settings = settings.model_copy(update=profile)
        yield EmbeddedServices(_with_keys(settings, data_dir if broker.durable else None), broker)
    finally:
        broker.stop()


def _refuse_a_lasting_store(settings: Settings) -> None:
    """An in-memory broker starts at offset 0 in every run. A persistent store would mistake new attempts for old ones."""
    if settings.has_lasting_store:
        message = (
            "The embedded broker loses its data at exit, so it cannot be used with a persistent ClickHouse. Unset "
            "OMS_WEBHOOKS_CLICKHOUSE_URL and OMS_WEBHOOKS_CLICKHOUSE_PATH, set OMS_WEBHOOKS_KAFKA_BOOTSTRAP_SERVERS, or use --kafka apache."
        )
        raise BrokerStartError(message)


def _with_keys(settings: Settings, data_dir: Path | None) -> Settings:
    """Create the keys that are not configured. If the data outlives the process, the keys are stored next to it."""
    keys = {"encryption_key": Vault.new_key(), "api_key": secrets.token_urlsafe(24)}
    if data_dir is not None:
        keys = _kept(data_dir / "keys.json", keys)
    update: dict[str, object] = {}
    if settings.encryption_key is None:
        update["encryption_key"] = SecretStr(keys["encryption_key"])
    if not settings.api_keys:
        update["api_keys"] = (SecretStr(keys["api_key"]),)
    return settings.model_copy(update=update)


def _kept(path: Path, fresh: dict[str, str]) -> dict[str, str]:
    if not path.exists():
        _write_private(path, fresh)
    kept: dict[str, str] = json.loads(path.read_text())
    return kept


def _write_private(path: Path, content: object) -> None:
    """Write it whole or not at all: half a file, as after a full disk, would prevent every later start."""
    part = path.with_name(f"{path.name}.part")
    part.unlink(missing_ok=True)
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump(content, file)
    part.replace(path)
