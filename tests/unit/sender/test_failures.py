from __future__ import annotations

import errno
import os
import ssl
from unittest.mock import Mock

import aiohttp
import pytest
from aiohttp.client_reqrep import ConnectionKey
from aiohttp.http_exceptions import BadHttpMessage, HttpProcessingError, InvalidHeader

from pipeline.core.exchange import MAX_DETAIL, Failure
from pipeline.sender.dialler import BlockedAddressError
from pipeline.sender.failures import FailureContext, explain

ENDPOINT = FailureContext("hooks.example.com", "hooks.example.com:8443", connect_timeout=5.0, total_timeout=15.0)
KEY = ConnectionKey("hooks.example.com", 8443, True, True, None, None, None)


def connecting(cause: OSError) -> aiohttp.ClientConnectorError:
    """Return the error as the client raises it."""
    error = aiohttp.ClientConnectorError(KEY, cause)
    error.__cause__ = cause
    return error


def certificate(code: int, message: str = "certificate verify failed") -> Exception:
    cause = ssl.SSLCertVerificationError(1, message)
    cause.verify_code = code
    cause.verify_message = message
    error = aiohttp.ClientConnectorCertificateError(KEY, cause)
    error.__cause__ = cause
    return error


def system(number: int) -> OSError:
    return OSError(number, os.strerror(number))


@pytest.mark.parametrize(
    ("error", "failure", "words"),
    [
        (aiohttp.ConnectionTimeoutError("x"), Failure.CONNECT_TIMEOUT, "no connection within 5 s"),
        (connecting(system(errno.ETIMEDOUT)), Failure.CONNECT_TIMEOUT, "gave up"),
        (TimeoutError(), Failure.TIMEOUT, "no complete response within 15 s"),
        (TimeoutError(), Failure.TIMEOUT, "15 s"),
        (connecting(system(errno.ECONNREFUSED)), Failure.CONNECTION_REFUSED, "refused"),
        (connecting(system(errno.ECONNRESET)), Failure.CONNECTION_RESET, "TLS handshake"),
        (aiohttp.ClientOSError(errno.EPIPE, "Broken pipe"), Failure.CONNECTION_RESET, "before the response"),
        (aiohttp.ClientConnectionResetError("Cannot write"), Failure.CONNECTION_RESET, "before the response"),
        (connecting(system(errno.EHOSTUNREACH)), Failure.CONNECTION, "no route to host"),
        (connecting(system(errno.ENETUNREACH)), Failure.CONNECTION, "unreachable"),
        (connecting(OSError("Multiple exceptions: a, b")), Failure.CONNECTION, "Multiple exceptions"),
        (connecting(BlockedAddressError("10.0.0.5", "a private address")), Failure.BLOCKED_ADDRESS, "10.0.0.5, which"),
        (certificate(9), Failure.TLS, "not valid yet"),
        (certificate(10), Failure.TLS, "expired"),
        (certificate(18), Failure.TLS, "self-signed"),
        (certificate(19), Failure.TLS, "not trusted"),
        (certificate(20), Failure.TLS, "unknown authority"),
        (certificate(62), Failure.TLS, "another host name"),
        (certificate(999, "some new rule\nhush"), Failure.TLS, "some new rule."),
        (aiohttp.ServerDisconnectedError(), Failure.CONNECTION_RESET, "without a response"),
        (aiohttp.ClientConnectionError("Connector is closed"), Failure.CONNECTION, "lost"),
        (aiohttp.InvalidURL("http://hush"), Failure.INVALID_TARGET, "register another"),
        (ValueError("Forbidden control character"), Failure.INVALID_TARGET, "header"),
        (BadHttpMessage("too many\x1b[31m things:\n\n  b'hush'"), Failure.INVALID_RESPONSE, "(too many[31m things)"),
        (InvalidHeader(b"X-Echo: hush"), Failure.INVALID_RESPONSE, "(one of its headers is invalid)"),
        (HttpProcessingError(code=400, message="x" * 1000), Failure.INVALID_RESPONSE, "xxx"),
    ],
)
def test_error_is_explained(error: Exception, failure: Failure, words: str) -> None:
    explanation = explain(error, ENDPOINT)
    assert explanation is not None
    assert explanation.failure is failure
    assert words in explanation.detail
    assert "hooks.example.com" in explanation.detail
    assert explanation.detail.endswith(".")
    assert explanation.detail.isprintable()
    assert len(explanation.detail) <= MAX_DETAIL
    assert "hush" not in explanation.detail


def test_status_of_a_truncated_answer_is_kept() -> None:
    for code, status in ((503, 503), (2, None), (0, None)):
        message = Mock(spec=aiohttp.http_parser.RawResponseMessage, code=code)
        explanation = explain(aiohttp.ServerDisconnectedError(message), ENDPOINT)
        assert explanation is not None
        assert (explanation.failure, explanation.status) == (Failure.TRUNCATED, status)


def test_a_mistake_of_our_own_is_not_explained() -> None:
    assert explain(TypeError("'int' object is not a str"), ENDPOINT) is None
