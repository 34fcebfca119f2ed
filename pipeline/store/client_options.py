"""Options for opening the driver's clients: where ClickHouse is, and what applies to all statements. Pure."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from pipeline.ops.settings import Settings

CONNECT_SECONDS: Final = 5


def for_all(settings: Settings) -> dict[str, Any]:
    """Errors without the server's version and address; times with their time zone."""
    common: dict[str, Any] = {"show_clickhouse_errors": "scrub", "tz_mode": "aware"}
    if settings.clickhouse_cluster:
        # The rows of an event and of its attempts may be in different shards: a subquery runs once, over all shards.
        common["settings"] = {"distributed_product_mode": "global"}
    return common


def in_process(directory: Path) -> dict[str, Any]:
    """For the embedded ClickHouse."""
    return {"interface": "chdb", "path": str(directory)}


def at_a_server(settings: Settings, answer_seconds: int) -> dict[str, Any]:
    """For a server that may take ``answer_seconds`` to answer."""
    url = urlsplit(settings.clickhouse_url)
    return {
        "interface": url.scheme,
        "host": url.hostname,
        "port": url.port or (8443 if url.scheme == "https" else 8123),
        "proxy_path": url.path.strip("/"),
        "username": settings.clickhouse_username,
        "password": settings.clickhouse_password.get_secret_value(),
        "ca_cert": str(settings.clickhouse_ca_file) if settings.clickhouse_ca_file else None,
        "connect_timeout": CONNECT_SECONDS,
        "send_receive_timeout": answer_seconds,
        # No session: the server would keep it locked while an abandoned insert still runs.
        "autogenerate_session_id": False,
        "dedicated_pool": True,
    }
