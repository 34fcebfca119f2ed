"""A name for this process, which its successor gets if it dies: the host name and the lowest free number on the host.

A Kafka group identifies a static member by such a name. A process with the same name takes over immediately, without waiting for
the session of the dead one to expire.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import socket
import tempfile
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import IO, Final

_DIRECTORY: Final = f"oms-webhooks-{os.getuid() if hasattr(os, 'getuid') else 'user'}"
_ALLOWED: Final = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True, slots=True)
class InstanceSlot:
    """A claimed name. It is free again when the process ends, however that happens, or after :meth:`release`."""

    name: str
    _file: IO[str]

    def release(self) -> None:
        """Free the name for another process."""
        self._file.close()


def claim_slot(scope: str, directory: Path | None = None) -> InstanceSlot:
    """Claim the lowest number on this host that no living process has. ``scope`` distinguishes deployments on one host: their
    cluster and prefix.

    Raises:
        OSError: the directory of the claims cannot be used.
    """
    where = directory or Path(tempfile.gettempdir()) / _DIRECTORY
    where.mkdir(mode=0o700, parents=True, exist_ok=True)
    digest = hashlib.sha256(scope.encode()).hexdigest()[:12]
    host = _ALLOWED.sub("-", socket.gethostname()) or "host"
    for number in count():
        file = (where / f"slot-{digest}-{number}").open("a", encoding="utf-8")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            continue
        return InstanceSlot(f"{host}-{number}", file)
    raise AssertionError("there is always a free number")
