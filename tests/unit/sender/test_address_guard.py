from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.sender.address_guard import AddressGuard, describe_refusal

GUARD = AddressGuard()

# Address, and a word of the reason; None for an address that may be dialled.
ADDRESSES: list[tuple[str, str | None]] = [
    # Public IPv4, including the neighbours of forbidden networks.
    ("1.0.0.0", None),
    ("1.1.1.1", None),
    ("8.8.8.8", None),
    ("9.9.9.9", None),
    ("9.255.255.255", None),
    ("11.0.0.0", None),
    ("93.184.216.34", None),
    ("100.63.255.255", None),
    ("100.128.0.0", None),
    ("126.255.255.255", None),
    ("128.0.0.0", None),
    ("140.82.112.3", None),
    ("168.63.129.15", None),
    ("168.63.129.17", None),
    ("169.253.255.255", None),
    ("169.255.0.0", None),
    ("172.15.255.255", None),
    ("172.32.0.0", None),
    ("191.255.255.255", None),
    ("192.0.1.0", None),
    ("192.0.3.0", None),
    ("192.88.98.255", None),
    ("192.88.100.0", None),
    ("192.167.255.255", None),
    ("192.169.0.0", None),
    ("198.17.255.255", None),
    ("198.20.0.0", None),
    ("198.51.99.255", None),
    ("198.51.101.0", None),
    ("203.0.112.255", None),
    ("203.0.114.0", None),
    ("223.255.255.255", None),
    # Forbidden IPv4.
    ("0.0.0.0", "unspecified address (0.0.0.0/8)"),
    ("0.0.0.1", "unspecified"),
    ("0.255.255.255", "unspecified"),
    ("10.0.0.0", "private address (10.0.0.0/8)"),
    ("10.0.0.5", "private"),
    ("10.255.255.255", "private"),
    ("100.64.0.0", "carrier-grade NAT"),
    ("100.100.100.200", "carrier-grade NAT"),  # Alibaba Cloud's metadata
    ("100.127.255.255", "carrier-grade NAT"),
    ("127.0.0.0", "loopback address (127.0.0.0/8)"),
    ("127.0.0.1", "loopback"),
    ("127.0.1.1", "loopback"),
    ("127.255.255.255", "loopback"),
    ("168.63.129.16", "metadata"),  # Azure's wire server
    ("169.254.0.0", "link-local"),
    ("169.254.169.254", "link-local"),  # AWS, GCP, Azure, Oracle and others
    ("169.254.170.2", "link-local"),  # AWS ECS
    ("169.254.255.255", "link-local"),
    ("172.16.0.0", "private"),
    ("172.17.0.1", "private"),
    ("172.31.255.255", "private"),
    ("192.0.0.0", "protocol assignment"),
    ("192.0.0.9", "protocol assignment"),
    ("192.0.0.170", "protocol assignment"),
    ("192.0.0.192", "protocol assignment"),  # Oracle Cloud's old metadata
    ("192.0.0.255", "protocol assignment"),
    ("192.0.2.0", "documentation"),
    ("192.0.2.255", "documentation"),
    ("192.88.99.0", "6to4 relay"),
    ("192.88.99.1", "6to4 relay"),
    ("192.168.0.0", "private"),
    ("192.168.1.1", "private"),
    ("192.168.255.255", "private"),
    ("198.18.0.0", "benchmarking"),
    ("198.19.255.255", "benchmarking"),
    ("198.51.100.0", "documentation"),
    ("198.51.100.255", "documentation"),
    ("203.0.113.0", "documentation"),
    ("203.0.113.255", "documentation"),
    ("224.0.0.0", "multicast"),
    ("224.0.0.1", "multicast"),
    ("239.255.255.255", "multicast"),
    ("240.0.0.0", "reserved"),
    ("255.255.255.254", "reserved"),
    ("255.255.255.255", "broadcast"),
    # Public IPv6.
    ("2001:200::1", None),
    ("2001:4860:4860::8888", None),
    ("2001:db7:ffff::1", None),
    ("2001:db9::1", None),
    ("2003::1", None),
    ("2400:cb00::1", None),
    ("2606:4700:4700::1111", None),
    ("2606:4700:4700:0:0:0:0:1111", None),
    ("2a00:1450:4001:82a::200e", None),
    ("2A00:1450:4001:82A::200E", None),
    ("3fff:1000::1", None),
    ("2600:1f00::1%eth0", None),
    # Forbidden IPv6.
    ("::", "unspecified"),
    ("::1", "loopback"),
    ("0:0:0:0:0:0:0:1", "loopback"),
    ("0000:0000:0000:0000:0000:0000:0000:0001", "loopback"),
    ("::1%lo", "loopback"),
    ("100::", "discard-only"),
    ("100::1", "discard-only"),
    ("100:0:0:1::1", "dummy"),
    ("2001::1", "Teredo"),
    ("2001:0:4136:e378:8000:63bf:3fff:fdd2", "Teredo"),
    ("2001:1::1", "protocol assignment"),
    ("2001:2::1", "benchmarking"),
    ("2001:3::1", "protocol assignment"),
    ("2001:4:112::1", "protocol assignment"),
    ("2001:10::1", "ORCHID"),
    ("2001:1f:ffff::1", "ORCHID"),
    ("2001:20::1", "ORCHID"),
    ("2001:2f:ffff::1", "ORCHID"),
    ("2001:30::1", "protocol assignment"),
    ("2001:1ff:ffff::1", "protocol assignment"),
    ("2001:db8::1", "documentation"),
    ("2001:db8:ffff:ffff::1", "documentation"),
    ("3fff::1", "documentation"),
    ("3fff:fff:ffff::1", "documentation"),
    ("5f00::1", "segment routing"),
    ("fc00::1", "unique local"),
    ("fd00:ec2::254", "unique local"),  # AWS's metadata
    ("fd20:ce::254", "unique local"),  # GCP's metadata
    ("fdff:ffff::1", "unique local"),
    ("fe80::1", "link-local"),
    ("fe80::1%eth0", "link-local"),
    ("fe80::a9fe:a9fe%2", "link-local"),  # OpenStack's metadata
    ("febf:ffff::1", "link-local"),
    ("fec0::1", "site-local"),
    ("feff:ffff::1", "site-local"),
    ("ff00::1", "multicast"),
    ("ff02::1", "multicast"),
    ("ff0e::1", "multicast"),
    ("ffff::1", "multicast"),
    ("1::1", "not a global unicast"),
    ("64:ff9a::1", "not a global unicast"),
    ("200::1", "not a global unicast"),
    ("400::1", "not a global unicast"),
    ("1fff::1", "not a global unicast"),
    ("4000::1", "not a global unicast"),
    ("8000::1", "not a global unicast"),
    ("e000::1", "not a global unicast"),
    ("fe00::1", "not a global unicast"),
    # IPv4 inside IPv6.
    ("::ffff:8.8.8.8", None),
    ("::ffff:808:808", None),
    ("::ffff:127.0.0.1", "IPv4-mapped form of 127.0.0.1, a loopback address (127.0.0.0/8)"),
    ("::ffff:7f00:1", "IPv4-mapped form of 127.0.0.1"),
    ("::FFFF:7F00:1", "IPv4-mapped form of 127.0.0.1"),
    ("::ffff:10.0.0.5%eth0", "IPv4-mapped form of 10.0.0.5, a private"),
    ("::ffff:169.254.169.254", "link-local"),
    ("::ffff:168.63.129.16", "metadata"),
    ("::ffff:0.0.0.0", "unspecified"),
    ("::ffff:0:10.0.0.5", "IPv4-translated form of 10.0.0.5, a private"),
    ("::ffff:0:8.8.8.8", None),
    ("::127.0.0.1", "IPv4-compatible form of 127.0.0.1"),
    ("::10.1.2.3", "IPv4-compatible form of 10.1.2.3"),
    ("::2", "IPv4-compatible form of 0.0.0.2"),
    ("::8.8.8.8", None),
    ("64:ff9b::8.8.8.8", None),
    ("64:ff9b::127.0.0.1", "NAT64 form of 127.0.0.1"),
    ("64:ff9b::a9fe:a9fe", "NAT64 form of 169.254.169.254"),
    ("64:ff9b::c0a8:101", "NAT64 form of 192.168.1.1"),
    ("64:ff9b:1::8.8.8.8", "local-use NAT64"),
    ("64:ff9b:1::10.0.0.5", "local-use NAT64"),
    ("64:ff9b:1:a00:5::", "local-use NAT64"),
    ("64:ff9b:1:ffff:ffff:ffff:ffff:ffff", "local-use NAT64"),
    ("2002:808:808::1", None),
    ("2002:7f00:1::1", "6to4 form of 127.0.0.1"),
    ("2002:a00:5::", "6to4 form of 10.0.0.5"),
    ("2002:a9fe:a9fe::1", "6to4 form of 169.254.169.254"),
    ("2002:c0a8:101:ffff::1", "6to4 form of 192.168.1.1"),
    ("2002:808:808::5efe:10.0.0.5", "ISATAP form of 10.0.0.5"),
    ("2606:4700::5efe:8.8.8.8", None),
    ("2606:4700::5efe:10.0.0.5", "ISATAP form of 10.0.0.5, a private"),
    ("2606:4700::200:5efe:127.0.0.1", "ISATAP form of 127.0.0.1"),
    ("2606:4700::200:5efe:808:808", None),
    # Texts that are no addresses, although a socket might take them for one.
    ("", "not an IP address"),
    ("localhost", "not an IP address"),
    ("hooks.example.com", "not an IP address"),
    ("127.1", "not an IP address"),
    ("2130706433", "not an IP address"),
    ("0x7f000001", "not an IP address"),
    ("0177.0.0.1", "not an IP address"),
    ("8.8.8.08", "not an IP address"),
    ("8.8.8.8.", "not an IP address"),
    ("8.8.8.8 ", "not an IP address"),
    ("[2606:4700::1]", "not an IP address"),
    ("8.8.8.8/32", "not an IP address"),
    ("\uff18.8.8.8", "not an IP address"),
    ("\u0668.8.8.8", "not an IP address"),
    ("::ffff:127.1", "not an IP address"),
    ("%eth0", "not an IP address"),
]

