"""ClickHouse's HTTP interface in front of the engine in process (chDB), for tests only; it can be made to fail.

With it, the production client talks HTTP to the real engine where no server can be installed. It understands what
clickhouse-connect sends: statements in the body or in ``query``, ``param_*``, forms, settings, Native inserts with compressed
bodies, ``/ping``. It always runs in its own process, because an engine opens one directory:

    python -m tests.contract.clickhouse_shim --port 8123 --path var/clickhouse
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import signal
import subprocess
import sys
import urllib.request
from base64 import b64decode
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

from aiohttp import web

from tests.contract.clickhouse_engine import INSERT, Engine, Statement, decompress
from tests.contract.clickhouse_faults import Fault, FaultKind, Faults
from tests.ready_pipe import is_readable

ROOT = Path(__file__).resolve().parents[2]

# Parameters of a request that are not settings of the statement.
TRANSPORT = {
    *("query", "database", "user", "password", "default_format", "query_id", "session_id", "session_timeout", "session_check"),
    *("compress", "decompress", "enable_http_compression", "wait_end_of_query", "client_protocol_version", "buffer_size", "role"),
    *("send_progress_in_http_headers", "http_headers_progress_interval_ms", "quota_key"),
    "cancel_http_readonly_queries_on_client_close",
}
RESULT = re.compile(r"^\s*(SELECT|WITH|SHOW|DESCRIBE|DESC|EXISTS|EXPLAIN)\b", re.IGNORECASE)
CODE = re.compile(r"Code:\s*(\d+)")
AUTHENTICATION_FAILED = 516
# Like a server's: several lines, of which the first is enough.
REFUSED_LOGIN = """Authentication failed: password is incorrect, or there is no user with such name.

If you have installed ClickHouse and forgot password you can reset it in the configuration file.
The password for default user is typically located at /etc/clickhouse-server/users.d/default-password.xml
and deleting this file will reset the password.
See also /etc/clickhouse-server/users.xml on the server where ClickHouse is installed.

