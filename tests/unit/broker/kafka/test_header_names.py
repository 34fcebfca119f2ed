"""Records with header names that are not UTF-8: brokers accept them, but kafka-python cannot read the batch."""

from __future__ import annotations

from typing import Any

import pytest
from kafka.errors import CorruptRecordError
from kafka.record import memory_records
from kafka.record.default_records import DefaultRecordBatch
from kafka.record.memory_records import MemoryRecords, MemoryRecordsBuilder

from pipeline.broker.kafka.compat import Speedups

LATIN = "größe---xß".encode("latin-1")


@pytest.fixture(autouse=True)
def _as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_records, "DefaultRecordBatch", DefaultRecordBatch)


def batch_with_broken_names() -> bytes:
    """Return three records. In the second one, the names of two headers are not UTF-8; its key and value have the same bytes."""
    builder = MemoryRecordsBuilder(magic=2, compression_type=0, batch_size=10_000)
    name, headers = b"name-of-it", [("name-of-it", b"1"), ("größe", None), ("name-of-it", b"name-of-it")]
    builder.append(timestamp=1, key=None, value=b"first", headers=[])
    builder.append(timestamp=2, key=name, value=name, headers=headers)
    builder.append(timestamp=3, key=b"k", value=None, headers=[("größe", b"\xff")])
    builder.close()
    return bytes(builder.buffer()).replace(name, LATIN)


def read(batch: bytes) -> list[tuple[Any, Any, Any]]:
    return [(record.key, record.value, record.headers) for record in MemoryRecords(batch).next_batch()]


def test_invalid_header_names_are_read_with_question_marks() -> None:
    Speedups()
    assert read(batch_with_broken_names()) == [
        (None, b"first", []),
        (LATIN, LATIN, [("gr??e---x?", b"1"), ("größe", None), ("gr??e---x?", LATIN)]),
        (b"k", None, [("größe", b"\xff")]),
    ]


def test_other_faults_of_a_batch_are_errors() -> None:
    Speedups()
    with pytest.raises(CorruptRecordError, match="IndexError"):
        read(batch_with_broken_names().replace(b"\x02k\x01\x02", b"\x02k\x01\x04"))  # two headers instead of one


def test_without_speed_ups_such_a_batch_is_an_error() -> None:
    """If a new version of kafka-python can read it, this hook can be removed."""
    with pytest.raises(CorruptRecordError, match="UnicodeDecodeError"):
        read(batch_with_broken_names())
