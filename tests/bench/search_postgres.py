"""The search of a Rails application: one table with the body in each row, ILIKE, and then with a pg_trgm GIN index."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path

POSTGRES_COLUMNS = (
    *("id", "event_id", "event_name", "order_number", "endpoint_id", "target_url", "attempt", "state", "outcome", "created_at"),
    *("duration_ms", "http_status_code", "error", "request_headers", "response_body", "request_body"),
)
TABLE = """
CREATE EXTENSION pg_trgm;
CREATE TABLE attempts (
    id bigint PRIMARY KEY, event_id text, event_name text, order_number text, endpoint_id bigint, target_url text, attempt int,
    state text, outcome text, created_at timestamptz, duration_ms float8, http_status_code int, error text,
    request_headers text, response_body text, request_body text);
CREATE INDEX attempts_created_at ON attempts (created_at);
"""
SHOWN = "id, event_id, event_name, order_number, endpoint_id, target_url, attempt, state, outcome, created_at, duration_ms, http_status_code, error"


def binaries() -> Path | None:
    """Return Debian's directory of PostgreSQL's programs, if it is installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return found[-1].parent if found else None


class Postgres:
    """A server with a temporary directory and a loopback port. If we are root it runs as the user postgres, as it refuses to run as root."""

    def __init__(self, programs: Path) -> None:
        self._programs = programs
        self._directory = Path(tempfile.mkdtemp(prefix="oms-webhooks-bench-postgres-"))
        self._user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        if self._user:
            shutil.chown(self._directory, pwd.getpwnam("postgres").pw_uid)
        with socket.create_server(("127.0.0.1", 0)) as one:
            self.port = one.getsockname()[1]

    def __enter__(self) -> Postgres:
        data = str(self._directory / "data")
        self._run("initdb", "-D", data, "-A", "trust", "-U", "bench", "-E", "UTF8", "--locale=C.UTF-8")
        # A quarter of the memory, as its manual advises, but at least what it can use to build an index.
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20
        given = f"-c shared_buffers={memory // 4}MB -c maintenance_work_mem={memory // 12}MB -c max_wal_size=8GB"
        options = f"-p {self.port} -h 127.0.0.1 -k {self._directory} {given}"
        self._run("pg_ctl", "-D", data, "-l", str(self._directory / "log"), "-o", options, "-w", "start")
        self.sql(TABLE)
        return self

    def __exit__(self, *_: object) -> None:
        self._run("pg_ctl", "-D", str(self._directory / "data"), "-m", "immediate", "stop")
        shutil.rmtree(self._directory)

    def _run(self, program: str, *arguments: str) -> None:
        command = [*self._user, str(self._programs / program), *arguments]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/")

    def sql(self, text: str) -> str:
        """Return what psql prints."""
        command = [
            "psql",
            "-X",
            "-q",
            "-A",
            "-t",
            "-v",
            "ON_ERROR_STOP=1",
            "-h",
            "127.0.0.1",
            "-p",
            str(self.port),
            "-U",
            "bench",
            "postgres",
        ]
        return subprocess.run(command, input=text, check=True, capture_output=True, text=True, cwd="/").stdout

    def copy(self, rows: Iterable[Sequence[object]]) -> float:
        """Load rows; returns the seconds that it took."""
        lines = "".join("\t".join(map(_field, row)) + "\n" for row in rows)
        started = time.perf_counter()
        self.sql(f"COPY attempts FROM STDIN;\n{lines}\\.\n")
        return time.perf_counter() - started

    def insert(self, rows: Iterable[Sequence[object]]) -> float:
        """Load rows like an application: each with its own committed INSERT; returns the seconds."""
        names = ", ".join(POSTGRES_COLUMNS)
        lines = "".join(f"INSERT INTO attempts ({names}) VALUES ({', '.join(map(_literal, row))});\n" for row in rows)
        started = time.perf_counter()
        self.sql(lines)
        return time.perf_counter() - started

    def seconds(self, statement: str) -> float:
        """Return how long a statement takes, by psql's own clock."""
        took = re.findall(r"Time: ([0-9.]+) ms", self.sql(f"\\timing on\n{statement};\n"))
        return float(took[-1]) / 1000

    def search(self, needle: str, since: datetime, at_most: float) -> tuple[float, float]:
        """Return the seconds for the newest page and for the count; ``at_most`` if one takes longer."""
        escaped = needle.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_").replace("'", "''")
        found = f"FROM attempts WHERE request_body ILIKE '%{escaped}%' AND created_at >= '{since.isoformat()}'"
        page = self._at_most(f"SELECT {SHOWN} {found} ORDER BY created_at DESC, id DESC LIMIT 25", at_most)
        return page, self._at_most(f"SELECT count(*) {found}", at_most)

    def _at_most(self, query: str, seconds: float) -> float:
        try:
            return self.seconds(f"SET statement_timeout = {seconds * 1000:.0f};\n{query}")
        except subprocess.CalledProcessError as error:
            if "statement timeout" in error.stderr:
                return seconds
            raise

    def size(self) -> int:
        """Return the bytes on disk: table, TOAST and indexes."""
        return int(self.sql("SELECT pg_total_relation_size('attempts')").strip())


def _field(value: object) -> str:
    if value is None:
        return "\\N"
    return str(value).replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")


def _literal(value: object) -> str:
    return "NULL" if value is None else "'" + str(value).replace("'", "''") + "'"
