"""Translates an exception of the HTTP client into a `Failure` and one sentence that tells the integrator what is wrong.

The sentences name the host and port only: path and query of a target_url may contain a secret.
"""

from __future__ import annotations

import errno
import os
import socket
import ssl
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Final

import aiohttp

from pipeline.core.egress_proxy import ProxyFault
from pipeline.core.exchange import MAX_DETAIL, Failure
from pipeline.sender.address_guard import describe_refusal
from pipeline.sender.dialler import BlockedAddressError
from pipeline.sender.tunnels import EgressProxyError

# X509_V_ERR_… of OpenSSL's x509_vfy.h.
_CERTIFICATE_PROBLEMS: Final = {
    9: "its certificate is not valid yet",
    10: "its certificate has expired",
    18: "its certificate is self-signed; use one from a public certificate authority",
    19: "its certificate chain ends in a root certificate that is not trusted (self-signed)",
    20: "its certificate comes from an unknown authority, or an intermediate certificate is missing",
    21: "its certificate chain is incomplete: an intermediate certificate is missing",
    23: "its certificate was revoked",
    62: "its certificate is for another host name",
    64: "its certificate is not for this IP address",
}
_NOT_TLS: Final = "it does not speak TLS on this port; check the port, or whether the URL is an http:// one"
_OLD_TLS: Final = "it supports no secure version of TLS; TLS 1.2 or newer is needed"
_HANDSHAKE_PROBLEMS: Final = {
    "WRONG_VERSION_NUMBER": _NOT_TLS,
    "HTTP_REQUEST": _NOT_TLS,
    "PACKET_LENGTH_TOO_LONG": _NOT_TLS,
    "UNSUPPORTED_PROTOCOL": _OLD_TLS,
    "TLSV1_ALERT_PROTOCOL_VERSION": _OLD_TLS,
    "UNEXPECTED_EOF_WHILE_READING": "it closed the connection in the middle of the TLS protocol",
    "SSLV3_ALERT_HANDSHAKE_FAILURE": "it refused the TLS handshake (no common cipher, or it requires a client certificate)",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "it says that our client certificate has expired",
    "SSLV3_ALERT_CERTIFICATE_REVOKED": "it says that our client certificate was revoked",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "it refused our client certificate",
    "SSLV3_ALERT_BAD_CERTIFICATE": "it refused our client certificate",
    "TLSV1_ALERT_UNKNOWN_CA": "it does not trust the authority of our client certificate",
    "TLSV1_UNRECOGNIZED_NAME": "it has no certificate for this host name",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "it requires a client certificate; set one on the endpoint",
}
# The first matching kind counts. By name, because the parser's exceptions have no public module, and other releases of aiohttp
# may lack some.
_ANSWER_PROBLEMS: Final = (
    ("PayloadEncodingError", Failure.TRUNCATED, "the response ended before its body was complete"),
    ("LineTooLong", Failure.INVALID_RESPONSE, "the response has a status line or a header that is too long"),
    (
        "BadStatusLine",
        Failure.INVALID_RESPONSE,
        "the response is not HTTP/1.1, or continues after its end; check the scheme and port of the URL",
    ),
    # The error quotes the header, which may be a secret that we sent.
    ("InvalidHeader", Failure.INVALID_RESPONSE, "the response is not valid HTTP (one of its headers is invalid)"),
    ("ClientPayloadError", Failure.INVALID_RESPONSE, "the response has an invalid body"),
    ("ClientConnectionError", Failure.CONNECTION, "the connection was lost"),
    ("InvalidURL", Failure.INVALID_TARGET, "the target_url cannot be used; register another one"),
    # aiohttp's writer raises it for a header that would split the request.
    ("ValueError", Failure.INVALID_TARGET, "a request header contains a line break or another control character"),
)
_NOT_HTTP: Final = "the response is not valid HTTP"
_RESETS: Final = frozenset({errno.ECONNRESET, errno.ECONNABORTED, errno.EPIPE})


@dataclass(frozen=True, slots=True)
class FailureContext:
    """What the sentences may say about the endpoint: `name` is host and port, the timeouts are seconds."""

    host: str
    name: str
    connect_timeout: float
    total_timeout: float


@dataclass(frozen=True, slots=True)
class Explanation:
    """`status` is set if the answer ended within its headers."""

    failure: Failure
    detail: str
    status: int | None = None


class InvalidAnswerError(Exception):
    """An invalid answer; the message says why."""


def explain(error: Exception, endpoint: FailureContext) -> Explanation | None:
    """What an exception of the HTTP client means; None if neither network nor server can have caused it."""
    explanation = _explain_timeout(error, endpoint) or _explain_causes(error, endpoint)
    if explanation is None:
        return None
    # A blocked address already names its host.
    subject = "" if explanation.failure is Failure.BLOCKED_ADDRESS else f"{endpoint.name}: "
    return replace(explanation, detail=f"{subject}{explanation.detail}."[:MAX_DETAIL])


