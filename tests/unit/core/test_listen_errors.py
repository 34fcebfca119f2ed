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
            "Listening on port 80 needs privileges; set PORT (1024 or higher).",
        ),
        (OSError(errno.EADDRNOTAVAIL, "error while attempting to bind"), "shop is not an address of this machine; set HOST."),
        (
            socket.gaierror(socket.EAI_NONAME, "Name or service not known"),
            "Cannot listen on shop, port 80 (Name or service not known); set HOST, or set PORT.",
        ),
        (OSError(errno.EMFILE, "x"), "Cannot listen on shop, port 80 (Too many open files); set HOST, or set PORT."),
        (OSError("no number"), "Cannot listen on shop, port 80 (no number); set HOST, or set PORT."),
    ],
)
def test_the_error_says_what_to_do(error: OSError, message: str) -> None:
    explained = listen_error(error, "shop", 80, other_port="set PORT", other_host="set HOST")
    assert (str(explained), isinstance(explained, OSError)) == (message, True)
