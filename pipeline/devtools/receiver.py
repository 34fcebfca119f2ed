"""A sample integrator: an endpoint that checks signatures, and acknowledges deliveries or fails as real endpoints do.

For demonstrations and tests. A real integrator would also look up every ``webhook-id`` before acting on a delivery, because a
delivery may arrive more than once.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Final, Literal

from aiohttp import web

from pipeline.core.listen_errors import listen_error
from pipeline.core.signing import ID_HEADER, SignatureError, SigningKey, verify
from pipeline.devtools.receiver_checks import ReceiverChecks
from schemas.event_key import EVENT_KEY_HEADER, EVENT_SEQUENCE_HEADER

MAX_BODY_BYTES = 32 * 1024 * 1024

Failure = Literal["status", "hang", "reset"]
Outcome = Literal["acknowledged", "refused", "bad_signature", "abandoned"]

_SHUTDOWN_S = 1.0
# Closing a socket with a linger time of 0 sends a reset instead of closing the connection in an orderly way.
_LINGER_ZERO = struct.pack("ii", 1, 0)


@dataclass(frozen=True, slots=True)
class Behaviour:
    """How the endpoint answers. By default, it acknowledges everything immediately.

    Args:
        fail_rate: the share of attempts that fail, 0 to 1, drawn from ``seed``.
        fail_first: how many attempts of each webhook-id fail before any is acknowledged.
        failure: how an attempt fails: with ``status``, without any answer, or with a connection reset.
        status: the status code of a failing answer.
        delay: seconds to wait before any answer.
    """

    fail_rate: float = 0.0
    status: int = 500
    delay: float = 0.0
    fail_first: int = 0
    failure: Failure = "status"
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse invalid values.

        Raises:
            ValueError: names the argument and its valid values.
        """
        allowed = {
            "fail_rate must be between 0 and 1": 0 <= self.fail_rate <= 1,
            "status must be between 200 and 599": 200 <= self.status <= 599,
            "delay must be 0 seconds or more": self.delay >= 0,
            "fail_first must be 0 or more": self.fail_first >= 0,
            "failure must be status, hang or reset": self.failure in ("status", "hang", "reset"),
        }
        for message, holds in allowed.items():
            if not holds:
                raise ValueError(message)


@dataclass(frozen=True, slots=True)
class Received:
    """One attempt as the endpoint saw it.

    ``attempt`` counts this webhook-id's attempts from 1; 0 if its signature was not accepted. ``status`` is the answer's status;
    None without an answer. Headers and body are not in the repr: they may contain a bearer token and customer data.
    """

    path: str
    webhook_id: str
    attempt: int
    outcome: Outcome
    status: int | None
    reason: str
    received_at: float
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)


@dataclass(slots=True)
class ReceiverCounts:
    """The counts so far. ``received`` is the sum of the four outcomes and the requests in progress.

    ``distinct`` counts the accepted webhook-ids, ``retries`` their further attempts. ``late`` counts acknowledged deliveries that
    arrived after a later event with the same event key (see :func:`is_late`).
    """

    received: int = 0
    acknowledged: int = 0
    refused: int = 0
    bad_signature: int = 0
    abandoned: int = 0
    distinct: int = 0
    retries: int = 0
    late: int = 0


@dataclass(frozen=True, slots=True)
class ReceiverLimits:
    """How much a receiver remembers: the last ``keep`` attempts with their bodies, and the newest ``max_ids`` webhook-ids."""

    keep: int = 100
    max_ids: int = 1_000_000


_USUAL_LIMITS: Final = ReceiverLimits()