def _explain_timeout(error: Exception, endpoint: FailureContext) -> Explanation | None:
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return Explanation(Failure.CONNECT_TIMEOUT, f"no connection within {endpoint.connect_timeout:g} s")
    # The operating system's ETIMEDOUT is also a TimeoutError, but has an errno.
    if isinstance(error, TimeoutError) and error.errno is None:
        return Explanation(Failure.TIMEOUT, f"no complete response within {endpoint.total_timeout:g} s")
    return None


def _explain_causes(error: Exception, endpoint: FailureContext) -> Explanation | None:
    """The client wraps errors of the system, the TLS library or its parser; the innermost known cause counts."""
    causes: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None:
        causes.append(cause)
        cause = cause.__cause__
    for inner in reversed(causes):
        if isinstance(inner, EgressProxyError):
            return _explain_proxy(inner, endpoint)
        explanation = _explain_connection(inner, endpoint) or _explain_answer(inner)
        if explanation is not None:
            break
    else:
        return None
    if explanation.failure is Failure.CONNECTION_RESET and isinstance(error, aiohttp.ClientConnectorError):
        return replace(explanation, detail="the connection was reset before it was set up (in the TLS handshake)")
    return explanation


def _explain_connection(error: BaseException, endpoint: FailureContext) -> Explanation | None:
    if isinstance(error, BlockedAddressError):
        clause = describe_refusal(endpoint.host, error.address, error.refusal)
        return Explanation(Failure.BLOCKED_ADDRESS, f"{clause}; webhooks are not sent there")
    if isinstance(error, ssl.SSLError):
        return Explanation(Failure.TLS, f"no secure connection, because {_tls_problem(error)}")
    if isinstance(error, socket.gaierror):
        return Explanation(Failure.DNS, f"the host name does not resolve ({_plain(error.strerror or str(error))})")
    if isinstance(error, OSError):
        return _explain_os_error(error)
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return _explain_disconnect(error)
    return None


def _explain_proxy(error: EgressProxyError, endpoint: FailureContext) -> Explanation:
    """Does not name the proxy: the integrator does not know it."""
    if error.fault is ProxyFault.TARGET_SPOKE_FIRST:
        return Explanation(Failure.INVALID_RESPONSE, f"{_NOT_HTTP} (it came before the request)")
    if error.fault is ProxyFault.SILENT:
        seconds = f"{endpoint.connect_timeout:g} s"
        return Explanation(Failure.CONNECT_TIMEOUT, f"no connection within {seconds}; our egress proxy was still waiting for one")
    if error.fault is ProxyFault.NO_TARGET:
        failure = Failure.CONNECT_TIMEOUT if error.status == HTTPStatus.GATEWAY_TIMEOUT else Failure.CONNECTION
        return Explanation(failure, f"no connection; our egress proxy could not reach it (it returned {error.status})")
    return Explanation(Failure.CONNECTION, "no connection through our egress proxy")


def _tls_problem(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return _CERTIFICATE_PROBLEMS.get(error.verify_code) or _plain(error.verify_message)
    reason = error.reason or "HANDSHAKE_FAILED"
    return _HANDSHAKE_PROBLEMS.get(reason) or f"the TLS library says: {_plain(reason.replace('_', ' ').lower())}"


def _explain_os_error(error: OSError) -> Explanation:
    if isinstance(error, ConnectionRefusedError):
        return Explanation(Failure.CONNECTION_REFUSED, "the connection was refused; nothing is listening on this port")
    if isinstance(error, ConnectionResetError) or error.errno in _RESETS:
        return Explanation(Failure.CONNECTION_RESET, "the connection was reset before the response was complete")
    if isinstance(error, TimeoutError):
        return Explanation(Failure.CONNECT_TIMEOUT, "no connection; the operating system gave up waiting")
    words = os.strerror(error.errno).lower() if error.errno else _plain(str(error))
    return Explanation(Failure.CONNECTION, f"no connection ({words})")


def _explain_disconnect(error: aiohttp.ServerDisconnectedError) -> Explanation:
    if isinstance(error.message, str):
        return Explanation(Failure.CONNECTION_RESET, "the connection was closed without a response")
    # The parser reports the digits so far, so only three digits are a status.
    code = getattr(error.message, "code", 0)
    status = code if 100 <= code <= 999 else None
    return Explanation(Failure.TRUNCATED, "the response ended before its headers were complete", status)


def _explain_answer(error: BaseException) -> Explanation | None:
    kinds = {kind.__name__ for kind in type(error).__mro__}
    for kind, failure, words in _ANSWER_PROBLEMS:
        if kind in kinds:
            return Explanation(failure, words)
    if isinstance(error, InvalidAnswerError):
        return Explanation(Failure.INVALID_RESPONSE, f"{_NOT_HTTP} ({error})")
    if "HttpProcessingError" in kinds:
        return Explanation(Failure.INVALID_RESPONSE, f"{_NOT_HTTP} ({_plain(str(getattr(error, 'message', error)))})")
    if isinstance(error, aiohttp.ClientResponseError):
        return Explanation(Failure.INVALID_RESPONSE, _NOT_HTTP)
    return None


def _plain(text: str) -> str:
    """The first line, without characters that a terminal or a log would interpret."""
    line = text.strip().partition("\n")[0].rstrip(".: ")
    return "".join(character for character in line if character.isprintable())[:200]
