from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Sequence
from ipaddress import ip_network
from urllib.parse import urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from yarl import URL

from pipeline.sender import target_url
from pipeline.sender.address_guard import AddressGuard
from pipeline.sender.dialler import Resolve
from pipeline.sender.target_url import MAX_URL_CHARACTERS, TargetUrlError, check_target_url, parse_target_url

GUARD = AddressGuard()
PUBLIC = ["93.184.216.34", "2606:2800:220:1:248:1893:25c8:1946"]

# URL, the host and port that are dialled, and the address that the host stands for.
READABLE: list[tuple[str, str, int, str | None]] = [
    ("https://hooks.example.com", "hooks.example.com", 443, None),
    ("http://hooks.example.com", "hooks.example.com", 80, None),
    ("HTTPS://Hooks.Example.COM/Path", "hooks.example.com", 443, None),
    ("https://hooks.example.com:8443/a/b?c=d&e=%20", "hooks.example.com", 8443, None),
    ("https://hooks.example.com:443", "hooks.example.com", 443, None),
    ("https://hooks.example.com?x=1", "hooks.example.com", 443, None),
    ("http://hooks.example.com:1/", "hooks.example.com", 1, None),
    ("http://hooks.example.com:65535/", "hooks.example.com", 65535, None),
    ("http://hooks.example.com:00080/", "hooks.example.com", 80, None),
    ("https://hooks.example.com./a", "hooks.example.com.", 443, None),
    ("https://a/", "a", 443, None),
    ("https://my_service.internal-1/", "my_service.internal-1", 443, None),
    ("https://1.example/", "1.example", 443, None),
    ("https://0xg.example.com/", "0xg.example.com", 443, None),
    ("https://1e100.net/", "1e100.net", 443, None),
    ("https://example.com/@user:pass@x", "example.com", 443, None),
    ("https://example.com/?u=http://u:p@h/", "example.com", 443, None),
    ("https://m\u00fcnchen.example/\u00fc", "xn--mnchen-3ya.example", 443, None),
    ("https://xn--mnchen-3ya.example/", "xn--mnchen-3ya.example", 443, None),
    ("https://fa\u00df.example/", "xn--fa-hia.example", 443, None),
    ("https://\u4f8b\u3048.jp", "xn--r8jz45g.jp", 443, None),
    ("https://example\u3002com/", "example.com", 443, None),
    ("https://\uff45xample.com/", "example.com", 443, None),
    ("https://localhost:8080/", "localhost", 8080, None),
    ("https://8.8.8.8/", "8.8.8.8", 443, "8.8.8.8"),
    ("http://127.0.0.1:9/", "127.0.0.1", 9, "127.0.0.1"),
    ("http://127.0.0.1./", "127.0.0.1.", 80, "127.0.0.1"),
    ("http://2130706433/", "2130706433", 80, "127.0.0.1"),
    ("http://0x7f000001/", "0x7f000001", 80, "127.0.0.1"),
    ("http://0x7F.1/", "0x7f.1", 80, "127.0.0.1"),
    ("http://0X7f.0x0.0x0.0x1/", "0x7f.0x0.0x0.0x1", 80, "127.0.0.1"),
    ("http://0177.0.0.1/", "0177.0.0.1", 80, "127.0.0.1"),
    ("http://017700000001/", "017700000001", 80, "127.0.0.1"),
    ("http://127.1/", "127.1", 80, "127.0.0.1"),
    ("http://127.0.1/", "127.0.1", 80, "127.0.0.1"),
    ("http://0/", "0", 80, "0.0.0.0"),
    ("http://010.8.8.8/", "010.8.8.8", 80, "8.8.8.8"),
    ("http://134744072/", "134744072", 80, "8.8.8.8"),
    ("http://\uff11\uff12\uff17.0.0.1/", "127.0.0.1", 80, "127.0.0.1"),
    ("http://127\u30020\u30020\u30021/", "127.0.0.1", 80, "127.0.0.1"),
    ("http://\u2460\u2461\u2466.0.0.1/", "127.0.0.1", 80, "127.0.0.1"),
    ("http://[::1]/", "::1", 80, "::1"),
    ("http://[::1]:8080/", "::1", 8080, "::1"),
    ("http://[0:0::0:1]/", "::1", 80, "::1"),
    ("http://[::ffff:127.0.0.1]/", "::ffff:7f00:1", 80, "::ffff:7f00:1"),
    ("https://[2606:4700:4700::1111]/", "2606:4700:4700::1111", 443, "2606:4700:4700::1111"),
]

