"""No answer can harm the sender: its time and memory are bounded, the attempt has a clear error, and nothing stays open.

The receivers are in `hostile_receivers`. Each is tested once in detail, and 50 times in parallel by a process that is measured.

Most tests take a second or more, until the time limit ends a request to a receiver that never stops.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from pipeline.core.exchange import Exchange, Failure, NoResponse, Request, Response
from pipeline.core.outcome import judge
from pipeline.core.retry import RetrySchedule
from pipeline.delivery.records import attempt_record
from pipeline.sender.client import Sender
from pipeline.sender.limits import SenderLimits
from schemas.attempt import AttemptState
from schemas.codec import to_json
from tests.contract.hostile_receivers import COSTLY, RECEIVERS, Receiver
from tests.contract.http_endpoint import (
    EMPTY_OK,
    LOOPBACK,
    OK,
    PATIENT,
    answered,
    answering,
    exchanged,
    failed,
    post,
    read_request,
    serving,
)
from tests.contract.sender_process import LIMITS, PARALLEL, Run
from tests.contract.store_records import START
from tests.unit.delivery.results import result_of

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("each_wire")]

IMPATIENT = SenderLimits(connections=8, total_timeout=1.5, connect_timeout=1.0)
TIMEOUTS = (Failure.TIMEOUT, Failure.CONNECT_TIMEOUT)
MIB = 1 << 20
MEMORY_BOUND = 64 * MIB
"""For 50 parallel exchanges: little more than 1 MiB each, whatever the endpoint does and however large the request is."""


class Certificates:
    """An authority that the sender trusts, and server contexts that it should and should not accept."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._authority = trustme.CA()
        self.authority_file = directory / "authority.pem"
        self._authority.cert_pem.write_to_path(str(self.authority_file))
        self.trust = ssl.create_default_context(cafile=str(self.authority_file))

    def server(self, kind: str) -> ssl.SSLContext | None:
        if kind == "none":
            return None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        if kind == "self-signed":
            context.load_cert_chain(self._self_signed())
            return context
        authority = trustme.CA() if kind == "untrusted" else self._authority
        host = "hooks.example.com" if kind == "wrong-host" else "127.0.0.1"
        not_after = dt.datetime(2020, 1, 1, tzinfo=dt.UTC) if kind == "expired" else None
        authority.issue_cert(host, not_after=not_after).configure_cert(context)
        return context

    def _self_signed(self) -> Path:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
        now = dt.datetime.now(dt.UTC)
        builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        builder = builder.not_valid_before(now - dt.timedelta(days=1)).not_valid_after(now + dt.timedelta(days=1))
        names = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
        certificate = builder.add_extension(names, critical=False).sign(key, hashes.SHA256())
        path = self._directory / "self-signed.pem"
        encoding, plain = serialization.Encoding.PEM, serialization.NoEncryption()
        path.write_bytes(
            key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, plain) + certificate.public_bytes(encoding)
        )
        return path


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


class SenderProcess:
    """A running `sender_process`."""

    def __init__(self, authority_file: Path, wire: str) -> None:
        command = [sys.executable, "-m", "tests.contract.sender_process", str(authority_file), wire]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)

    def run(self, url: str, body_bytes: int) -> Run:
        """Send 50 requests in parallel. Blocks."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps({"url": url, "body_bytes": body_bytes}) + "\n")
        return Run(**json.loads(self._process.stdout.readline()))

    def close(self) -> int:
        self._process.communicate(timeout=120)
        return self._process.returncode


@pytest.fixture(scope="module")
def sender_processes(certificates: Certificates) -> Iterator[Callable[[str], SenderProcess]]:
    """Provide one for each wire, started on demand."""
    started: dict[str, SenderProcess] = {}

    def process_of(wire: str) -> SenderProcess:
        if wire not in started:
            started[wire] = SenderProcess(certificates.authority_file, wire)
        return started[wire]

    yield process_of
    assert not any(process.close() for process in started.values())


def attempt_of(exchange: Exchange) -> Any:
    """Return the attempt's record, as it is written to Kafka."""
    verdict = judge(exchange, 1, RetrySchedule([dt.timedelta(seconds=5)]), START)
    record = attempt_record(result_of(exchange, verdict, finished_at=START))
    assert len(to_json(record)) < 200_000
    return record


def may_be_used_again(name: str, exchange: Exchange) -> bool:
    complete = isinstance(exchange, Response) and not exchange.body_truncated and exchange.status != 101
    return complete and not name.startswith("endless")


PLAINLY = {
    "endless blank lines": (Failure.TIMEOUT, None),
    "endless chunk extension": (Failure.TIMEOUT, 200),
    "endless chunk extensions": (None, 200),
    "endless interim answers": (Failure.TIMEOUT, None),
    "endless interim answers with long heads": (Failure.TIMEOUT, None),
}
"""Receivers that only time bounds when aiohttp's public API sends: the failure, and the status."""


def receiver_of(name: str, wire: str) -> Receiver:
    receiver = RECEIVERS[name]
    if wire == "plain" and name in PLAINLY:
        failure, status = PLAINLY[name]
        return replace(receiver, failure=failure, status=status, words="")
    return receiver


