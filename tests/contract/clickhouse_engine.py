"""The engine behind the shim: chDB executes statements that arrive over HTTP."""

from __future__ import annotations

import gzip
import re
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
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
    """A parsed request."""

    sql: bytes
    database: str
    settings: Mapping[str, str]
    parameters: Mapping[str, str]


@dataclass(frozen=True)
class Answer:
    body: bytes
    rows_read: int
    bytes_read: int


# A cluster of one node: its only shard and replica.
CLUSTER_CONFIG = """
  <tcp_port>9000</tcp_port>
  <macros><shard>01</shard><replica>one</replica></macros>
  <remote_servers><{name}><shard>
    <internal_replication>true</internal_replication><replica><host>127.0.0.1</host><port>9000</port></replica>
  </shard></{name}></remote_servers>
"""
# The engine in process has one user; these are its only rights.
USERS = """
<clickhouse>
  <profiles><default/></profiles><quotas><default/></quotas>
  <users><default>
    <no_password/><networks><ip>::/0</ip></networks><profile>default</profile><quota>default</quota>
    <grants>{grants}</grants>
  </default></users>
</clickhouse>
"""
ALONE = (
    (re.compile(rb" ON CLUSTER '[\w-]+'"), b""),
    (re.compile(rb"ENGINE = Replicated(\w*MergeTree)\('[^']+', '[^']+'(?:, )?([^)]*)\)"), rb"ENGINE = \1(\2)"),
    (re.compile(rb",\s*replicated_deduplication_window_seconds = \d+"), b""),
    (re.compile(rb"\breplicated_deduplication_window ="), b"non_replicated_deduplication_window ="),
)
"""Converts statements for a cluster to a node without Keeper: the engine in process cannot replicate. Everything else of a cluster
(``Distributed``, sharding keys, forwarded inserts with their tokens, global subqueries) is unchanged."""

NO_NETWORK = frozenset({"prefer_localhost_replica"})
"""Settings with which it would contact its own shard on a port on which it does not listen."""


class Engine:
    """The engine. Each statement has its own connection, so that settings never leak into another."""

    def __init__(self, path: str, cluster: str = "", grants: Sequence[str] = ()) -> None:
        """``cluster`` is the name of a cluster with only this node; ``grants`` (``GRANT … ON …``) are the user's only rights."""
        self._path, self._is_alone = path, bool(cluster)
        if cluster or grants:
            self._path += f"?config-file={configured(Path(path), cluster, grants)}"
        self._keep_open = connect(self._path)

    def execute(self, statement: Statement) -> Answer:
        connection = connect(self._path)
        try:
            if statement.database:
                connection.query(f"USE `{statement.database}`")
            for name, value in statement.settings.items():
                if self._is_alone and name in NO_NETWORK:
                    continue
                connection.query(f"SET {name} = {quoted(value)}")
            if match := INSERT.match(statement.sql):
                return insert(connection, match[1].decode(), match[2].decode(), statement.sql[match.end() :])
            sql = statement.sql
            for pattern, instead in ALONE if self._is_alone else ():
                sql = pattern.sub(instead, sql)
            result = connection.query(sql.decode(), "TabSeparated", params=dict(statement.parameters))
            return Answer(result.bytes() or b"", result.rows_read(), result.bytes_read())
        finally:
            connection.close()

    def close(self) -> None:
        self._keep_open.close()


def configured(path: Path, cluster: str, grants: Sequence[str]) -> Path:
    """Write the configuration next to the data."""
    path.parent.mkdir(parents=True, exist_ok=True)
    parts = [CLUSTER_CONFIG.format(name=cluster)] if cluster else []
    if grants:
        users = path.with_name("users.xml")
        users.write_text(USERS.format(grants="".join(f"<query>{grant}</query>" for grant in grants)))
        parts.append(f"<users_config>{users}</users_config>")
    config = path.with_name("engine.xml")
    config.write_text(f"<clickhouse>{''.join(parts)}</clickhouse>")
    return config


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
    """Decompress the whole body: the client sends one frame per block."""
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
