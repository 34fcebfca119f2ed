"""Failed statements are counted by what can be done about them."""

from __future__ import annotations

import pytest
from clickhouse_connect.driver.exceptions import DatabaseError

from pipeline.ops import metrics
from pipeline.ops.settings import Settings
from pipeline.store.connection import Connections
from pipeline.store.errors import StoreError


@pytest.mark.parametrize(
    ("error", "searching", "kind"),
    [
        (DatabaseError("Code: 210. DB::Exception: Network error", code=210), False, "unavailable"),
        (DatabaseError("Code: 241. DB::Exception: Memory limit", code=241), False, "unavailable"),
        (DatabaseError("Code: 241. DB::Exception: Memory limit", code=241), True, "budget"),
        (DatabaseError("Code: 60. DB::Exception: Unknown table", code=60), False, "rejected"),
        (DatabaseError("Code: 469. DB::Exception: Constraint violated", code=469), False, "rejected"),
        (FileNotFoundError(2, "No such file or directory"), False, "unavailable"),
    ],
)
def test_a_failed_statement_is_counted(error: Exception, searching: bool, kind: str) -> None:
    def fail() -> None:
        raise error

    counter = metrics.STORE_ERRORS.labels(kind)
    before = counter._value.get()
    with pytest.raises(StoreError):
        Connections(Settings(_env_file=None, clickhouse_url="http://127.0.0.1:1"))._translated(fail, searching=searching)
    assert counter._value.get() == before + 1
