"""Decides which addresses webhooks may be sent to: the protection against server-side request forgery.

The rule concerns the dialled address, never a name: names are resolved again for every connection, and may give a different
answer each time.

Sources: the IANA special-purpose address registries for IPv4 and IPv6 (RFC 6890 and its updates). For IPv6 forms that contain an
IPv4 address: RFC 4291 (mapped, compatible), RFC 2765 (translated), RFC 6052 and RFC 8215 (NAT64), RFC 3056 (6to4) and RFC 5214
(ISATAP).
"""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final

_CACHED_ADDRESSES: Final = 8192

# The first network that contains an address names it, so narrow networks come before wide ones.
_REFUSED_V4: Final = tuple(
    (IPv4Network(network), words)
    for network, words in (
        ("0.0.0.0/8", "an unspecified address"),
        ("10.0.0.0/8", "a private address"),
        ("100.64.0.0/10", "a carrier-grade NAT address"),
        ("127.0.0.0/8", "a loopback address"),
        ("168.63.129.16/32", "a cloud metadata address"),  # Azure's wire server: a public address, yet host-local.
        ("169.254.0.0/16", "a link-local address"),  # Includes the metadata services of most clouds.
        ("172.16.0.0/12", "a private address"),
        ("192.0.0.0/24", "a protocol assignment address"),
        ("192.0.2.0/24", "a documentation address"),
        ("192.88.99.0/24", "a 6to4 relay address"),
        ("192.168.0.0/16", "a private address"),
        ("198.18.0.0/15", "a benchmarking address"),
        ("198.51.100.0/24", "a documentation address"),
        ("203.0.113.0/24", "a documentation address"),
        ("224.0.0.0/4", "a multicast address"),
        ("255.255.255.255/32", "the broadcast address"),
        ("240.0.0.0/4", "a reserved address"),
    )
)

_REFUSED_V6: Final = tuple(
    (IPv6Network(network), words)
    for network, words in (
        ("::/128", "the unspecified address"),
        ("::1/128", "a loopback address"),
        ("64:ff9b:1::/48", "a local-use NAT64 address"),
        ("100::/64", "a discard-only address"),
        ("100:0:0:1::/64", "a dummy prefix address"),
        ("2001::/32", "a Teredo address"),
        ("2001:2::/48", "a benchmarking address"),
        ("2001:10::/28", "an ORCHID address"),
        ("2001:20::/28", "an ORCHID address"),
        ("2001::/23", "a protocol assignment address"),
        ("2001:db8::/32", "a documentation address"),
        ("3fff::/20", "a documentation address"),
        ("5f00::/16", "a segment routing address"),
        ("fc00::/7", "a unique local address"),
        ("fe80::/10", "a link-local address"),
        ("fec0::/10", "a site-local address"),
        ("ff00::/8", "a multicast address"),
    )
)

_GLOBAL_UNICAST: Final = IPv6Network("2000::/3")

# Networks whose last 32 bits are an IPv4 address. Only that IPv4 address is reached there.
_V4_IN_LAST_BITS: Final = (
    (IPv6Network("::ffff:0:0/96"), "the IPv4-mapped form"),
    (IPv6Network("::ffff:0:0:0/96"), "the IPv4-translated form"),
    (IPv6Network("64:ff9b::/96"), "the NAT64 form"),
    (IPv6Network("::/96"), "the IPv4-compatible form"),
)
_LOCAL_NAT64: Final = IPv6Network("64:ff9b:1::/48")
_SIX_TO_FOUR: Final = IPv6Network("2002::/16")
_ISATAP_MARKS: Final = (0x0000_5EFE, 0x0200_5EFE)


class AddressGuard:
    """Decides whether an IP address may be dialled. `allowed_networks` are always allowed (for development)."""

    def __init__(self, allowed_networks: Sequence[IPv4Network | IPv6Network] = ()) -> None:
        self._allowed = tuple(allowed_networks)
        # On the path of every new connection; an endpoint's addresses rarely change.
        self._cached_refusal = functools.lru_cache(maxsize=_CACHED_ADDRESSES)(self._judge)

    def refusal(self, address: str) -> str | None:
        """None if `address` may be dialled, otherwise what it is, in words: "a loopback address (127.0.0.0/8)".

        `address` is an IPv4 address of four decimal parts, or an IPv6 address, with or without a scope id. Anything else (a name,
        `127.1`) is refused, because it is unknown how a socket would interpret it.
        """
        return self._cached_refusal(address)

    def _judge(self, address: str) -> str | None:
        try:
            # A scope id only chooses the interface; the rule does not depend on it.
            ip = ipaddress.ip_address(address.partition("%")[0])
        except ValueError:
            return "not an IP address"
        return self._refusal_v4(ip) if isinstance(ip, IPv4Address) else self._refusal_v6(ip)

    def _is_allowed(self, ip: IPv4Address | IPv6Address) -> bool:
        return any(ip in network for network in self._allowed)

    def _refusal_v4(self, ip: IPv4Address) -> str | None:
        if self._is_allowed(ip):
            return None
        for network, words in _REFUSED_V4:
            if ip in network:
                return f"{words} ({network})"
        return None if ip.is_global else "an address that is not globally reachable"

    def _refusal_v6(self, ip: IPv6Address) -> str | None:
        if self._is_allowed(ip):
            return None
        if int(ip) > 1:  # Except :: and ::1, which lie in the IPv4-compatible network but mean something else.
            for network, form in _V4_IN_LAST_BITS:
                if ip in network:
                    return self._refusal_of_inner(int(ip) & 0xFFFF_FFFF, form)
        if ip in _SIX_TO_FOUR:
            refusal = self._refusal_of_inner(int(ip) >> 80 & 0xFFFF_FFFF, "the 6to4 form")
            return refusal or self._refusal_of_isatap(ip)
        for network, words in _REFUSED_V6:
            if ip in network:
                return f"{words} ({network})"
        if ip not in _GLOBAL_UNICAST:
            return f"not a global unicast address ({_GLOBAL_UNICAST})"
        return self._refusal_of_isatap(ip) or (None if ip.is_global else "an address that is not globally reachable")

    def _refusal_of_isatap(self, ip: IPv6Address) -> str | None:
        if int(ip) >> 32 & 0xFFFF_FFFF not in _ISATAP_MARKS:
            return None
        return self._refusal_of_inner(int(ip) & 0xFFFF_FFFF, "the ISATAP form")

    def _refusal_of_inner(self, inner: int, form: str) -> str | None:
        ip = IPv4Address(inner)
        refusal = self._refusal_v4(ip)
        return None if refusal is None else f"{form} of {ip}, {refusal}"


def describe_refusal(host: str, address: str, refusal: str) -> str:
    """A clause for the user: "hooks.example.com resolves to 10.0.0.5, which is a private address (10.0.0.0/8)"."""
    return f"{host} is {refusal}" if host == address else f"{host} resolves to {address}, which is {refusal}"
