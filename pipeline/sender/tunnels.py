"""Connections through an egress proxy: one tunnel each, to an address that the address guard has allowed.

The HTTP client does not notice the proxy. It asks its resolver for a name's addresses, and its socket factory for a socket to dial
one. Here the resolver looks the name up, asks the guard, has the proxy open a tunnel to that address, and returns a ticket in place
of the address. The socket factory exchanges the ticket for the socket, which is connected already. Everything else (TLS and its
verification, the pool, limits) works as without a proxy. An unknown ticket gives no connection: nothing ever bypasses the proxy.

The client does not ask its resolver for a literal address, so such a URL gets a stand-in name: see `tunnelled_url`.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import os
import secrets
import socket
import time
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, Final

from aiohttp import AddrInfoType
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from pipeline.core.egress_proxy import HEAD_END, MAX_HEAD_BYTES, EgressProxy, ProxyFault, fault_of, read_answer
from pipeline.core.local_faults import NameHistory
from pipeline.sender.address_guard import AddressGuard
from pipeline.sender.dialler import BlockedAddressError, GuardedResolver, Resolve, resolve_in_probe_thread

_KEPT_NAMES: Final = 8192
_KEPT_SECONDS: Final = 10.0
_TO_THE_PROXY: Final = 0.5
"""The share of the time to connect that the connection to the proxy may take."""
_TO_THE_TARGET: Final = 0.9
"""The share after which the proxy counts as silent. The rest is for TLS, and makes sure that the silence is reported rather than a
timeout.
"""
_NO_DOMAIN: Final = f".{secrets.token_hex(16)}.invalid"
"""The suffix of stand-in names for literal addresses; no real host name ends like this."""
# Tickets are addresses in networks that are never dialled: "this network" (RFC 6890) and discard-only (RFC 6666). A ticket has the
# address family of its socket.
_TICKETS_V4: Final = 0
_TICKETS_V6: Final = int(ipaddress.IPv6Address("100::"))
_TICKETS: Final = 2**24 - 1


class EgressProxyError(OSError):
    """There is no tunnel. The message is for the operator and contains no credentials."""

    def __init__(self, fault: ProxyFault, message: str, *, number: int | None = None, status: int | None = None) -> None:
        """``number``: the system's error number, if it failed. ``status``: the proxy's answer."""
        super().__init__(message)
        self.fault = fault
        self.message = message
        self.status = status
        self.errno = number


class TunnelSocket(socket.socket):
    """A socket that is already connected to the proxy. Connecting it to the target does nothing."""

    is_tunnel = False

    def connect(self, address: Any, /) -> None:
        """Connect to the proxy; do nothing if there is already a tunnel."""
        if not self.is_tunnel:
            super().connect(address)


def tunnelled_url(url: URL) -> tuple[URL, str | None]:
    """The URL for the HTTP client; and, if its host is a literal address, that address, whose certificate is verified."""
    host = url.raw_host or ""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return url, None
    return url.with_host(f"v{address.version}-{int(address):x}{_NO_DOMAIN}"), host


def _literal(host: str) -> str | None:
    """The address that a stand-in name stands for; None for any other name."""
    if not host.endswith(_NO_DOMAIN):
        return None
    version, _, digits = host.removesuffix(_NO_DOMAIN).partition("-")
    number = int(digits, 16)
    return str(ipaddress.IPv4Address(number) if version == "v4" else ipaddress.IPv6Address(number))


class Tunnels(AbstractResolver):
    """The resolver and the socket factory of an HTTP client whose connections go through a proxy."""

    def __init__(
        self, proxy: EgressProxy, guard: AddressGuard, resolve: Resolve, seconds: float, witnesses: NameHistory | None = None
    ) -> None:
        """``seconds``: the time to connect. ``witnesses`` is told which hosts could be reached and which could not."""
        self._proxy = proxy
        self._guard = guard
        self._names = _KeptNames(GuardedResolver(guard, resolve))
        self._proxies = _ProxyAddresses(proxy.host)
        self._seconds = seconds
        self._witnesses = NameHistory() if witnesses is None else witnesses
        self._unclaimed: OrderedDict[str, tuple[float, TunnelSocket]] = OrderedDict()
        self._tickets = 0

    async def resolve(self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC) -> list[ResolveResult]:  # noqa: ARG002 - the proxy's family counts
        """Open a tunnel to a host, and return a ticket for it.

        Raises:
            BlockedAddressError: no address of the name may be dialled.
            EgressProxyError: there is no tunnel.
            OSError: the name does not resolve (``socket.gaierror``), or this process lacks a resource.
        """
        until = time.monotonic() + self._seconds * _TO_THE_TARGET
        literal = _literal(host)
        addresses = [literal] if literal is not None else await self._names.addresses(host)
        tunnel = await self.open(literal or host, addresses, port, until)
        ticket = self._ticket(tunnel)
        flags = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
        return [ResolveResult(hostname=host, host=ticket, port=port, family=tunnel.family, proto=0, flags=flags)]

    def make_socket(self, info: AddrInfoType) -> socket.socket:
        """The connected socket of a ticket. Raises OSError for anything else."""
        address = str(info[4][0])
        entry = self._unclaimed.pop(address, None)
        if entry is None:
            raise OSError(errno.EHOSTUNREACH, "there is no tunnel for this address")
        return entry[1]

    async def close(self) -> None:
        """Close tunnels that were not claimed."""
        while self._unclaimed:
            self._unclaimed.popitem()[1][1].close()

    async def reach_proxy(self) -> None:
        """Connect to the proxy without sending anything. Raises EgressProxyError."""
        (await self._to_the_proxy(self._seconds)).close()

    async def probe(self, host: str, port: int) -> None:
        """Open a tunnel to a host, and close it. Raises what `resolve` raises."""
        addresses = await self._names.addresses(host)
        (await self.open(host, addresses, port, time.monotonic() + self._seconds * _TO_THE_TARGET)).close()

    async def open(self, host: str, addresses: list[str], port: int, until: float) -> TunnelSocket:
        """A tunnel to the first of the addresses that the proxy reaches. ``until``: by `time.monotonic`; each address gets a
        share of the time.
        """
        error: EgressProxyError | None = None
        for position, address in enumerate(addresses):
            # If the look-up took all the time, the client's own timeout ends it.
            seconds = (until - time.monotonic()) / (len(addresses) - position)
            try:
                tunnel = await self._through(address, port, seconds if seconds > 0 else self._seconds)
            except EgressProxyError as failed:
                error = failed
                if failed.fault not in {ProxyFault.NO_TARGET, ProxyFault.SILENT}:
                    break
            else:
                self._witnesses.worked(host, time.monotonic())
                return tunnel
        self._witnesses.failed(host)
        raise error or socket.gaierror(socket.EAI_NONAME, "No address associated with hostname")

    async def _through(self, address: str, port: int, seconds: float) -> TunnelSocket:
        if refusal := self._guard.refusal(address):
            raise BlockedAddressError(address, refusal)
        if "%" in address:
            raise BlockedAddressError(address, "an address with a zone, which is valid on this machine only")
        began = time.monotonic()
        tunnel = await self._to_the_proxy(seconds * _TO_THE_PROXY)
        try:
            async with asyncio.timeout(seconds - (time.monotonic() - began)):
                await self._ask(tunnel, self._proxy.connect_request(address, port))
        except TimeoutError:
            tunnel.close()
            message = f"The egress proxy {self._proxy.name} did not answer CONNECT within {seconds:.2g} s."
            raise EgressProxyError(ProxyFault.SILENT, message) from None
        except BaseException:
            tunnel.close()
            raise
        tunnel.is_tunnel = True
        return tunnel

    async def _to_the_proxy(self, seconds: float) -> TunnelSocket:
        name = self._proxy.name
        try:
            return await self._dial(seconds)
        except socket.gaierror as error:
            message = f"The name of the egress proxy {name} does not resolve ({error.strerror})."
            raise EgressProxyError(ProxyFault.AWAY, message) from None
        except TimeoutError:
            message = f"There is no connection to the egress proxy {name} within {seconds:.2g} s."
            raise EgressProxyError(ProxyFault.AWAY, message) from None
        except OSError as error:
            words = os.strerror(error.errno).lower() if error.errno else "no address can be dialled"
            message = f"There is no connection to the egress proxy {name} ({words})."
            raise EgressProxyError(ProxyFault.AWAY, message, number=error.errno) from None

    async def _dial(self, seconds: float) -> TunnelSocket:
        """Each address gets a share of the time."""
        last: OSError | None = None
        async with asyncio.timeout(seconds):
            addresses = await self._proxies.addresses()
        for address in addresses:
            connection = TunnelSocket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
            try:
                connection.setblocking(False)
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                async with asyncio.timeout(seconds / len(addresses)):
                    await asyncio.get_running_loop().sock_connect(connection, (address, self._proxy.port))
            except OSError as error:
                connection.close()
                last = error
            except BaseException:
                connection.close()
                raise
            else:
                return connection
        raise last or OSError("no address")

    async def _ask(self, tunnel: TunnelSocket, request: bytes) -> None:
        """Ask for the tunnel. Raises EgressProxyError if it is refused."""
        name = self._proxy.name
        loop = asyncio.get_running_loop()
        answer = b""
        try:
            await loop.sock_sendall(tunnel, request)
            while HEAD_END not in answer and len(answer) <= MAX_HEAD_BYTES:
                if not (piece := await loop.sock_recv(tunnel, 4096)):
                    break
                answer += piece
        except OSError as error:
            message = f"The egress proxy {name} closed the connection before it answered CONNECT."
            raise EgressProxyError(ProxyFault.REFUSED, message, number=error.errno) from None
        head, end, rest = answer.partition(HEAD_END)
        status = read_answer(head + end)
        if status is None or not end:
            broke_off = "closed the connection instead of answering CONNECT" if not answer else "gave no HTTP/1 answer to CONNECT"
            raise EgressProxyError(ProxyFault.REFUSED, f"The egress proxy {name} {broke_off}.")
        if (fault := fault_of(status)) is not None:
            raise EgressProxyError(
                fault, f"The egress proxy {name} answered CONNECT with {status}{_ADVICE.get(fault, '')}.", status=status
            )
        if rest:
            raise EgressProxyError(ProxyFault.TARGET_SPOKE_FIRST, "The target sent data before the request.")

    def _ticket(self, tunnel: TunnelSocket) -> str:
        now = time.monotonic()
        while self._unclaimed and next(iter(self._unclaimed.values()))[0] < now - 2 * self._seconds:
            self._unclaimed.popitem(last=False)[1][1].close()  # the caller is gone
        self._tickets = self._tickets % _TICKETS + 1
        ticket = str(
            ipaddress.IPv6Address(_TICKETS_V6 + self._tickets)
            if tunnel.family == socket.AF_INET6
            else ipaddress.IPv4Address(_TICKETS_V4 + self._tickets)
        )
        self._unclaimed[ticket] = now, tunnel
        return ticket


_ADVICE: Final = {
    ProxyFault.CREDENTIALS: ": it refuses egress_proxy_credentials, or requires credentials",
    ProxyFault.REFUSED: ": it refuses the tunnel; check its rules for ports and addresses",
}


class _KeptNames:
    """Caches the addresses of names that may be dialled, for some seconds. Concurrent callers share one look-up."""

    def __init__(self, resolver: GuardedResolver) -> None:
        self._resolver = resolver
        self._known: OrderedDict[str, tuple[float, list[str]]] = OrderedDict()
        self._asking: dict[str, asyncio.Task[list[str]]] = {}

    async def addresses(self, host: str) -> list[str]:
        known = self._known.get(host)
        if known is not None and time.monotonic() - known[0] < _KEPT_SECONDS:
            return known[1]
        asking = self._asking.get(host)
        if asking is None:
            asking = self._asking[host] = asyncio.get_running_loop().create_task(self._ask(host))
            asking.add_done_callback(_retrieve_error)
        return await asyncio.shield(asking)

    async def _ask(self, host: str) -> list[str]:
        try:
            found = [result["host"] for result in await self._resolver.resolve(host)]
            self._known[host] = time.monotonic(), found
            self._known.move_to_end(host)
            if len(self._known) > _KEPT_NAMES:
                self._known.popitem(last=False)
            return found
        finally:
            del self._asking[host]


def _retrieve_error(task: asyncio.Task[list[str]]) -> None:
    """Retrieve the error, in case all callers are gone."""
    if not task.cancelled():
        task.exception()


class _ProxyAddresses:
    """The addresses of the proxy. The operator chooses them, so the address guard does not apply."""

    def __init__(self, host: str) -> None:
        self._host = host
        self._known: tuple[float, Sequence[str]] | None = None

    async def addresses(self) -> Sequence[str]:
        if self._known is None or time.monotonic() - self._known[0] > _KEPT_SECONDS:
            self._known = time.monotonic(), await self._look_up()
        return self._known[1]

    async def _look_up(self) -> Sequence[str]:
        try:
            return [str(ipaddress.ip_address(self._host))]
        except ValueError:
            pass
        try:
            return await resolve_in_probe_thread(self._host)
        except OSError:
            if self._known is None:
                raise
            return self._known[1]  # most likely still valid
