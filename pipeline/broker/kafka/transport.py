"""How kafka-python's clients read and write their sockets: with few system calls (see `pipeline.broker.kafka.selector`).

kafka-python 3.0.12 reads 4 KiB at a time until nothing is left, and waits until it may write before it tries to.
"""

from __future__ import annotations

import ssl
import time

import kafka.net.manager
from kafka.errors import KafkaConnectionError
from kafka.net.transport import KafkaSSLTransport, KafkaTCPTransport

_READ_BYTES = 64 * 1024
_NOTHING_LEFT = (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


def use_sparing_transports() -> None:
    """Let the connections that this process opens from now on be of this kind. kafka-python has no setting for it."""
    kafka.net.manager.KafkaTCPTransport = _Transport
    kafka.net.manager.KafkaSSLTransport = _TlsTransport


class _Transport(KafkaTCPTransport):  # type: ignore[misc]  # kafka-python is untyped
    def _sock_recv(self) -> tuple[bytes, Exception | None]:
        """What there is to read, or what ended the connection. What came before the end is handed over first: it may say why."""
        received: list[bytes] = []
        try:
            while data := self._sock.recv(_READ_BYTES):
                received.append(data)
                if len(data) < _READ_BYTES and not isinstance(self._sock, ssl.SSLSocket):
                    return b"".join(received), None  # there is no more, and should there be, we are told
        except _NOTHING_LEFT:
            return b"".join(received), None
        except Exception as error:  # noqa: BLE001 - those who wait for answers are told
            end = KafkaConnectionError(error)
        else:
            end = KafkaConnectionError("The broker closed the connection.")
        if not received:
            return b"", end
        # Not now, nor soon: those come first whom the answer wakes.
        self._net.call_later(0, lambda: self.abort(end))
        return b"".join(received), None

    async def _write_to_sock(self) -> None:
        """Write what there is, and wait only for what the socket does not take."""
        if self._write_buffer:
            _, error = self._sock_send()
            if error:
                self._writing = False
                self.abort(error=error)
                return
            self.last_write = time.monotonic()
        await super()._write_to_sock()


class _TlsTransport(_Transport, KafkaSSLTransport):  # type: ignore[misc]
    pass
