"""TLS with a client certificate: one cached context for each certificate, built outside the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
import tempfile
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, Generic, TypeVar

from pipeline.core.client_certificate import ClientIdentity

_MOST: Final = 1000
"""Each takes nearly a megabyte, because it includes the system's certificate authorities."""
_KEPT_SECONDS: Final = 600.0
"""How long an unused context is kept. With it, the private key is dropped: its endpoint may be deleted by then."""

MadeT = TypeVar("MadeT")


class ClientContexts(Generic[MadeT]):
    """Objects built from the TLS contexts of recently used certificates. Each certificate has its own object.

    Everything that references a context must be part of that object, so that both are dropped together.
    """

    def __init__(
        self,
        base: ssl.SSLContext | bool,
        make: Callable[[ssl.SSLContext], MadeT],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``base``: whose authorities are trusted; True for those of the system. ``clock``: monotonic seconds."""
        self._base = base
        self._make = make
        self._clock = clock
        self._kept: OrderedDict[ClientIdentity, tuple[MadeT, float]] = OrderedDict()
        """With the time of the last use, least recently used first."""
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._kept)

    async def of(self, identity: ClientIdentity) -> MadeT:
        """The object for the context with this certificate. Servers are verified as usual.

        Raises:
            ssl.SSLError: certificate and key do not match.
        """
        known = self._kept.get(identity)
        if known is None:
            context = await asyncio.to_thread(_context, identity, self._base)
            known = self._kept.get(identity)  # another task may have built it meanwhile
        value = self._make(context) if known is None else known[0]
        self._kept[identity] = value, self._clock()
        self._kept.move_to_end(identity)
        if len(self._kept) > _MOST:
            self._kept.popitem(last=False)
        if self._timer is None:
            self._schedule_cleanup()
        return value

    def forget_unused(self) -> None:
        """Drop objects that were not used for a long time."""
        before = self._clock() - _KEPT_SECONDS
        while self._kept and next(iter(self._kept.values()))[1] < before:
            self._kept.popitem(last=False)

    def close(self) -> None:
        """Drop everything."""
        self._kept.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _schedule_cleanup(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(_KEPT_SECONDS / 10, self._clean_up)

    def _clean_up(self) -> None:
        self._timer = None
        self.forget_unused()
        if self._kept:
            self._schedule_cleanup()


def _context(identity: ClientIdentity, base: ssl.SSLContext | bool) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if isinstance(base, ssl.SSLContext):
        for authority in base.get_ca_certs(binary_form=True):
            context.load_verify_locations(cadata=authority)
    context.set_alpn_protocols(["http/1.1"])
    with _as_file(f"{identity.private_key.strip()}\n{identity.certificate}".encode()) as path:
        context.load_cert_chain(path)
    return context


@contextlib.contextmanager
def _as_file(pem: bytes) -> Iterator[str]:
    """A path from which OpenSSL can read a key: in memory if the system supports it, to keep the key off the disk."""
    if hasattr(os, "memfd_create") and Path("/proc/self/fd").is_dir():
        descriptor = os.memfd_create("client-certificate", os.MFD_CLOEXEC)
        try:
            os.write(descriptor, pem)
            yield f"/proc/self/fd/{descriptor}"
        finally:
            os.close(descriptor)
        return
    with tempfile.NamedTemporaryFile() as file:  # readable by the owner only, and deleted in a moment
        file.write(pem)
        file.flush()
        yield file.name
