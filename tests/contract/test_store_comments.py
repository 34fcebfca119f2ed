"""Every table, view and column has a comment, also in a store created by an older release.

All migrations from the first on take seconds.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from pipeline.ops.settings import Settings
from pipeline.store.comment_texts import COLUMNS, SHARED, TABLES
from pipeline.store.comments import column_comment
from pipeline.store.connection import Connections
from pipeline.store.migrate import bundled_migrations, migrate
from pipeline.store.search.queries import Search
from pipeline.store.writer import Writer
from tests.contract.store_case import Store

SILENT_COLUMNS = "SELECT table, name FROM system.columns WHERE database = currentDatabase() AND comment = ''"
SILENT_TABLES = "SELECT name FROM system.tables WHERE database = currentDatabase() AND comment = ''"


@pytest.fixture(params=["new", pytest.param("upgraded", marks=pytest.mark.slow)])
async def either(request: pytest.FixtureRequest, store_settings: Settings) -> AsyncIterator[Store]:
    connections = Connections(store_settings)
    try:
        if request.param == "upgraded":
            await migrate(connections, {name: sql for name, sql in bundled_migrations().items() if name < "0017"})
        await migrate(connections)
        yield Store(store_settings, connections, Writer(connections), Search(connections))
    finally:
        await connections.close()


async def test_nothing_lacks_a_comment(either: Store) -> None:
    """A new column needs a text in pipeline/store/comment_texts.py, or COMMENT in its migration."""
    assert await either.rows(SILENT_COLUMNS) == []
    assert await either.rows(SILENT_TABLES) == []


async def test_a_changed_text_is_set_at_the_next_start(store: Store) -> None:
    await store.command("ALTER TABLE attempt_history COMMENT COLUMN state 'out of date', MODIFY COMMENT ''")
    await migrate(store.connections)
    query = (
        "SELECT comment FROM system.columns WHERE database = currentDatabase() AND table = 'attempt_history' AND name = 'state'"
    )
    assert await store.rows(query) == [(SHARED["state"],)]
    assert await store.rows(SILENT_TABLES) == []


async def test_every_text_belongs_to_something(store: Store) -> None:
    there = await store.rows("SELECT table, name FROM system.columns WHERE database = currentDatabase()")
    assert {table for table, _ in there} >= TABLES.keys()
    # The feed has some columns of its target, as materialized views require.
    written = {(table, column) for table, columns in COLUMNS.items() for column in columns if table != "attempts_hourly_feed"}
    assert not written - set(there)
    assert not SHARED.keys() - {column for _, column in there}
    assert column_comment("somebody_elses", "id") == ""