UNREADABLE: list[tuple[str, str]] = [
    ("", "http:// or https://"),
    ("hooks.example.com", "http:// or https://"),
    ("//hooks.example.com/", "http:// or https://"),
    ("/hooks", "http:// or https://"),
    ("http:hooks.example.com", "http:// or https://"),
    ("http:/hooks.example.com", "http:// or https://"),
    ("ftp://hooks.example.com/", "http:// or https://"),
    ("file:///etc/passwd", "http:// or https://"),
    ("gopher://hooks.example.com/", "http:// or https://"),
    ("javascript:alert(1)", "http:// or https://"),
    ("httpss://hooks.example.com/", "http:// or https://"),
    ("view-source:http://hooks.example.com/", "http:// or https://"),
    ("http://", "host"),
    ("http:///path", "host"),
    ("http://?a=b", "host"),
    ("http://:80/", "host"),
    ("http://.", "host name"),
    ("http://./", "host name"),
    ("http://example..com/", "host name"),
    ("http://example.com../", "host name"),
    ("http://.example.com/", "host name"),
    ("http://-example.com/", "host name"),
    ("http://example-.com/", "host name"),
    ("http://exa%6dple.com/", "host name"),
    ("http://example.com%2f@evil.com/", "user name"),
    ("http://exam!ple.com/", "host name"),
    ("http://example.com;x/", "host name"),
    ("http://example.com,evil.com/", "host name"),
    ("http://*.example.com/", "host name"),
    (f"http://{'a' * 64}.com/", "host name"),
    (f"http://{'a.' * 127}com/", "host name"),
    ("http://exam\u200bple.com/", "host"),
    ("http://exam\u00adple.com/", "host"),
    ("http://example.com\uff0fevil.com/", "host"),
    ("http://example.com\u2100/", "host"),
    ("http://user@example.com/", "user name"),
    ("http://user:pass@example.com/", "user name"),
    ("http://@example.com/", "user name"),
    ("http://example.com:80@evil.com/", "user name"),
    ("http://example.com/#fragment", "fragment"),
    ("http://example.com#@evil.com/", "fragment"),
    ("http://example.com/a b", "spaces"),
    (" http://example.com/", "spaces"),
    ("http://example.com/ ", "spaces"),
    ("http://example.com/\r\nHost: evil", "line breaks"),
    ("http://exam\tple.com/", "control"),
    ("http://example.com/\x00", "control"),
    ("http://example.com/\x7f", "control"),
    ("http://example.com/\x85", "control"),
    ("http://example.com/\u2028", "spaces"),
    ("http://example.com/\u00a0", "spaces"),
    ("http://example.com/\ud800", "control"),
    ("http://example.com\\@evil.com/", "backslashes"),
    ("http:\\\\example.com/", "backslashes"),
    ("http://example.com/\\evil", "backslashes"),
    ("http://example.com:0/", "port"),
    ("http://example.com:65536/", "port"),
    ("http://example.com:99999/", "port"),
    ("http://example.com:/", "port"),
    ("http://example.com:+80/", "port"),
    ("http://example.com:-80/", "port"),
    ("http://example.com:8_0/", "port"),
    ("http://example.com:\uff18\uff10/", "port"),
    ("http://example.com:80:80/", "port"),
    ("http://example.com:http/", "port"),
    ("http://::1/", "port"),
    ("http://[::1/", "port"),
    ("http://::1]/", "port"),
    ("http://[::1]evil.com/", "port"),
    ("http://evil.com[::1]/", "port"),
    ("http://[]/", "host"),
    ("http://[1:2]/", "IPv6"),
    ("http://[127.0.0.1]/", "host"),
    ("http://[v1.x]/", "IPv6"),
    ("http://[fe80::1%25eth0]/", "IPv6"),
    ("http://[::1%eth0]/", "IPv6"),
    ("http://256.256.256.256/", "IPv4"),
    ("http://1.2.3.4.5/", "IPv4"),
    ("http://4294967296/", "IPv4"),
    ("http://0x/", "IPv4"),
    ("http://09.1.1.1/", "IPv4"),
    ("http://example.123/", "IPv4"),
    ("http://example.0x7f/", "IPv4"),
    ("http://1.2.3.4../", "host name"),
    (f"http://example.com/{'a' * MAX_URL_CHARACTERS}", "longer"),
    ("http://example.com/" + "\u4f8b" * 700, "longer"),
]


