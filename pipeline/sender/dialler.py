"""From a host name to a socket: resolves the name, and asks the address guard immediately before dialling.

`GuardedResolver` removes a name's forbidden addresses, so that the client does not try them. The guarantee comes from
`guarded_socket_factory`: the HTTP client calls it with exactly the address that it then connects to, both for names and for
literal addresses.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Final, TypeAlias

from aiohttp import AddrInfoType
from aiohttp.abc import AbstractResolver, ResolveResult

from pipeline.core.local_faults import NameHistory
from pipeline.ops.daemon_threads import DaemonThreads
from pipeline.sender.address_guard import AddressGuard

# The client tries every address, several times. A name with hundreds of them would turn us into a port scanner.
_MAX_ADDRESSES_PER_FAMILY: Final = 3

Resolve: TypeAlias = Callable[[str], Awaitable[Sequence[str]]]

# Separate threads: a look-up blocks until the system gives up (half a minute), and a few names with dead name servers would use
# up the event loop's threads (uvloop runs only two look-ups at once). They start on demand, and the process does not wait for them
# when it exits.
_LOOKUP_THREADS: Final = DaemonThreads(32, "dns-lookup")
# It must be possible to check the resolver even if all of those threads wait for it.
_PROBE_THREADS: Final = DaemonThreads(4, "dns-probe")
_HOSTS_FILE: Final = Path("/etc/hosts")
_HOSTS_FILE_SECONDS: Final = 60.0


class BlockedAddressError(OSError):
    """The guard refused an address. An OSError, because the client expects that of a failed attempt to connect."""

    def __init__(self, address: str, refusal: str) -> None:
        super().__init__(f"{address} is {refusal}")
        self.address = address
        self.refusal = refusal


_lookups_under_way: Final[defaultdict[str, list[Future[Sequence[str]]]]] = defaultdict(list)
"""By name: the client asks for a name once for each port."""


async def resolve_host(host: str) -> Sequence[str]:
    """The addresses of a name from the operating system, best first. Raises `socket.gaierror`, or OSError for a shortage."""
    lookup = _LOOKUP_THREADS.submit(_look_up, host)
    _lookups_under_way[host].append(lookup)
    try:
        return await asyncio.wrap_future(lookup)
    finally:
        _lookups_under_way[host].remove(lookup)
        if not _lookups_under_way[host]:
            del _lookups_under_way[host]


def waits_for_a_thread(host: str) -> bool:
    """Whether all look-ups of a name are still queued: no resolver was asked yet."""
    lookups = _lookups_under_way.get(host, ())
    return bool(lookups) and not any(lookup.running() or lookup.done() for lookup in lookups)


async def resolve_in_probe_thread(host: str) -> Sequence[str]:
    """As `resolve_host`, but in a separate thread that does not queue behind its look-ups."""
    return await asyncio.wrap_future(_PROBE_THREADS.submit(_look_up, host))


def _look_up(host: str) -> Sequence[str]:
    try:
        infos = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
    except UnicodeError as error:
        raise socket.gaierror(socket.EAI_NONAME, "Name cannot be encoded") from error
    except socket.gaierror:
        # Without descriptors, the system cannot ask any resolver, and reports that the name does not exist. Raises EMFILE then.
        os.close(os.open(os.devnull, os.O_RDONLY))
        raise
    return list(dict.fromkeys(str(info[4][0]) for info in infos))


def is_answer(error: socket.gaierror) -> bool:
    """Whether a resolver answered that there is no such name, or no address of it."""
    return error.errno in {socket.EAI_NONAME, socket.EAI_NODATA, socket.EAI_ADDRFAMILY, socket.EAI_FAMILY}


class Lookups:
    """Resolves names, and remembers which look-ups are in progress and which names the resolver answered."""

    def __init__(self, resolve: Resolve) -> None:
        self._resolve = resolve
        self._under_way: Counter[str] = Counter()
        self._in_file: frozenset[str] = frozenset()
        self._read_file_at = float("-inf")
        self.witnesses = NameHistory()

    async def __call__(self, host: str) -> Sequence[str]:
        """The addresses of a name. Raises `socket.gaierror`."""
        self._under_way[host] += 1
        try:
            addresses = await self._resolve(host)
        except socket.gaierror as error:
            if is_answer(error):
                self._answered(host)
            raise
        finally:
            self._under_way[host] -= 1
            if not self._under_way[host]:
                del self._under_way[host]
        self._answered(host)
        return addresses

    def is_under_way(self, host: str) -> bool:
        """Whether the name is being resolved."""
        return host in self._under_way

    def _answered(self, host: str) -> None:
        """The resolver answered, unless the name is in the hosts file."""
        now = time.monotonic()
        if now - self._read_file_at > _HOSTS_FILE_SECONDS:
            self._in_file, self._read_file_at = _names_in_hosts_file(), now
        if host not in self._in_file:
            self.witnesses.worked(host, now)


def _names_in_hosts_file() -> frozenset[str]:
    try:
        lines = _HOSTS_FILE.read_text(errors="replace").splitlines()
    except OSError:
        return frozenset()
    return frozenset(name for line in lines for name in line.partition("#")[0].split()[1:])


class GuardedResolver(AbstractResolver):
    """Gives the HTTP client the addresses of a name that may be dialled."""

    def __init__(self, guard: AddressGuard, resolve: Resolve) -> None:
        self._guard = guard
        self._resolve = resolve

    async def resolve(self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC) -> list[ResolveResult]:
        """Raises `BlockedAddressError` if every address of the name is refused, `socket.gaierror` if it has none."""
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
    """A `socket_factory` for the client's connector, which raises `BlockedAddressError` for a refused address."""

    def make_socket(info: AddrInfoType) -> socket.socket:
        family, kind, protocol, _, (address, *_) = info
        if refusal := guard.refusal(address):
            raise BlockedAddressError(address, refusal)
        return socket.socket(family, kind, protocol)

    return make_socket
