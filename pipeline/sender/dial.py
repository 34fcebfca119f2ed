"""From a host name to a socket: resolves, and lets the address guard decide at the last moment before dialling.

`GuardedResolver` drops the forbidden addresses of a name, so that only real attempts to connect can fail. It is
`guarded_socket_factory` that keeps the promise: the HTTP client calls it with the very address that it then connects
to, for names and literal addresses alike.
"""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeAlias

from aiohttp import AddrInfoType
from aiohttp.abc import AbstractResolver, ResolveResult

from pipeline.sender.guard import AddressGuard

# The client tries every address, several times over. A name with hundreds of them would make a port scanner of us.
_MAX_ADDRESSES_PER_FAMILY: Final = 3

Resolve: TypeAlias = Callable[[str], Awaitable[Sequence[str]]]

# Threads of our own: a look-up blocks until the system gives up (half a minute), and a few names with dead name
# servers would use up the event loop's threads (uvloop runs only two look-ups at once). They start on demand.
_LOOKUP_THREADS: Final = ThreadPoolExecutor(max_workers=32, thread_name_prefix="dns-lookup")


class BlockedAddressError(OSError):
    """The guard refused an address. An OSError, as that is what a failed attempt to connect is to the client."""

    def __init__(self, address: str, refusal: str) -> None:
        super().__init__(f"{address} is {refusal}")
        self.address = address
        self.refusal = refusal


async def resolve_host(host: str) -> Sequence[str]:
    """The addresses of a name as the operating system has them, best first. Raises `socket.gaierror`."""
    return await asyncio.get_running_loop().run_in_executor(_LOOKUP_THREADS, _look_up, host)


def _look_up(host: str) -> Sequence[str]:
    try:
        infos = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
    except UnicodeError as error:
        raise socket.gaierror(socket.EAI_NONAME, "Name cannot be encoded") from error
    return list(dict.fromkeys(str(info[4][0]) for info in infos))


class GuardedResolver(AbstractResolver):
    """Gives the HTTP client those addresses of a name that may be dialled."""

    def __init__(self, guard: AddressGuard, resolve: Resolve) -> None:
        self._guard = guard
        self._resolve = resolve

    async def resolve(self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC) -> list[ResolveResult]:
        """Raises `BlockedAddressError` when every address of the name is refused, `socket.gaierror` for no address."""
        blocked: BlockedAddressError | None = None
        results: list[ResolveResult] = []
        taken: Counter[socket.AddressFamily] = Counter()
        for address in await self._resolve(host):
            if refusal := self._guard.refusal(address):
                blocked = blocked or BlockedAddressError(address, refusal)
                continue
            address_family = socket.AF_INET6 if ":" in address else socket.AF_INET
            taken[address_family] += 1
            if family in (socket.AF_UNSPEC, address_family) and taken[address_family] <= _MAX_ADDRESSES_PER_FAMILY:
                results.append(_result(host, address, port, address_family))
        if results:
            return results
        raise blocked or socket.gaierror(socket.EAI_NONAME, "No address associated with hostname")

    async def close(self) -> None:
        """Nothing to release: the threads are shared."""


def _result(host: str, address: str, port: int, family: socket.AddressFamily) -> ResolveResult:
    flags = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
    return ResolveResult(hostname=host, host=address, port=port, family=family, proto=0, flags=flags)


def guarded_socket_factory(guard: AddressGuard) -> Callable[[AddrInfoType], socket.socket]:
    """A `socket_factory` for the client's connector, that raises `BlockedAddressError` for a refused address."""

    def make_socket(info: AddrInfoType) -> socket.socket:
        family, kind, protocol, _, (address, *_) = info
        if refusal := guard.refusal(address):
            raise BlockedAddressError(address, refusal)
        return socket.socket(family, kind, protocol)

    return make_socket
