"""The CONNECT request to an egress proxy, and what its answers mean."""

from __future__ import annotations

import pytest

from pipeline.core.egress_proxy import ProxyFault, egress_proxy, fault_of, read_answer


def test_the_request_contains_only_the_address() -> None:
    proxy = egress_proxy("http://proxy.internal:3128")
    assert proxy.connect_request("203.0.113.9", 443) == b"CONNECT 203.0.113.9:443 HTTP/1.1\r\nHost: 203.0.113.9:443\r\n\r\n"
    assert proxy.connect_request("2001:db8::1", 80).startswith(b"CONNECT [2001:db8::1]:80 HTTP/1.1\r\nHost: [2001:db8::1]:80\r\n")


def test_credentials_are_basic_in_utf_8() -> None:
    proxy = egress_proxy("http://proxy.internal:3128/", "oms:p:ä")
    assert b"\r\nProxy-Authorization: Basic b21zOnA6w6Q=\r\n" in proxy.connect_request("203.0.113.9", 443)
    assert "b21z" not in repr(proxy)


@pytest.mark.parametrize(
    ("url", "host", "port"),
    [("http://p:1", "p", 1), ("http://[fd00::1]:3128", "fd00::1", 3128), ("http://10.0.0.7:65535/", "10.0.0.7", 65535)],
)
def test_the_address_of_the_proxy(url: str, host: str, port: int) -> None:
    proxy = egress_proxy(url)
    assert (proxy.host, proxy.port) == (host, port)
    assert proxy.name == url.removeprefix("http://").removesuffix("/")


@pytest.mark.parametrize(
    "url",
    [
        *("", "proxy:3128", "https://proxy:3128", "http://proxy", "http://proxy:0", "http://proxy:65536", "http://a:b@proxy:1"),
        *(
            "http://proxy:3128/path",
            "http://proxy:3128?a",
            "http://proxy:3128\r\n",
            "http://pro xy:1",
            "socks5://p:1",
            "http://:1",
        ),
        "http://" + "a" * 300 + ":1",
    ],
)
def test_invalid_proxies(url: str) -> None:
    with pytest.raises(ValueError, match="must look like http://"):
        egress_proxy(url)


@pytest.mark.parametrize("credentials", ["", "oms", ":password", "oms:a\nb", "oms:\x00", "oms:\ud800"])
def test_invalid_credentials(credentials: str) -> None:
    with pytest.raises(ValueError, match="user name, a colon and a password"):
        egress_proxy("http://proxy:1", credentials)


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"HTTP/1.1 200 Connection established\r\n\r\n", 200),
        (b"HTTP/1.0 407 \r\n", 407),
        (b"HTTP/1.1 204\r\n", 204),
        (b"HTTP/2 200\r\n", None),
        (b"HTTP/1.1 20\r\n", None),
        (b"HTTP/1.1 2000\r\n", None),
        (b"SSH-2.0\r\n", None),
        (b"", None),
    ],
)
def test_the_status_is_parsed(head: bytes, status: int | None) -> None:
    assert read_answer(head) == status


@pytest.mark.parametrize(
    ("statuses", "fault"),
    [
        ((200, 204, 299), None),
        ((407,), ProxyFault.CREDENTIALS),
        ((500, 502, 503, 504), ProxyFault.NO_TARGET),
        ((100, 301, 400, 401, 403, 404, 405, 429, 501), ProxyFault.REFUSED),
    ],
)
def test_what_a_status_means(statuses: tuple[int, ...], fault: ProxyFault | None) -> None:
    assert {fault_of(status) for status in statuses} == {fault}
