"""The HTTP proxy for all requests to endpoints, which gives them fixed source addresses: builds the CONNECT request (RFC 9110,
9.3.6) and interprets the answer. Pure.
"""

from __future__ import annotations

import base64
import enum
import re
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final

MAX_HEAD_BYTES: Final = 16 * 1024
HEAD_END: Final = b"\r\n\r\n"

_URL: Final = re.compile(
    r"http://(?:\[([0-9A-Fa-f:.]{2,45})\]|([A-Za-z0-9_]([A-Za-z0-9._-]{0,251}[A-Za-z0-9_.])?)):([0-9]{1,5})/?"
)
_STATUS_LINE: Final = re.compile(rb"HTTP/1\.[01] ([0-9]{3})(?:[ \r])")
_CONTROL_CHARACTERS: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_NO_TARGET: Final = frozenset(
    {
        HTTPStatus.INTERNAL_SERVER_ERROR,  # tinyproxy
        HTTPStatus.BAD_GATEWAY,
        HTTPStatus.SERVICE_UNAVAILABLE,  # Squid, Envoy, HAProxy
        HTTPStatus.GATEWAY_TIMEOUT,
    }
)


class ProxyFault(enum.Enum):
    AWAY = enum.auto()
    """No connection to the proxy could be made."""
    CREDENTIALS = enum.auto()
    """It answered 407."""
    REFUSED = enum.auto()
    """It answered with another status or something invalid, or closed the connection."""
    SILENT = enum.auto()
    """It did not answer in time: it is at fault, or is waiting for the target."""
    NO_TARGET = enum.auto()
    """It reports that it could not reach the target."""
    TARGET_SPOKE_FIRST = enum.auto()
    """There is a tunnel, but the target sent something first, so it does not speak HTTP."""


@dataclass(frozen=True, slots=True)
class EgressProxy:
    """Where the proxy is. ``host`` is a name or an address; an IPv6 address has no brackets."""

    host: str
    port: int
    authorization: str | None = field(default=None, repr=False)
    """The header ``Proxy-Authorization``."""

    @property
    def name(self) -> str:
        """Host and port, for display."""
        return _authority(self.host, self.port)

    def connect_request(self, address: str, port: int) -> bytes:
        """The request for a tunnel to an IP address that has been checked."""
        authority = _authority(address, port)
        lines = [f"CONNECT {authority} HTTP/1.1", f"Host: {authority}"]
        if self.authorization is not None:
            lines.append(f"Proxy-Authorization: {self.authorization}")
        return "\r\n".join([*lines, "", ""]).encode("ascii")


def egress_proxy(url: str, credentials: str | None = None) -> EgressProxy:
    """Parse ``http://host:port`` and ``user:password``.

    Raises:
        ValueError: a message for the operator. It contains no part of the input, which may be a secret.
    """
    parts = _URL.fullmatch(url)
    if parts is None or not 1 <= int(parts[4]) <= 65535:
        message = "must look like http://proxy.internal:3128: with a port, without a path, and with user and password in egress_proxy_credentials"
        raise ValueError(message)
    return EgressProxy(parts[1] or parts[2], int(parts[4]), None if credentials is None else _basic(credentials))


def read_answer(head: bytes) -> int | None:
    """The status in the first bytes of the proxy's answer; None if they are not HTTP/1."""
    line = _STATUS_LINE.match(head)
    return None if line is None else int(line[1])


def fault_of(status: int) -> ProxyFault | None:
    """What a status means; None if there is a tunnel."""
    if 200 <= status <= 299:
        return None
    if status == HTTPStatus.PROXY_AUTHENTICATION_REQUIRED:
        return ProxyFault.CREDENTIALS
    return ProxyFault.NO_TARGET if status in _NO_TARGET else ProxyFault.REFUSED


def _authority(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _basic(credentials: str) -> str:
    user, colon, _ = credentials.partition(":")
    if not colon or not user or _CONTROL_CHARACTERS.search(credentials):
        message = "must be a user name, a colon and a password, without control characters"
        raise ValueError(message)
    return f"Basic {base64.b64encode(credentials.encode()).decode('ascii')}"
