"""Checks whether a server can be reached: name, connection, TLS. For ``oms-webhooks settings --check``."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path
from typing import Final, NamedTuple

CONNECT_SECONDS: Final = 5.0


class CheckResult(NamedTuple):
    """The result of one check. ``problem`` is None if all is well."""

    what: str
    problem: str | None = None


def tls_context(ca_file: Path | None, client: tuple[Path, Path | None, str | None] | None = None) -> ssl.SSLContext:
    """The TLS context for verifying a server, with the client certificate.

    Raises:
        OSError: a file cannot be read, or has the wrong content (``ssl.SSLError``).
    """
    context = ssl.create_default_context(cafile=ca_file)
    if client is not None:
        certificate, key, password = client
        context.load_cert_chain(certificate, key, password)
    return context


def server_finding(name: str, host: str, port: int, context: ssl.SSLContext | None) -> CheckResult:
    """Resolve a server's name, connect, and, with a ``context``, do the TLS handshake. Blocks for a few seconds at most."""
    what = f"{name}: {host}:{port}"
    try:
        socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        return CheckResult(what, f"The name {host} cannot be resolved ({_words(error)}). Check it, and the DNS of this machine.")
    try:
        connection = socket.create_connection((host, port), timeout=CONNECT_SECONDS)
    except TimeoutError:
        return CheckResult(what, f"No answer within {CONNECT_SECONDS:g} s: a firewall or a network policy drops the connection.")
    except OSError as error:
        return CheckResult(what, f"Could not connect ({_words(error)}). Is it running, and is this its port?")
    with connection:
        return CheckResult(what, _handshake(connection, host, context) if context is not None else None)


def speaks_tls(host: str, port: int) -> bool:
    """Whether a server does a TLS handshake, whatever its certificate. Blocks for a few seconds at most."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with socket.create_connection((host, port), timeout=CONNECT_SECONDS) as connection, context.wrap_socket(connection):
            return True
    except OSError:
        return False


def _handshake(connection: socket.socket, host: str, context: ssl.SSLContext) -> str | None:
    try:
        with context.wrap_socket(connection, server_hostname=host):
            return None
    except ssl.SSLCertVerificationError as error:
        advice = "Check the CA file, the host name and the dates of its certificate"
        return f"Its certificate is not trusted: {error.verify_message}. {advice}."
    except OSError as error:
        return f"TLS fails ({_words(error)}). Does this port speak TLS?"


def _words(error: OSError) -> str:
    return error.strerror or str(error) or type(error).__name__