class Receiver:
    """An endpoint on its own port, for POST requests of any path.

    Args:
        name: shown in its answers.
        secret: the endpoint's signing secret; None accepts everything unchecked. It may be set later.
        behaviour: how it answers; it may be changed at any time.
        on_delivery: called with every attempt, just before it is answered.
        limits: how much it remembers.
        clock: seconds since 1970.
    """

    def __init__(
        self,
        name: str,
        secret: str | None = None,
        behaviour: Behaviour | None = None,
        *,
        on_delivery: Callable[[Received], None] | None = None,
        limits: ReceiverLimits = _USUAL_LIMITS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.name = name
        self.secret = secret
        self.behaviour = behaviour or Behaviour()
        self.checks = ReceiverChecks()
        """Requirements in addition to a signature with the secret; they may be changed at any time."""
        self.counts = ReceiverCounts()
        self.deliveries: deque[Received] = deque(maxlen=limits.keep)
        self.attempts: dict[str, int] = {}
        self.acknowledgements: dict[str, int] = {}
        self.sequences: dict[str, int] = {}
        """The highest ``oms-event-sequence`` that was acknowledged, by ``oms-event-key``."""
        self._max_ids = limits.max_ids
        self._on_delivery = on_delivery
        self._clock = clock
        self._runner: web.AppRunner | None = None
        self._stopping = asyncio.Event()

    @property
    def secret(self) -> str | None:
        """The endpoint's signing secret.

        Raises:
            ValueError: the new value is not a signing secret.
        """
        return self._secret

    @secret.setter
    def secret(self, secret: str | None) -> None:
        self._keys = [SigningKey(secret)] if secret is not None else []
        self._secret = secret

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> str:
        """Listen, and return the URL to register. Port 0 chooses a free one.

        Raises:
            RuntimeError: it is already listening.
            ListenError: the address cannot be listened on, for example because the port is in use.
        """
        if self._runner is not None:
            message = f"The receiver {self.name} is listening already; stop it first."
            raise RuntimeError(message)
        self._stopping.clear()
        application = web.Application(client_max_size=MAX_BODY_BYTES)
        application.router.add_post("/{path:.*}", self._handle)
        application.router.add_options("/{path:.*}", self._handshake)
        # If the client disconnects, its handler is cancelled and counts the attempt as abandoned.
        runner = web.AppRunner(application, access_log=None, handler_cancellation=True, shutdown_timeout=_SHUTDOWN_S)
        await runner.setup()
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as error:
            await runner.cleanup()
            choose = "choose another port (--port)"
            raise listen_error(error, host, port, other_port=choose, other_host="choose another address") from error
        self._runner = runner
        address = runner.addresses[0]
        return f"http://[{host}]:{address[1]}/" if ":" in host else f"http://{host}:{address[1]}/"

    async def stop(self) -> None:
        """Close the port and every connection, including those that hang. Does nothing if it is stopped."""
        runner, self._runner = self._runner, None
        self._stopping.set()
        if runner is not None:
            await runner.cleanup()

    async def _handshake(self, request: web.Request) -> web.Response:
        """Answer a handshake, which asks whether webhooks are wanted here. It is not a delivery, and is not counted."""
        allowed = self.checks.handshake(request.headers)
        return web.Response(status=405, headers={"Allow": "POST"}) if allowed is None else web.Response(headers=allowed)

    async def _handle(self, request: web.Request) -> web.Response:
        self.counts.received += 1
        behaviour = self.behaviour
        webhook_id = request.headers.get(ID_HEADER, "")
        body, attempt = b"", 0
        try:
            body = await request.read()
            self._check(request, body)
            attempt = self._count_attempt(webhook_id)
            await asyncio.sleep(behaviour.delay)
        except SignatureError as error:
            self._note(request, body, "bad_signature", 401, reason=str(error))
            return web.Response(status=401, text=f"{self.name}: {error}\n")
        except web.HTTPRequestEntityTooLarge as error:
            self._note(request, body, "refused", error.status, reason=f"more than {MAX_BODY_BYTES:,} bytes")
            raise
        except (asyncio.CancelledError, ConnectionError):
            reason = "the receiver was stopped" if self._stopping.is_set() else "the sender closed the connection"
            self._note(request, body, "abandoned", None, reason=reason, attempt=attempt)
            raise
        if not _fails(behaviour, webhook_id, attempt):
            self._note(request, body, "acknowledged", 204, attempt=attempt)
            return web.Response(status=204)
        return await self._fail(behaviour, request, body, attempt)

    async def _fail(self, behaviour: Behaviour, request: web.Request, body: bytes, attempt: int) -> web.Response:
        status = behaviour.status if behaviour.failure == "status" else None
        self._note(request, body, "refused", status, reason=f"fails as asked: {status or behaviour.failure}", attempt=attempt)
        if status is not None:
            return web.Response(status=status, text=f"{self.name} fails as asked.\n")
        if behaviour.failure == "hang":
            # Until the sender gives up, which cancels this handler, or the receiver stops.
            await self._stopping.wait()
        _reset(request)
        # Never sent: aiohttp requires a response, and drops it if the connection is gone.
        return web.Response(status=204)

    def _check(self, request: web.Request, body: bytes) -> None:
        if self._keys:
            verify(self._keys, request.headers, body, now=int(self._clock()))
        self.checks.check(request.headers, body, self._clock)

    def _count_attempt(self, webhook_id: str) -> int:
        if not webhook_id:
            return 1
        attempt = self._count(self.attempts, webhook_id)
        if attempt == 1:
            self.counts.distinct += 1
        else:
            self.counts.retries += 1
        return attempt

    def _count(self, counts: dict[str, int], webhook_id: str) -> int:
        counts[webhook_id] = count = counts.get(webhook_id, 0) + 1
        if len(counts) > self._max_ids:
            del counts[next(iter(counts))]
        return count

    def _note(
        self,
        request: web.Request,
        body: bytes,
        outcome: Outcome,
        status: int | None,
        *,
        reason: str = "",
        attempt: int = 0,
    ) -> None:
        webhook_id = request.headers.get(ID_HEADER, "")
        setattr(self.counts, outcome, getattr(self.counts, outcome) + 1)
        if outcome == "acknowledged" and webhook_id:
            self._count(self.acknowledgements, webhook_id)
        if outcome == "acknowledged" and is_late(self.sequences, request.headers, self._max_ids):
            self.counts.late += 1
        received = Received(
            path=request.path,
            webhook_id=webhook_id,
            attempt=attempt,
            outcome=outcome,
            status=status,
            reason=reason,
            received_at=self._clock(),
            headers=request.headers,
            body=body,
        )
        self.deliveries.append(received)
        if self._on_delivery is not None:
            self._on_delivery(received)


def is_late(sequences: dict[str, int], headers: Mapping[str, str], most: int = 1_000_000) -> bool:
    """Whether a delivery is older than the latest known event of its event key. If not, it becomes the latest.

    ``sequences`` are the highest sequences by event key, at most ``most``. A real receiver keeps them in its database. A delivery
    without the two headers is never late.
    """
    key, sequence = headers.get(EVENT_KEY_HEADER), headers.get(EVENT_SEQUENCE_HEADER, "")
    if key is None or not (sequence.isascii() and sequence.isdigit() and len(sequence) < 20):
        return False
    if int(sequence) < sequences.get(key, -1):
        return True
    sequences[key] = int(sequence)
    if len(sequences) > most:
        del sequences[next(iter(sequences))]
    return False


def _fails(behaviour: Behaviour, webhook_id: str, attempt: int) -> bool:
    if attempt <= behaviour.fail_first:
        return True
    # Derived from the attempt, so that the result does not depend on the order of attempts.
    draw = blake2b(f"{behaviour.seed} {webhook_id} {attempt}".encode(errors="replace"), digest_size=8).digest()
    return int.from_bytes(draw) < behaviour.fail_rate * 2**64


def _reset(request: web.Request) -> None:
    """Drop the connection with a TCP reset."""
    if request.transport is None:
        return
    connection = request.transport.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)
    request.transport.abort()