@pytest.mark.parametrize(("url", "host", "port", "address"), READABLE)
def test_url_is_parsed_as_it_is_dialled(url: str, host: str, port: int, address: str | None) -> None:
    parsed = parse_target_url(url)
    assert (parsed.host, parsed.port, parsed.address) == (host, port, address)
    assert (URL(url).raw_host, URL(url).port) == (host, port)
    assert parsed.url == URL(url)


@pytest.mark.parametrize(("url", "words"), UNREADABLE)
def test_url_is_refused(url: str, words: str) -> None:
    with pytest.raises(TargetUrlError) as refused:
        parse_target_url(url)
    message = str(refused.value)
    assert words in message
    assert message.startswith("target_url ")
    assert message.endswith(".")
    assert message.isprintable()
    assert len(message) < 300


def test_longest_url() -> None:
    start = "https://example.com/"
    parse_target_url(start + "a" * (MAX_URL_CHARACTERS - len(start)))


hosts = st.one_of(
    st.from_regex(r"[a-zA-Z0-9.\-_]{1,20}", fullmatch=True),
    st.from_regex(r"(0x)?[0-9a-f]{1,9}(\.(0x)?[0-9a-f]{1,4}){0,4}\.?", fullmatch=True),
    st.ip_addresses(v=6).map(lambda address: f"[{address}]"),
    st.ip_addresses(v=4).map(str),
    st.text(min_size=1, max_size=12),
)
urls = st.builds(
    "{}://{}{}{}".format,
    st.sampled_from(["http", "https", "HTTP"]),
    hosts,
    st.one_of(st.just(""), st.integers(0, 70000).map(lambda port: f":{port}"), st.text(max_size=5)),
    st.one_of(st.just(""), st.just("/"), st.text(max_size=20).map(lambda text: f"/{text}")),
)


@given(urls)
@example("http://0x7f.1/")
@example("http://\u2488.example/")
def test_accepted_urls_are_unambiguous(url: str) -> None:
    try:
        parsed = parse_target_url(url)
    except TargetUrlError:
        return
    again = URL(str(parsed.url))
    assert (again.raw_host, again.port) == (parsed.host, parsed.port)
    assert 1 <= parsed.port <= 65535
    assert parsed.host.isascii()
    assert parsed.url.user is parsed.url.password is None
    if parsed.address is not None:
        ipaddress.ip_address(parsed.address)
    else:
        # Anything that a socket could read as an address must have been recognized as one.
        with pytest.raises(OSError, match="illegal IP address"):
            socket.inet_aton(parsed.host)
        assert ":" not in parsed.host
    if url.isascii():
        split = urlsplit(url)
        written = split.hostname or ""
        assert parsed.host == (str(ipaddress.ip_address(written)) if ":" in written else written)
        assert split.port in (None, parsed.port)


