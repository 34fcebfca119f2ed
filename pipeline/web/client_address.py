"""The address of a client: the peer's own or, behind one of our reverse proxies, the one that the proxy reports."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address

from aiohttp import web

Networks = Sequence[IPv4Network | IPv6Network]


def client_address(request: web.Request, proxies: Networks) -> str:
    """The last address on the way here that is not one of our proxies. Earlier addresses could be forged."""
    forwarded = [part.strip() for value in request.headers.getall("X-Forwarded-For", []) for part in value.split(",")]
    address = request.remote or ""
    while forwarded and _is_in(address, proxies):
        address = forwarded.pop()
    return address[:100]


def _is_in(address: str, networks: Networks) -> bool:
    try:
        return any(ip_address(address) in network for network in networks)
    except ValueError:
        return False
