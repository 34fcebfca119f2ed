"""Requests through an egress proxy: only to addresses that the guard accepts, with TLS verified and faults attributed correctly."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Sequence
from ipaddress import ip_network

import pytest
import trustme

from consumers.wiring import egress_proxy_question
from pipeline.core.egress_proxy import EgressProxy, egress_proxy
from pipeline.core.exchange import Exchange, Failure, Request, Response
from pipeline.core.local_faults import LocalFault, NotSent
from pipeline.core.token_response import TokenRequest
from pipeline.delivery.access_tokens import AccessTokens
from pipeline.ops.dependency_probes import Probe
from pipeline.ops.settings import Settings
from pipeline.sender import tunnels
from pipeline.sender.address_guard import AddressGuard
from pipeline.sender.client import EgressRoute, Sender
from pipeline.sender.egress_proxy_check import egress_proxy_finding
from pipeline.sender.limits import SenderLimits
from tests.contract.connect_proxy import ESTABLISHED, answer, proxying
from tests.contract.http_endpoint import (
    EMPTY_OK,
    OK,
    PATIENT,
    QUICK,
    Behaviour,
    answered,
    answering,
    failed,
    not_sent,
    on_each_loop,
    read_request,
    serving,
    trusting,
)
from tests.waiting import until

pytestmark = pytest.mark.usefixtures("each_wire")

PUBLIC = "93.184.216.34"
"""A public address. The proxy maps it to loopback: nothing leaves this machine."""
PUBLIC_V6 = "2606:2800:220:1:248:1893:25c8:1946"
GUARD = AddressGuard()


async def public(host: str) -> Sequence[str]:
    return [PUBLIC]


@contextlib.asynccontextmanager
async def sending(proxy: EgressProxy, limits: SenderLimits = PATIENT, **options: object) -> AsyncIterator[Sender]:
    options = {"guard": GUARD, "resolve": public} | options
    async with Sender(limits, egress=EgressRoute(proxy), **options) as sender:  # type: ignore[arg-type]
        yield sender


async def send(sender: Sender, url: str) -> Exchange | NotSent:
    return await sender.post(Request(url, {"x-event": "1"}, b'{"a": 1}'))


def saying(seen: list[list[str]]) -> Behaviour:
    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head, body = await read_request(reader)
            seen.append([*head, body.decode()])
            writer.write(OK + b"Content-Length: 5\r\n\r\nthere")

    return behave


def identity(authority: trustme.CA, *names: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names).configure_cert(context)
    return context


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


# The tunnel


@pytest.mark.parametrize(
    ("host", "named"),
    [("hooks.example.com", PUBLIC), (PUBLIC, PUBLIC), (f"[{PUBLIC_V6}]", f"[{PUBLIC_V6}]")],
)
@on_each_loop
async def test_a_plain_request_goes_through_a_tunnel_to_the_address(host: str, named: str) -> None:
    seen: list[list[str]] = []
    async with (
        serving(saying(seen)) as endpoint,
        proxying(routes={f"{named}:8080": endpoint.port}) as proxy,
        sending(proxy.settings()) as sender,
    ):
        response = answered(await send(sender, f"http://{host}:8080/hook?a=b"))
        assert response.body == b"there"
    assert proxy.asked == [f"{named}:8080"]
    assert proxy.heads == [f"CONNECT {named}:8080 HTTP/1.1\r\nHost: {named}:8080\r\n\r\n".encode()]
    [[line, *headers, body]] = seen
    assert line == "POST /hook?a=b HTTP/1.1"
    assert f"Host: {host}:8080" in headers
    assert "x-event: 1" in headers
    assert body == '{"a": 1}'


@on_each_loop
async def test_tls_inside_the_tunnel_verifies_the_target_host(authority: trustme.CA) -> None:
    tls = identity(authority, "hooks.example.com", PUBLIC)
    async with (
        serving(answering(EMPTY_OK), tls) as endpoint,
        proxying(routes={f"{PUBLIC}:443": endpoint.port}) as proxy,
        sending(proxy.settings(), ssl_context=trusting(authority)) as sender,
    ):
        for host in ("hooks.example.com", "hooks.example.com.", PUBLIC):
            answered(await send(sender, f"https://{host}/"))
        failed(await send(sender, "https://other.example.com/"), Failure.TLS, "another host name", "other.example.com")
    assert set(proxy.asked) == {f"{PUBLIC}:443"}


@on_each_loop
async def test_a_certificate_for_another_address_is_refused(authority: trustme.CA) -> None:
    tls = identity(authority, "198.41.0.4")
    async with (
        serving(answering(EMPTY_OK), tls) as endpoint,
        proxying(routes={f"{PUBLIC}:443": endpoint.port}) as proxy,
        sending(proxy.settings(), ssl_context=trusting(authority)) as sender,
    ):
        failed(await send(sender, f"https://{PUBLIC}/"), Failure.TLS, "not for this IP address")


@on_each_loop
async def test_connections_are_reused() -> None:
    async with (
        serving(answering(EMPTY_OK)) as endpoint,
        proxying(routes={f"{PUBLIC}:80": endpoint.port}) as proxy,
        sending(proxy.settings()) as sender,
    ):
        for _ in range(3):
            answered(await send(sender, "http://hooks.example.com/"))
        answered(await send(sender, "http://other.example.com/"))  # the same address, but its own tunnel
    assert len(proxy.asked) == 2


@on_each_loop
async def test_many_requests_at_once() -> None:
    async with (
        serving(answering(EMPTY_OK)) as endpoint,
        proxying(routes={f"{PUBLIC}:80": endpoint.port}) as proxy,
        sending(proxy.settings()) as sender,
    ):
        for outcome in await asyncio.gather(*(send(sender, f"http://h{n % 7}.example.com/") for n in range(40))):
            answered(outcome)


@on_each_loop
async def test_a_large_body_goes_through() -> None:
    seen: list[list[str]] = []
    async with (
        serving(saying(seen)) as endpoint,
        proxying(routes={f"{PUBLIC}:80": endpoint.port}) as proxy,
        sending(proxy.settings()) as sender,
    ):
        answered(await sender.post(Request("http://hooks.example.com/", {}, b"x" * 300_000)))
    assert len(seen[0][-1]) == 300_000


@on_each_loop
async def test_the_next_address_is_tried_if_the_proxy_cannot_reach_the_first() -> None:
    async def two(host: str) -> Sequence[str]:
        return [PUBLIC_V6, PUBLIC]

    async with serving(answering(EMPTY_OK)) as endpoint:
        told = {f"[{PUBLIC_V6}]:80": answer(503)}
        async with (
            proxying(routes={f"{PUBLIC}:80": endpoint.port}, answers=told) as proxy,
            sending(proxy.settings(), resolve=two) as sender,
        ):
            answered(await send(sender, "http://hooks.example.com/"))
    assert proxy.asked == [f"[{PUBLIC_V6}]:80", f"{PUBLIC}:80"]


# The guard


@pytest.mark.parametrize("host", ["127.0.0.1", "169.254.169.254", "[::1]", "[::ffff:10.0.0.1]", "2130706433"])
@on_each_loop
async def test_a_forbidden_address_is_never_sent_to_the_proxy(host: str) -> None:
    async with proxying() as proxy, sending(proxy.settings()) as sender:
        outcome = await send(sender, f"http://{host}/")
        failed(outcome, Failure.BLOCKED_ADDRESS)
    assert proxy.asked == []


@on_each_loop
async def test_a_rebinding_name_is_not_followed() -> None:
    """Each port needs a new connection and a new look-up, as none is cached here."""
    answers = iter([[PUBLIC], ["169.254.169.254"], ["10.0.0.1", "127.0.0.1"], ["10.0.0.1", PUBLIC]])

    async def rebinding(host: str) -> Sequence[str]:
        return next(answers)

    async with serving(answering(EMPTY_OK)) as endpoint:
        routes = {f"{PUBLIC}:{port}": endpoint.port for port in range(80, 84)}
        async with proxying(routes=routes) as proxy, sending(proxy.settings(), resolve=rebinding) as sender:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(tunnels, "_KEPT_SECONDS", 0.0)
                answered(await send(sender, "http://rebind.example.com:80/"))
                outcome = await send(sender, "http://rebind.example.com:81/")
                failed(outcome, Failure.BLOCKED_ADDRESS, "169.254.169.254", "link-local")
                failed(await send(sender, "http://rebind.example.com:82/"), Failure.BLOCKED_ADDRESS, "10.0.0.1")
                answered(await send(sender, "http://rebind.example.com:83/"))
    assert proxy.asked == [f"{PUBLIC}:80", f"{PUBLIC}:83"]


@on_each_loop
async def test_a_look_up_is_shared_and_cached() -> None:
    asked: list[str] = []

    async def counting(host: str) -> Sequence[str]:
        asked.append(host)
        await asyncio.sleep(0)
        return [PUBLIC]

    async with proxying(everybody=answer(502)) as proxy, sending(proxy.settings(), resolve=counting) as sender:
        await asyncio.gather(*(send(sender, "http://a.example.com/") for _ in range(5)))
        await send(sender, "http://a.example.com/")
    assert asked == ["a.example.com", "example.com"]  # the second is the probe name


@on_each_loop
async def test_the_proxy_may_have_a_private_address_but_no_endpoint_may() -> None:
    async with proxying() as proxy, sending(proxy.settings()) as sender:
        failed(await send(sender, f"http://127.0.0.1:{proxy.port}/"), Failure.BLOCKED_ADDRESS)
    assert proxy.asked == []


@on_each_loop
async def test_allowed_networks_can_be_reached_through_the_proxy() -> None:
    async with (
        serving(answering(EMPTY_OK)) as endpoint,
        proxying() as proxy,
        sending(proxy.settings(), guard=AddressGuard([ip_network("127.0.0.0/8")])) as sender,
    ):
        answered(await send(sender, endpoint.url()))
    assert proxy.asked == [f"127.0.0.1:{endpoint.port}"]


# The proxy's credentials


@on_each_loop
async def test_the_proxy_gets_its_credentials(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> None:
    caplog.set_level(logging.DEBUG)
    async with serving(answering(EMPTY_OK)) as endpoint:
        routes = {f"{PUBLIC}:80": endpoint.port}
        async with proxying(routes=routes, wanted=b"Basic b21zOmh1bnRlcjI6w6Q=") as proxy:
            async with sending(proxy.settings("oms:hunter2:ä")) as sender:
                answered(await send(sender, "http://hooks.example.com/"))
            for wrong in ("oms:hunter3", None):
                async with sending(proxy.settings(wrong)) as sender:
                    outcome = not_sent(await send(sender, "http://hooks.example.com/"), LocalFault.EGRESS_PROXY)
                    assert outcome.otherwise is None  # for certain: the answer is not the endpoint's
                    assert "407" in outcome.detail
                    assert "egress_proxy_credentials" in outcome.detail
                    assert "hunter" not in repr(outcome)
    assert endpoint.connections == 1
    assert "hunter" not in repr(proxy.settings("oms:hunter2"))
    written = caplog.text + "".join(capfd.readouterr())
    assert "hunter" not in written
    assert "b21z" not in written


@on_each_loop
async def test_the_receiver_does_not_see_the_proxys_credentials() -> None:
    seen: list[list[str]] = []
    async with (
        serving(saying(seen)) as endpoint,
        proxying(routes={f"{PUBLIC}:80": endpoint.port}) as proxy,
        sending(proxy.settings("oms:hunter2")) as sender,
    ):
        answered(await send(sender, "http://hooks.example.com/"))
    assert not any("proxy" in line.lower() for line in seen[0])


# Faults


@on_each_loop
async def test_a_proxy_that_is_down_is_our_fault() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        proxy = egress_proxy(f"http://127.0.0.1:{nobody.getsockname()[1]}")
        async with sending(proxy) as sender:
            for host in ("a.example.com", PUBLIC):
                outcome = not_sent(await send(sender, f"http://{host}/"), LocalFault.EGRESS_PROXY)
                assert outcome.otherwise is None
                assert "connection refused" in outcome.detail
                assert proxy.name in outcome.detail


@on_each_loop
async def test_a_proxy_whose_name_does_not_resolve_is_our_fault() -> None:
    async with sending(egress_proxy("http://proxy.invalid:3128")) as sender:
        outcome = not_sent(await send(sender, "http://a.example.com/"), LocalFault.EGRESS_PROXY)
        assert outcome.otherwise is None
        assert "proxy.invalid:3128 does not resolve" in outcome.detail


@on_each_loop
async def test_a_proxy_that_accepts_no_connections_is_our_fault() -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        waiting = [socket.socket() for _ in range(4)]  # the queue is full: the system accepts no more
        for each in waiting:
            each.setblocking(False)
            each.connect_ex(full.getsockname())
        async with sending(egress_proxy(f"http://127.0.0.1:{full.getsockname()[1]}"), QUICK) as sender:
            outcome = not_sent(await send(sender, "http://a.example.com/"), LocalFault.EGRESS_PROXY)
            assert outcome.otherwise is None
        for each in waiting:
            each.close()


@pytest.mark.parametrize("told", [answer(403), answer(400), answer(301), b"", b"SSH-2.0-OpenSSH_9.6\r\n\r\n", b"x" * 20_000])
@on_each_loop
async def test_a_proxy_that_refuses_or_answers_nonsense_is_our_fault_at_first(told: bytes) -> None:
    async with proxying(everybody=told) as proxy, sending(proxy.settings()) as sender:
        outcome = not_sent(await send(sender, "http://a.example.com/"), LocalFault.EGRESS_PROXY)
        assert outcome.otherwise is not None
        assert outcome.otherwise.failure is Failure.CONNECTION
        assert proxy.settings().name not in outcome.otherwise.detail  # integrators have no use for it


@pytest.mark.parametrize(
    ("status", "failure"), [(502, Failure.CONNECTION), (503, Failure.CONNECTION), (504, Failure.CONNECT_TIMEOUT)]
)
@on_each_loop
async def test_a_target_that_the_proxy_cannot_reach_is_the_endpoints_fault(status: int, failure: Failure) -> None:
    told = {f"{PUBLIC}:443": ESTABLISHED}  # the probe name: the proxy works
    async with proxying(everybody=answer(status), answers=told) as proxy, sending(proxy.settings()) as sender:
        failed(await send(sender, "http://a.example.com/"), failure, "our egress proxy could not reach it", str(status))


@pytest.mark.parametrize("status", [500, 502, 503, 504])
@on_each_loop
async def test_a_proxy_that_reaches_no_target_is_presumed_our_fault(status: int) -> None:
    async with proxying(everybody=answer(status)) as proxy, sending(proxy.settings()) as sender:
        for host in "abcd":
            outcome = not_sent(await send(sender, f"http://{host}.example.com/"), LocalFault.EGRESS_PROXY)
            assert str(status) in outcome.detail
            assert outcome.otherwise is not None
    assert proxy.asked == [
        f"{PUBLIC}:80",
        f"{PUBLIC}:443",
        *[f"{PUBLIC}:80"] * 3,
    ]  # it is asked for the probe name now and then


@on_each_loop
async def test_a_silent_proxy_is_our_fault_unless_others_get_through() -> None:
    """It takes three seconds: the proxy is waited for three times, once of them for the probe name."""
    async with serving(answering(EMPTY_OK)) as endpoint, proxying(routes={f"{PUBLIC}:80": endpoint.port}) as proxy:
        proxy.answers |= {f"{PUBLIC}:81": None, f"{PUBLIC}:443": None}
        limits = SenderLimits(connections=8, total_timeout=10.0, connect_timeout=1.0)
        async with sending(proxy.settings(), limits) as sender:
            outcome = not_sent(await send(sender, "http://a.example.com:81/"), LocalFault.EGRESS_PROXY)
            assert outcome.otherwise is not None
            assert outcome.otherwise.failure is Failure.CONNECT_TIMEOUT
            answered(await send(sender, "http://b.example.com/"))
            failed(await send(sender, "http://a.example.com:81/"), Failure.CONNECT_TIMEOUT, "egress proxy")


@on_each_loop
async def test_a_target_that_speaks_first_is_the_endpoints_fault() -> None:
    async with (
        proxying(everybody=b"HTTP/1.1 200 OK\r\n\r\n220 mail.example.com ESMTP\r\n") as proxy,
        sending(proxy.settings()) as sender,
    ):
        failed(await send(sender, "http://a.example.com:25/"), Failure.INVALID_RESPONSE, "before the request")


@on_each_loop
async def test_a_silent_target_behind_the_tunnel_times_out() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)

    async with (
        serving(silent) as endpoint,
        proxying(routes={f"{PUBLIC}:80": endpoint.port}) as proxy,
        sending(proxy.settings(), QUICK) as sender,
    ):
        failed(await send(sender, "http://a.example.com/"), Failure.TIMEOUT)


@on_each_loop
async def test_a_missing_name_is_still_the_endpoints_fault() -> None:
    async def none(host: str) -> Sequence[str]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    async with proxying() as proxy, sending(proxy.settings(), resolve=none) as sender:
        failed(await send(sender, "http://a.example.com/"), Failure.DNS)
    assert proxy.asked == []


@on_each_loop
async def test_timed_out_requests_leave_no_socket_behind() -> None:
    async with proxying(everybody=None) as proxy, sending(proxy.settings(), QUICK) as sender:
        await asyncio.gather(*(send(sender, f"http://h{n}.example.com/") for n in range(3)))
        await asyncio.gather(*proxy.tasks)  # the sender has closed each connection


@on_each_loop
async def test_cancelled_requests_leave_no_socket_behind() -> None:
    limits = SenderLimits(connections=8, total_timeout=60.0, connect_timeout=50.0)
    async with proxying(everybody=None) as proxy, sending(proxy.settings(), limits) as sender:
        posts = [asyncio.create_task(send(sender, f"http://c{n}.example.com/")) for n in range(3)]
        await until(lambda: len(proxy.asked) >= len(posts))
        for each in posts:
            each.cancel()
        await asyncio.gather(*posts, return_exceptions=True)
        await asyncio.gather(*proxy.tasks)


# Token requests


@on_each_loop
async def test_token_requests_go_through_the_proxy() -> None:
    grant = b'{"access_token": "t0k3n", "token_type": "Bearer", "expires_in": 3600}'
    granting = OK + b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(grant) + grant
    seen: list[list[str]] = []
    async with (
        serving(answering(granting)) as tokens,
        serving(saying(seen)) as endpoint,
        proxying(routes={f"{PUBLIC}:8443": tokens.port, f"{PUBLIC}:80": endpoint.port}) as proxy,
        sending(proxy.settings()) as sender,
    ):
        question = TokenRequest("http://login.example.com:8443/token", "id", "secret")
        outcome = await _with_token(sender, question)
        assert isinstance(outcome, Response), outcome
    assert proxy.asked == [f"{PUBLIC}:8443", f"{PUBLIC}:80"]
    assert "authorization: Bearer t0k3n" in seen[0]


@on_each_loop
async def test_a_token_request_refused_by_the_proxy_is_our_fault() -> None:
    async with proxying(everybody=answer(407)) as proxy, sending(proxy.settings()) as sender:
        question = TokenRequest("http://login.example.com:8443/token", "id", "secret")
        not_sent(await _with_token(sender, question), LocalFault.EGRESS_PROXY)


class _Named:
    id = 7


async def _with_token(sender: Sender, question: TokenRequest) -> Exchange | NotSent:
    request = Request("http://hooks.example.com/", {}, b"{}")
    return await AccessTokens(sender).post(_Named(), question, request)  # type: ignore[arg-type]


# The check


@pytest.mark.parametrize(
    ("told", "problem"),
    [
        ({"everybody": answer(502)}, None),
        ({"everybody": b"HTTP/1.1 200 OK\r\n\r\n"}, None),
        ({"everybody": answer(407)}, "407"),
        ({"everybody": answer(403)}, "resolver_probe_name"),
        ({"everybody": None}, "did not answer CONNECT"),
    ],
)
async def test_the_check_reports_whether_the_proxy_answers(told: dict[str, bytes | None], problem: str | None) -> None:
    async with proxying(**told) as proxy:
        seconds = 0.5 if told["everybody"] is None else 60.0
        found = await egress_proxy_finding(proxy.settings("oms:hunter2"), GUARD, "example.com", resolve=public, seconds=seconds)
    assert found.what == f"Egress proxy: 127.0.0.1:{proxy.port}"
    assert (found.problem is None) if problem is None else (problem in (found.problem or ""))
    assert "hunter2" not in repr(found)


async def test_the_check_without_a_probe_address_only_connects() -> None:
    async def none(host: str) -> Sequence[str]:
        raise socket.gaierror(socket.EAI_AGAIN, "Try again")

    async with proxying() as proxy:
        found = await egress_proxy_finding(proxy.settings(), GUARD, "example.com", resolve=none)
        assert found.problem is None
        assert "connection only" in found.what
    assert "no connection" in ((await egress_proxy_finding(proxy.settings(), GUARD, "example.com", resolve=none)).problem or "")


async def test_the_probe_reports_proxy_problems_without_the_credentials() -> None:
    async with proxying(everybody=answer(407)) as proxy:
        settings = Settings(egress_proxy=proxy.url, egress_proxy_credentials="oms:hunter2", resolver_probe_name=PUBLIC)
        ask = egress_proxy_question(settings, GUARD)
        assert ask is not None
        probe = Probe("egress_proxy", ask)
        assert not await probe.ask()
        assert "407" in str(probe.outage.problem)
        assert "hunter2" not in str(probe.outage.problem)
        proxy.everybody = ESTABLISHED
        assert await probe.ask()
    assert egress_proxy_question(Settings(), GUARD) is None