def resolving_to(*addresses: str) -> Resolve:
    async def resolve(host: str) -> Sequence[str]:
        return addresses

    return resolve


async def resolving_is_not_needed(host: str) -> Sequence[str]:
    raise AssertionError(f"{host} was looked up")


async def test_name_with_public_addresses_passes() -> None:
    await check_target_url("https://hooks.example.com/a", GUARD, resolve=resolving_to(*PUBLIC))


@pytest.mark.parametrize("url", ["https://8.8.8.8/", "https://[2606:4700:4700::1111]:8443/a", "https://[::ffff:808:808]/"])
async def test_public_address_passes(url: str) -> None:
    await check_target_url(url, GUARD, resolve=resolving_is_not_needed)


@pytest.mark.parametrize(("url", "_host", "_port", "address"), [row for row in READABLE if row[3]])
async def test_address_is_judged_in_any_form(url: str, _host: str, _port: int, address: str) -> None:
    if refusal := GUARD.refusal(address):
        with pytest.raises(TargetUrlError) as refused:
            await check_target_url(url, GUARD, resolve=resolving_is_not_needed)
        assert refusal in str(refused.value)


@pytest.mark.parametrize("url", ["http://134744072/", "http://010.8.8.8/", "http://8.8.8.8./", "http://0x08.8.8.8/"])
async def test_public_address_must_be_written_plainly(url: str) -> None:
    with pytest.raises(TargetUrlError, match=r"as 8\.8\.8\.8"):
        await check_target_url(url, GUARD, resolve=resolving_is_not_needed)


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost/",
        "http://LOCALHOST:8080/",
        "http://localhost./",
        "http://a.localhost/",
        "http://\u24db\u24deca\u24dbhost/",
    ],
)
async def test_localhost_is_refused_without_a_look_up(url: str) -> None:
    with pytest.raises(TargetUrlError, match=r"127\.0\.0\.1, which is a loopback address"):
        await check_target_url(url, GUARD, resolve=resolving_is_not_needed)


async def test_localhost_passes_in_development() -> None:
    guard = AddressGuard([ip_network("127.0.0.0/8")])
    await check_target_url("http://localhost:8080/", guard, resolve=resolving_is_not_needed)
    await check_target_url("http://127.0.0.1:8080/", guard, resolve=resolving_is_not_needed)


@pytest.mark.parametrize("forbidden", ["10.0.0.5", "127.0.0.1", "169.254.169.254", "::1", "::ffff:10.0.0.5", "fd00::1"])
async def test_name_with_any_forbidden_address_is_refused(forbidden: str) -> None:
    with pytest.raises(TargetUrlError) as refused:
        await check_target_url("https://hooks.example.com/", GUARD, resolve=resolving_to(*PUBLIC, forbidden))
    assert f"hooks.example.com resolves to {forbidden}, which is " in str(refused.value)


async def test_name_that_does_not_resolve_passes() -> None:
    async def resolve(host: str) -> Sequence[str]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    await check_target_url("https://not-yet.example.com/", GUARD, resolve=resolve)
    await check_target_url("https://not-yet.example.com/", GUARD, resolve=resolving_to())


async def test_silent_name_server_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    async def resolve(host: str) -> Sequence[str]:
        await asyncio.Event().wait()
        return []

    monkeypatch.setattr(target_url, "_RESOLVE_SECONDS", 0.05)
    async with asyncio.timeout(60):
        await check_target_url("https://slow.example.com/", GUARD, resolve=resolve)


async def test_system_resolver_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    def getaddrinfo(host: str, *_: object, **__: object) -> list[tuple[object, ...]]:
        assert host == "hooks.example.com"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("10.0.0.5", 0))]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    with pytest.raises(TargetUrlError, match="private address"):
        await check_target_url("https://hooks.example.com/", GUARD)