FORBIDDEN_V4 = [
    IPv4Network(network)
    for network in [
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "168.63.129.16/32",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
    ]
]
FORBIDDEN_V6 = [
    IPv6Network(network)
    for network in [
        "::/127",
        "64:ff9b:1::/48",
        "100::/64",
        "2001::/23",
        "2001:db8::/32",
        "3fff::/20",
        "5f00::/16",
        "fc00::/7",
        "fe80::/10",
        "fec0::/10",
        "ff00::/8",
    ]
]


def in_network(network: IPv4Network) -> st.SearchStrategy[IPv4Address]:
    return st.ip_addresses(v=4, network=network)  # type: ignore[return-value]


forbidden_v4 = st.sampled_from(FORBIDDEN_V4).flatmap(in_network)
forbidden_v6 = st.sampled_from(FORBIDDEN_V6).flatmap(lambda network: st.ip_addresses(v=6, network=network))
any_bits = st.integers(0, 2**64 - 1)


@pytest.mark.parametrize(("address", "words"), ADDRESSES)
def test_address(address: str, words: str | None) -> None:
    refusal = GUARD.refusal(address)
    if words is None:
        assert refusal is None
    else:
        assert refusal is not None
        assert words in refusal


def test_table_is_long_enough_and_has_no_duplicates() -> None:
    assert len(ADDRESSES) >= 150
    assert len({address for address, _ in ADDRESSES}) == len(ADDRESSES)


