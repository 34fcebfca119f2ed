"""The shim itself, with the driver's ordinary HTTP client: no row may get lost on the way to the engine.

Each start of its process takes seconds.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import clickhouse_connect
import lz4.frame
import pytest
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError

from tests.contract.clickhouse_engine import decompress
from tests.contract.clickhouse_shim import ShimProcess
from tests.contract.store_case import PASSWORD

pytestmark = pytest.mark.slow  # a tool of these tests


@pytest.fixture(params=["lz4", "zstd", "gzip", False])
def client(request: pytest.FixtureRequest, clickhouse_shim: ShimProcess) -> Iterator[Client]:
    client = clickhouse_connect.get_client(
        host="127.0.0.1", port=clickhouse_shim.port, password=PASSWORD, compress=request.param, dedicated_pool=True
    )
    client.command("CREATE OR REPLACE TABLE shim_rows (number Int64, text String) ENGINE = MergeTree ORDER BY number")
    yield client
    client.command("DROP TABLE shim_rows")
    client.close()


def test_an_insert_of_many_compressed_blocks(client: Client) -> None:
    """The driver sends blocks of two megabytes, each in its own frame; reading only the first frame would lose most rows."""
    rows = [(number, f"text {number} " * 100) for number in range(10_000)]
    summary = client.insert("shim_rows", rows, column_names=["number", "text"])
    assert summary.written_rows == 10_000
    assert client.query("SELECT count(), sum(number) FROM shim_rows").result_rows == [(10_000, sum(range(10_000)))]


def test_settings_do_not_leak_into_the_next_statement(client: Client) -> None:
    query = "SELECT value FROM system.settings WHERE name = 'max_threads'"
    assert client.query(query, settings={"max_threads": 3}).result_rows == [("3",)]
    assert client.query(query).result_rows != [("3",)]


def test_an_error_has_clickhouses_code(client: Client) -> None:
    with pytest.raises(DatabaseError, match="UNKNOWN_TABLE") as caught:
        client.command("SELECT 1 FROM no_such_table")
    assert caught.value.code == 60


def test_a_truncated_body_is_an_error() -> None:
    frames = lz4.frame.compress(b"first") + lz4.frame.compress(b"second")
    assert decompress(frames, "lz4") == b"firstsecond"
    with pytest.raises(ValueError, match="ends too early"):
        decompress(frames[:-6], "lz4")


def test_the_shim_restarts_on_the_same_port_with_its_data(tmp_path: Path) -> None:
    shim = ShimProcess(tmp_path / "clickhouse")
    shim.start()
    first = shim.url
    client = clickhouse_connect.get_client(host="127.0.0.1", port=shim.port, dedicated_pool=True)
    client.command("CREATE TABLE kept (number Int64) ENGINE = MergeTree ORDER BY number")
    shim.stop()
    shim.start()
    assert shim.url == first
    assert client.query("SELECT count() FROM kept").result_rows == [(0,)]
    client.close()
    shim.stop()
