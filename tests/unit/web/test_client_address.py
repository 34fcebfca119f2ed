from __future__ import annotations

from ipaddress import ip_network
from unittest.mock import Mock

import pytest
from aiohttp.test_utils import make_mocked_request

from pipeline.web.client_address import client_address

PROXIES = (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))


@pytest.mark.parametrize(
    ("peer", "forwarded", "proxies", "address"),
    [
        ("192.0.2.1", [], (), "192.0.2.1"),
        ("192.0.2.1", ["198.51.100.7"], PROXIES, "192.0.2.1"),
        ("10.0.0.1", ["198.51.100.7"], (), "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.7"], PROXIES, "198.51.100.7"),
        ("10.0.0.1", ["a lie, 198.51.100.7"], PROXIES, "198.51.100.7"),
        ("10.0.0.1", ["a lie", "198.51.100.7, 10.1.1.1"], PROXIES, "198.51.100.7"),
        ("fd00::1", ["2001:db8::7"], PROXIES, "2001:db8::7"),
        ("10.0.0.1", ["198.51.100.7:50123"], PROXIES, "198.51.100.7"),
        ("10.0.0.1", ["198.51.100.7:50123, 10.1.1.1:443"], PROXIES, "198.51.100.7"),
        ("10.0.0.1", ["[2001:db8::7]:50123"], PROXIES, "2001:db8::7"),
        ("10.0.0.1", ["[2001:db8::7]"], PROXIES, "2001:db8::7"),
        ("10.0.0.1", ["::ffff:198.51.100.7, ::ffff:10.1.1.1"], PROXIES, "198.51.100.7"),
        ("10.0.0.1", ["[nonsense]:1"], PROXIES, "[nonsense]:1"),
        ("10.0.0.1", [], PROXIES, "10.0.0.1"),
        ("10.0.0.1", ["nonsense"], PROXIES, "nonsense"),
        ("10.0.0.1", ["x" * 500], PROXIES, "x" * 100),
        (None, [], PROXIES, ""),
    ],
)
def test_forwarded_addresses_are_trusted_only_from_our_proxies(
    peer: str | None, forwarded: list[str], proxies: tuple[object, ...], address: str
) -> None:
    from multidict import CIMultiDict  # noqa: PLC0415

    headers = CIMultiDict([("X-Forwarded-For", value) for value in forwarded])
    transport = Mock()
    transport.get_extra_info.return_value = (peer, 1) if peer else None
    request = make_mocked_request("GET", "/", headers=headers, transport=transport).clone(remote=peer or "")

    assert client_address(request, proxies) == address  # type: ignore[arg-type]
