"""Explains why a server cannot listen on an address."""

from __future__ import annotations

import errno
import os


class ListenError(OSError):
    """A server cannot listen on an address; ``str(error)`` says why and what to do."""


def listen_error(error: OSError, host: str, port: int, *, other_port: str, other_host: str) -> ListenError:
    """Explain an error of ``listen``. ``other_port`` and ``other_host`` say how to choose another one: "set PORT"."""
    match error.errno:
        case errno.EADDRINUSE:
            return ListenError(f"Port {port} is in use; {other_port}.")
        case errno.EACCES:
            return ListenError(f"Listening on port {port} needs privileges; {other_port} (1024 or higher).")
        case errno.EADDRNOTAVAIL:
            return ListenError(f"{host} is not an address of this machine; {other_host}.")
        case _:
            reason = os.strerror(error.errno) if error.errno is not None and error.errno > 0 else error.strerror or str(error)
            return ListenError(f"Cannot listen on {host}, port {port} ({reason}); {other_host}, or {other_port}.")
