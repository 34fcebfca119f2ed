from __future__ import annotations

import errno
import socket

import pytest

from pipeline.core.listen_errors import listen_error


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(errno.EADDRINUSE, "error while attempting to bind"), "Port 80 is in use; set PORT."),
        (
            OSError(errno.EACCES, "error while attempting to bind"),
            "Port 80 is not for everybody to listen on; set PORT (from 1024 on).",
        ),
        (OSError(errno.EADDRNOTAVAIL, "error while attempting to bind"), "shop is not an address of this machine; set HOST."),
        (
            socket.gaierror(socket.EAI_NONAME, "Name or service not known"),
            "shop, port 80, cannot be listened on (Name or service not known); set HOST, or set PORT.",
        ),
        (OSError(errno.EMFILE, "x"), "shop, port 80, cannot be listened on (Too many open files); set HOST, or set PORT."),
        (OSError("no number"), "shop, port 80, cannot be listened on (no number); set HOST, or set PORT."),
    ],
)
def test_it_says_what_to_do(error: OSError, message: str) -> None:
    told = listen_error(error, "shop", 80, other_port="set PORT", other_host="set HOST")
    assert (str(told), isinstance(told, OSError)) == (message, True)