. (AUTHENTICATION_FAILED) (version 26.3.1.1 (official build))"""


class Shim:
    """The HTTP interface."""

    def __init__(self, engine: Engine, password: str) -> None:
        self._engine = engine
        self._password = password
        self._threads = ThreadPoolExecutor(4)
        self._faults = Faults()
        self._late: set[asyncio.Task[Any]] = set()

    def application(self) -> web.Application:
        application = web.Application(client_max_size=512 * 1024**2)
        application.router.add_get("/ping", self._ping)
        application.router.add_post("/__fault", self._set_fault)
        application.router.add_get("/__idle", self._idle)
        application.router.add_get("/__late", self._count_late)
        application.router.add_route("*", "/", self._handle)
        return application

    async def _ping(self, _: web.Request) -> web.Response:
        return web.Response(text="Ok.\n")

    async def _set_fault(self, request: web.Request) -> web.Response:
        fault = await request.json()
        self._faults = Faults([Fault(**fault)] if fault else [])
        return web.Response()

    async def _idle(self, _: web.Request) -> web.Response:
        await asyncio.gather(*self._late)
        return web.Response()

    async def _count_late(self, _: web.Request) -> web.Response:
        return web.Response(text=str(len(self._late)))

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        if not self._is_authorized(request):
            return failure(AUTHENTICATION_FAILED, f"{_credentials(request)[0]}: {REFUSED_LOGIN}")
        try:
            statement = await read(request)
        except ValueError as error:
            return failure(27, f"{error}. (CANNOT_PARSE_INPUT_ASSERTION_FAILED)")
        fault = self._faults.next(statement)
        if fault is None:
            return await self._answer(statement)
        return await self._fail(request, statement, fault)

    async def _fail(self, request: web.Request, statement: Statement, fault: Fault) -> web.StreamResponse:
        unavailable = web.Response(status=503, text="Service Unavailable")
        match FaultKind(fault.kind):
            case FaultKind.UNAVAILABLE:
                return unavailable
            case FaultKind.UNAVAILABLE_AFTER:
                await self._answer(statement)
                return unavailable
            case FaultKind.REFUSED:
                code = CODE.match(fault.text)
                headers = {"X-ClickHouse-Exception-Code": code[1]} if code else {}
                return web.Response(status=fault.status, text=fault.text, headers=headers)
            case FaultKind.SLOW:
                return await asyncio.shield(self._later(statement, fault.seconds))
            case FaultKind.LATE:
                self._later(statement, fault.seconds)
                return unavailable
            case FaultKind.LOST:
                await self._answer(statement)
        if request.transport is not None:
            request.transport.abort()
        return unavailable

    def _later(self, statement: Statement, seconds: float) -> asyncio.Task[web.Response]:
        async def answer() -> web.Response:
            await asyncio.sleep(seconds)
            return await self._answer(statement)

        task = asyncio.create_task(answer())
        self._late.add(task)
        task.add_done_callback(self._late.discard)
        return task

    async def _answer(self, statement: Statement) -> web.Response:
        try:
            answer = await asyncio.get_running_loop().run_in_executor(self._threads, self._engine.execute, statement)
        except RuntimeError as error:
            text = str(error)
            code = CODE.search(text)
            return failure(int(code[1]) if code else 1001, text)
        read_or_written = "written" if INSERT.match(statement.sql) else "read"
        summary = {f"{read_or_written}_rows": str(answer.rows_read), f"{read_or_written}_bytes": str(answer.bytes_read)}
        headers = {"X-ClickHouse-Summary": json.dumps(summary), "X-ClickHouse-Timezone": "UTC"}
        if RESULT.match(statement.sql.decode("utf-8", "replace")):
            headers["X-ClickHouse-Format"] = "TabSeparated"
        return web.Response(body=answer.body, headers=headers)

    def _is_authorized(self, request: web.Request) -> bool:
        if not self._password:
            return True
        return _credentials(request)[1] == self._password


def _credentials(request: web.Request) -> tuple[str, str]:
    kind, _, credentials = request.headers.get("Authorization", "").partition(" ")
    user, _, password = b64decode(credentials).decode().partition(":") if kind == "Basic" else ("default", "", "")
    return user, password


async def read(request: web.Request) -> Statement:
    """Parse a request.

    Raises:
        ValueError: the body cannot be decompressed.
    """
    values = dict(request.query)
    sql = values.get("query", "").encode()
    if request.content_type == "multipart/form-data":
        values.update({name: value for name, value in (await request.post()).items() if isinstance(value, str)})
        sql = values.get("query", "").encode()
    elif body := decompress(await request.read(), request.headers.get("Content-Encoding", "")):
        sql = sql + b"\n" + body if sql else body
    return Statement(
        sql=sql,
        database=values.get("database", ""),
        settings={name: value for name, value in values.items() if name not in TRANSPORT and not name.startswith("param_")},
        parameters={name.removeprefix("param_"): value for name, value in values.items() if name.startswith("param_")},
    )


def failure(code: int, text: str) -> web.Response:
    start = text.find("Code: ")
    body = text[start:] if start >= 0 else f"Code: {code}. DB::Exception: {text}"
    status = {60: 404, 81: 404, AUTHENTICATION_FAILED: 403}.get(code, 500)
    return web.Response(status=status, text=body, headers={"X-ClickHouse-Exception-Code": str(code)})


async def serve(engine: Engine, port: int, password: str, *, until_stdin_closes: bool) -> None:
    """Serve until SIGTERM, or until the parent process is gone."""
    # Bodies stay compressed: aiohttp would decompress only one frame.
    runner = web.AppRunner(Shim(engine, password).application(), auto_decompress=False, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port, shutdown_timeout=1)
    await site.start()
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    if until_stdin_closes:
        loop.add_reader(sys.stdin, stopped.set)
    print(runner.addresses[0][1], flush=True)
    await stopped.wait()
    await runner.cleanup()
    engine.close()


class ShimProcess:
    """The shim for tests: they start it, make it fail, stop it, kill it, and start it again with the same port and directory."""

    def __init__(self, path: Path, password: str = "", cluster: str = "") -> None:
        """``cluster`` is the name of a cluster with only this node."""
        self.path = path
        self.cluster = cluster
        self.grants: Sequence[str] = ()
        """The user's only rights after the next start; all rights if empty."""
        self.port = 0
        self._password = password
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Return the value for the setting clickhouse_url."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """Return the id of its process."""
        assert self._process is not None, "the shim is not running"
        return self._process.pid

    def start(self) -> None:
        """Start, and wait until it listens."""
        arguments = ["--port", str(self.port), "--path", str(self.path), "--password", self._password, "--cluster", self.cluster]
        arguments += [part for grant in self.grants for part in ("--grant", grant)]
        command = [sys.executable, "-m", "tests.contract.clickhouse_shim", *arguments, "--until-stdin-closes"]
        self._process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        line = self._process.stdout.readline() if is_readable(self._process.stdout, 180) else b""
        if not line:
            self.kill()
            raise RuntimeError("The ClickHouse shim did not start; what it wrote to stderr says why")
        self.port = int(line)

    def fail(self, kind: FaultKind, matching: str = "INSERT INTO", times: int = 1, seconds: float = 0.0) -> None:
        """Make the next statements fail."""
        self._set(asdict(Fault(kind.value, matching, times, seconds)))

    def refuse(self, text: str, *, status: int = 500, over_bytes: int = 0) -> None:
        """Refuse all larger inserts with this answer, until :meth:`recover`."""
        fault = Fault(FaultKind.REFUSED.value, times=1_000_000_000, over_bytes=over_bytes, status=status, text=text)
        self._set(asdict(fault))

    def recover(self) -> None:
        """End all faults."""
        self._set({})

    def stop(self) -> None:
        """Stop in order; after that, connections are refused."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Kill the process (SIGKILL)."""
        self._end(signal.SIGKILL)

    def wait_until_idle(self) -> None:
        """Wait until all slow and late statements were executed."""
        self._request("/__idle", None)

    def count_late(self) -> int:
        """Return how many slow and late statements are still to be executed."""
        return int(self._request("/__late", None))

    def _set(self, fault: dict[str, Any]) -> None:
        self._request("/__fault", json.dumps(fault).encode())

    def _request(self, path: str, data: bytes | None) -> bytes:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(urllib.request.Request(self.url + path, data), timeout=120) as response:
            body: bytes = response.read()
            return body

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(number)
        process.wait(30)
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                stream.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8123, help="0: any")
    parser.add_argument("--path", required=True)
    parser.add_argument("--password", default="")
    parser.add_argument("--cluster", default="")
    parser.add_argument("--grant", action="append", default=[], help="all that the user may do: GRANT … ON …")
    parser.add_argument("--until-stdin-closes", action="store_true")
    options = parser.parse_args()
    engine = Engine(options.path, options.cluster, options.grant)
    asyncio.run(serve(engine, options.port, options.password, until_stdin_closes=options.until_stdin_closes))


if __name__ == "__main__":
    main()
