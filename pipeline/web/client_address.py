"""The address of a client: the peer's own or, behind one of our reverse proxies, the one that the proxy reports."""

from __future__ import annotations

import re
from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final

from aiohttp import web

Networks = Sequence[IPv4Network | IPv6Network]
_PORT: Final = re.compile(r"(?<=[0-9]):[0-9]{1,5}\Z")


def client_address(request: web.Request, proxies: Networks) -> str:
    """The last address on the way here that is not one of our proxies. Earlier addresses could be forged."""
    forwarded = [part.strip() for value in request.headers.getall("X-Forwarded-For", []) for part in value.split(",")]
    address = request.remote or ""
    while forwarded and _is_in(address, proxies):
        address = _plain(forwarded.pop())
    return address[:100]


def _plain(reported: str) -> str:
    """An address as a proxy reports it, without a port: with one, each connection would count as another client.

    ``::ffff:192.0.2.1`` is how servers with one socket for both families see an IPv4 address.
    """
    host, bracket, _ = reported.removeprefix("[").partition("]")
    address = host if bracket or reported.count(":") != 1 else _PORT.sub("", reported)
    try:
        ip = ip_address(address)
    except ValueError:
        return reported
    return str((isinstance(ip, IPv6Address) and ip.ipv4_mapped) or ip)


def _is_in(address: str, networks: Networks) -> bool:
    try:
        return any(ip_address(address) in network for network in networks)
    except ValueError:
        return False
