"""The rules for a target_url: which URLs may be registered, and how one is parsed when it is dialled.

Registration and delivery parse a URL with the same function, built on the HTTP client's own URL class, so that what is checked is
what is dialled. The address check at registration only helps the user to notice a mistake early; what counts is the check of the
dialled address (see `address_guard.py`).
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
from dataclasses import dataclass
from typing import Final

from yarl import URL

from pipeline.sender.address_guard import AddressGuard, describe_refusal
from pipeline.sender.dialler import Resolve, resolve_host

MAX_URL_CHARACTERS: Final = 2048
_RESOLVE_SECONDS: Final = 3.0
_MAX_NAME_CHARACTERS: Final = 253

# Lone surrogates cannot be encoded, but a JSON document can contain them.
_FORBIDDEN_CHARACTERS: Final = re.compile(r"[\s\x00-\x1f\x7f-\x9f\ud800-\udfff\\]")
_SCHEME_AND_AUTHORITY: Final = re.compile(r"(?i:https?)://([^/?]*)")
_HOST_AND_PORT: Final = re.compile(r"(\[[^\[\]]*\]|[^\[\]:]*)(?::([0-9]{1,5}))?")
_LABEL: Final = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")


class TargetUrlError(ValueError):
    """The URL cannot be a target. The message is one sentence for the user."""


@dataclass(frozen=True, slots=True)
class ParsedTarget:
    """A target_url as it is dialled. `host` is ASCII and lower case; an IPv6 address has no brackets.

    `address` is the IP address that the host means; None if the host is a name.
    """

    url: URL
    host: str
    port: int
    address: str | None


def parse_target_url(url: str) -> ParsedTarget:
    """Parse a target_url without any look-up. Raises `TargetUrlError`."""
    host, port = _split(url)
    try:
        parsed = URL(url)
    except ValueError as error:
        raise TargetUrlError(f"target_url has an invalid host: {host[:100]!r}.") from error
    if len(str(parsed)) > MAX_URL_CHARACTERS:
        raise TargetUrlError(f"target_url must not be longer than {MAX_URL_CHARACTERS} characters when encoded.")
    dialled_host, dialled_port = parsed.raw_host, parsed.port
    if not dialled_host or dialled_port is None or (port is not None and dialled_port != port):
        raise TargetUrlError("target_url must name a host, as in https://hooks.example.com/orders.")
    address = _ipv6_address(dialled_host) if host.startswith("[") else _ipv4_address(dialled_host)
    return ParsedTarget(parsed, dialled_host, dialled_port, address)


def _split(url: str) -> tuple[str, int | None]:
    """The host and the port as written. Refuses forms on which URL parsers are known to disagree."""
    if len(url) > MAX_URL_CHARACTERS:
        raise TargetUrlError(f"target_url must not be longer than {MAX_URL_CHARACTERS} characters.")
    if _FORBIDDEN_CHARACTERS.search(url):
        raise TargetUrlError("target_url must not contain spaces, line breaks, control characters or backslashes.")
    if "#" in url:
        raise TargetUrlError("target_url must not have a fragment (#…): it would not be sent.")
    start = _SCHEME_AND_AUTHORITY.match(url)
    if start is None:
        raise TargetUrlError("target_url must start with http:// or https://.")
    authority = start[1]
    if "@" in authority:
        raise TargetUrlError("target_url must not contain a user name or a password; use the endpoint's token instead.")
    parts = _HOST_AND_PORT.fullmatch(authority)
    if parts is None:
        raise TargetUrlError("target_url has an invalid host or port.")
    host, port = parts[1], parts[2]
    if not host:
        raise TargetUrlError("target_url must name a host, as in https://hooks.example.com/orders.")
    if port is not None and not 1 <= int(port) <= 65535:
        raise TargetUrlError(f"target_url has an invalid port: {port} is not between 1 and 65535.")
    return host, None if port is None else int(port)


def _ipv6_address(host: str) -> str:
    try:
        if "%" not in host:  # A scope id is meaningful on one machine only.
            return str(ipaddress.IPv6Address(host))
    except ValueError:
        pass
    raise TargetUrlError(f"target_url has an invalid IPv6 address: [{host[:100]}].")


def _ipv4_address(host: str) -> str | None:
    """The IPv4 address that a host means, in any form that `inet_aton` reads; None for a name."""
    name = host.removesuffix(".")
    labels = name.split(".")
    if _NUMBER.fullmatch(labels[-1]):
        # No top-level domain is a number, so this is an address or invalid (WHATWG URL standard).
        try:
            return socket.inet_ntoa(socket.inet_aton(name))
        except OSError:
            raise TargetUrlError(f"target_url has an invalid IPv4 address: {host[:100]}.") from None
    if len(name) > _MAX_NAME_CHARACTERS or not all(_LABEL.fullmatch(label) for label in labels):
        raise TargetUrlError(f"target_url has an invalid host name: {host[:100]!r}.")
    return None


def require_dotted_quad(target: ParsedTarget) -> None:
    """Refuse an IPv4 address that is not written as four decimal numbers: the HTTP client does not dial those."""
    if target.address is not None and target.address != target.host:
        raise TargetUrlError(f"target_url must write the address {target.host} as {target.address}.")


async def check_target_url(url: str, guard: AddressGuard, *, resolve: Resolve = resolve_host) -> None:
    """Check a URL that a user registers. Raises `TargetUrlError`.

    A name that does not resolve within three seconds is accepted: it may be added to DNS later, and the guard decides again
    whenever the endpoint is dialled.
    """
    target = parse_target_url(url)
    if target.address is not None:
        if refusal := guard.refusal(target.address):
            raise _unreachable(target.host, target.address, refusal)
        require_dotted_quad(target)
        return
    name = target.host.removesuffix(".")
    if name == "localhost" or name.endswith(".localhost"):
        if refusal := guard.refusal("127.0.0.1"):
            raise _unreachable(target.host, "127.0.0.1", refusal)
        return
    try:
        addresses = await asyncio.wait_for(resolve(target.host), _RESOLVE_SECONDS)
    except OSError:  # Does not resolve, or (TimeoutError) not in time.
        return
    for address in addresses:
        if refusal := guard.refusal(address):
            raise _unreachable(target.host, address, refusal)


def _unreachable(host: str, address: str, refusal: str) -> TargetUrlError:
    return TargetUrlError(f"target_url must be reachable from the public internet: {describe_refusal(host, address, refusal)}.")