@pytest.mark.parametrize("name", RECEIVERS)
async def test_each_receiver_costs_little_time_and_leaves_a_clear_error(
    name: str, each_wire: str, certificates: Certificates
) -> None:
    receiver = receiver_of(name, each_wire)
    # An attempt that does not time out ends long before the timeout, on a busy machine too.
    limits = IMPATIENT if receiver.failure in TIMEOUTS else PATIENT
    async with (
        serving(receiver.behave, certificates.server(receiver.tls)) as endpoint,
        Sender(limits, LOOPBACK, ssl_context=certificates.trust) as sender,
    ):
        url = f"{receiver.scheme}://127.0.0.1:{endpoint.port}/hook?key=hush"
        outcome = exchanged(await sender.post(Request(url, {"Authorization": "Bearer hush"}, bytes(receiver.body_bytes))))
        if endpoint.connections and not may_be_used_again(name, outcome):
            await endpoint.until_hung_up()
    _check_outcome(outcome, receiver)
    record = attempt_of(outcome)
    if record.state is AttemptState.FAILED:
        assert record.error.endswith(".")
        assert record.error.isprintable()
        assert "hush" not in record.error
    assert record.failure == (receiver.failure and receiver.failure.value)


def _check_outcome(outcome: Exchange, receiver: Receiver) -> None:
    # Ten seconds above the bound, for a busy machine.
    assert outcome.duration_ms < IMPATIENT.total_timeout * 1000 + 10_000
    assert len(outcome.body) <= IMPATIENT.response_bytes
    if receiver.failure is None:
        answered(outcome, receiver.status or 200)
        return
    assert failed(outcome, receiver.failure, receiver.words).status == receiver.status
    if receiver.failure in TIMEOUTS:
        # Timers have a resolution of one millisecond, and may fire that early.
        assert outcome.duration_ms >= IMPATIENT.connect_timeout * 1000 - 2


@pytest.mark.parametrize("name", COSTLY)
async def test_fifty_attempts_cost_little_memory(
    name: str, each_wire: str, certificates: Certificates, sender_processes: Callable[[str], SenderProcess]
) -> None:
    receiver, sender_process = receiver_of(name, each_wire), sender_processes(each_wire)
    async with serving(receiver.behave, certificates.server(receiver.tls)) as endpoint:
        url = f"{receiver.scheme}://127.0.0.1:{endpoint.port}/"
        run = await asyncio.to_thread(sender_process.run, url, receiver.body_bytes)
    # aiohttp parses all heads that arrive together: a hundred in 8 KiB, each with its headers.
    bound = 3 * MEMORY_BOUND if each_wire == "plain" else MEMORY_BOUND
    assert run.growth_bytes < bound, f"{run.growth_bytes / MIB:.0f} MiB"
    assert run.sockets == 0
    assert run.seconds < LIMITS.total_timeout + 20  # a busy machine is slow; an endless answer would take forever
    assert len(run.outcomes) == PARALLEL
    if receiver.failure is None:
        # A busy machine may miss some of them; nothing else may fail.
        assert {status for failure, status in run.outcomes if failure not in TIMEOUTS} <= {receiver.status}, run.outcomes
    else:
        assert all(failure for failure, _ in run.outcomes)


# Between requests

only_fast = pytest.mark.parametrize("each_wire", ["fast"], indirect=True)
"""aiohttp's public API cannot see data on an idle connection; see `pipeline.sender.session_transport`."""


@only_fast
async def test_unrequested_answers_close_an_idle_connection() -> None:
    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(EMPTY_OK)
        await writer.drain()
        while True:
            await asyncio.sleep(0.02)
            writer.write(EMPTY_OK * 1000)
            await writer.drain()

    async with serving(flood) as endpoint, Sender(PATIENT, LOOPBACK) as sender:
        for number in range(1, 4):
            answered(await sender.post(Request(endpoint.url(), {}, b"{}")))
            await endpoint.until_hung_up()
            assert endpoint.connections == number


@only_fast
@pytest.mark.parametrize("unasked", [b"x", b"\r\n", EMPTY_OK, b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 408 Slow\r\n\r\n"])
async def test_one_unrequested_byte_is_enough(unasked: bytes) -> None:
    is_over = asyncio.Event()

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(EMPTY_OK)
        await is_over.wait()
        writer.write(unasked)

    async with serving(behave) as endpoint, Sender(PATIENT, LOOPBACK) as sender:
        answered(await sender.post(Request(endpoint.url(), {}, b"{}")))
        is_over.set()
        await endpoint.until_hung_up()


async def test_longest_allowed_head_is_read() -> None:
    head = b"".join(b"X-%02d: %s\r\n" % (number, b"y" * 8100) for number in range(25))
    body = b"x" * PATIENT.response_bytes
    chunks = b"".join(b"1\r\nx\r\n" for _ in body)
    outcome = await post_answer(OK + head + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n")
    assert answered(outcome).body == body
    assert not answered(outcome).body_truncated


async def post_answer(answer: bytes) -> Exchange:
    async with serving(answering(answer)) as endpoint:
        return exchanged(await post(endpoint.url()))


async def test_large_request_answered_early_and_reset() -> None:
    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    async with serving(behave) as endpoint, Sender(PATIENT, LOOPBACK) as sender:
        for _ in range(3):
            outcome = await sender.post(Request(endpoint.url(), {}, bytes(5 * MIB)))
            # A reset may overtake the answer; the result must not be a timeout.
            if isinstance(outcome, NoResponse):
                assert outcome.failure is Failure.CONNECTION_RESET
            else:
                answered(outcome, 413)
            await endpoint.until_hung_up()