@given(forbidden_v4, st.integers(0, 2**80 - 1), any_bits)
def test_forbidden_ipv4_is_refused_in_every_form(inner: IPv4Address, low_80_bits: int, high_64_bits: int) -> None:
    value = int(inner)
    forms = [
        str(inner),
        str(IPv6Address(0xFFFF << 32 | value)),
        str(IPv6Address(0xFFFF << 48 | value)),
        str(IPv6Address(value)),
        str(IPv6Address(0x0064_FF9B << 96 | value)),
        str(IPv6Address(0x0064_FF9B_0001 << 80 | value)),
        str(IPv6Address(0x2002 << 112 | value << 80 | low_80_bits)),
        str(IPv6Address(high_64_bits << 64 | 0x0000_5EFE << 32 | value)),
        str(IPv6Address(high_64_bits << 64 | 0x0200_5EFE << 32 | value)),
    ]
    for form in forms:
        assert GUARD.refusal(form), form
        assert GUARD.refusal(IPv6Address(form).exploded if ":" in form else form), form


@given(forbidden_v6)
def test_forbidden_ipv6_is_refused(address: IPv6Address) -> None:
    assert GUARD.refusal(str(address))
    assert GUARD.refusal(f"{address}%eth0")


@given(st.ip_addresses())
def test_no_address_passes_that_python_calls_local(address: IPv4Address | IPv6Address) -> None:
    local = address.is_loopback or address.is_link_local or address.is_multicast or address.is_unspecified
    if local or (address.version == 4 and not address.is_global):
        assert GUARD.refusal(str(address))


@given(st.text(max_size=40))
def test_any_text_gets_an_answer(text: str) -> None:
    refusal = GUARD.refusal(text)
    assert refusal is None or refusal


def test_allowed_networks_permit_their_addresses_and_embedded_forms() -> None:
    guard = AddressGuard([ip_network("127.0.0.0/8"), ip_network("fd00:1::/32")])
    for opened in ("127.0.0.1", "::ffff:127.0.0.1", "64:ff9b::127.0.0.1", "2002:7f00:1::1", "fd00:1::5", "fd00:1::5%eth0"):
        assert guard.refusal(opened) is None, opened
    for closed in ("10.0.0.1", "::1", "::ffff:10.0.0.1", "169.254.169.254", "fd00:2::1", "64:ff9b:1::127.0.0.1", "0.0.0.0"):
        assert guard.refusal(closed), closed


def test_allowed_network_of_embedded_forms() -> None:
    guard = AddressGuard([ip_network("64:ff9b:1::/48")])
    assert guard.refusal("64:ff9b:1::8.8.8.8") is None
    assert guard.refusal("64:ff9b::127.0.0.1")


def test_answers_are_cached() -> None:
    guard = AddressGuard()
    assert guard.refusal("10.0.0.1") is guard.refusal("10.0.0.1")


def test_the_reason_for_the_user() -> None:
    refusal = GUARD.refusal("10.0.0.5")
    assert refusal == "a private address (10.0.0.0/8)"
    assert describe_refusal("10.0.0.5", "10.0.0.5", refusal) == "10.0.0.5 is a private address (10.0.0.0/8)"
    assert (
        describe_refusal("hooks.example.com", "10.0.0.5", refusal)
        == "hooks.example.com resolves to 10.0.0.5, which is a private address (10.0.0.0/8)"
    )
