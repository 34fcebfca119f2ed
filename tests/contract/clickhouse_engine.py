"""The engine behind the shim: statements as they come over HTTP, carried out by chDB."""

from __future__ import annotations

import gzip
import re
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import chdb
import lz4.frame

if sys.version_info >= (3, 14):
    from compression.zstd import ZstdDecompressor
else:
    from backports.zstd import ZstdDecompressor

INSERT = re.compile(rb"^\s*(INSERT\s+INTO\s+.+?)\s+FORMAT\s+(\w+)\s*?\n", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True)
class Statement:
    """One request, taken apart."""

    sql: bytes
    database: str
    settings: Mapping[str, str]
    parameters: Mapping[str, str]


@dataclass(frozen=True)
class Answer:
    body: bytes
    rows_read: int
    bytes_read: int


class Engine:
    """The engine; each statement has a connection of its own, so that settings never leak from one into another."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._keep_open = connect(path)

    def execute(self, statement: Statement) -> Answer:
        connection = connect(self._path)
        try:
            if statement.database:
                connection.query(f"USE `{statement.database}`")
            for name, value in statement.settings.items():
                connection.query(f"SET {name} = {quoted(value)}")
            if match := INSERT.match(statement.sql):
                return insert(connection, match[1].decode(), match[2].decode(), statement.sql[match.end() :])
            result = connection.query(statement.sql.decode(), "TabSeparated", params=dict(statement.parameters))
            return Answer(result.bytes() or b"", result.rows_read(), result.bytes_read())
        finally:
            connection.close()

    def close(self) -> None:
        self._keep_open.close()


def connect(path: str) -> Any:
    return chdb.connect(path)  # type: ignore[no-untyped-call]


def insert(connection: Any, into: str, form: str, data: bytes) -> Answer:
    with tempfile.NamedTemporaryFile(suffix=".insert") as file:
        file.write(data)
        file.flush()
        result = connection.query(f"{into} FROM INFILE {quoted(file.name)} FORMAT {form}", "TabSeparated")
        return Answer(b"", result.rows_read(), result.bytes_read())


def quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def decompress(data: bytes, encoding: str) -> bytes:
    """The whole body: the client sends a frame a block, one behind the other."""
    match encoding:
        case "" | "identity":
            return data
        case "gzip":
            return gzip.decompress(data)
        case "lz4":
            new = lz4.frame.LZ4FrameDecompressor
        case "zstd":
            new = ZstdDecompressor
        case _:
            raise ValueError(f"Content-Encoding {encoding} is not supported by the shim")
    parts = []
    while data:
        decompressor = new()
        parts.append(decompressor.decompress(data))
        if not decompressor.eof:
            raise ValueError("The compressed body ends too early")
        data = decompressor.unused_data or b""
    return b"".join(parts)
