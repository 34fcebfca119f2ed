"""Explains why an address cannot be listened on."""

from __future__ import annotations

import errno
import os


class ListenError(OSError):
    """An address cannot be listened on; ``str(error)`` says why and what to do."""


def listen_error(error: OSError, host: str, port: int, *, other_port: str, other_host: str) -> ListenError:
    """What an error of listening means. ``other_port`` and ``other_host`` say how to choose another one: "set PORT"."""
    match error.errno:
        case errno.EADDRINUSE:
            return ListenError(f"Port {port} is in use; {other_port}.")
        case errno.EACCES:
            return ListenError(f"Port {port} is not for everybody to listen on; {other_port} (from 1024 on).")
        case errno.EADDRNOTAVAIL:
            return ListenError(f"{host} is not an address of this machine; {other_host}.")
        case _:
            reason = os.strerror(error.errno) if error.errno is not None and error.errno > 0 else error.strerror or str(error)
            return ListenError(f"{host}, port {port}, cannot be listened on ({reason}); {other_host}, or {other_port}.")
