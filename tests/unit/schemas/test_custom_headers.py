from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict
from yarl import URL

from pipeline.sender.compat import PooledRoute
from schemas.custom_headers import MAX_HEADER_VALUE, check_headers


@pytest.mark.parametrize(
    "given", [{}, {"X-Tenant": "acme"}, {"x": None}, {"Cookie": "a=b; c"}, {"x": "a\tb c"}, {"x-long": "v" * MAX_HEADER_VALUE}]
)
def test_header_names_are_returned_in_lower_case(given: dict[str, str | None]) -> None:
    assert check_headers(given) == {name.lower(): value for name, value in given.items()}


def test_null_removes_all_headers() -> None:
    assert check_headers(None) is None


@pytest.mark.parametrize(
    "name",
    [
        *("Connection", "keep-alive", "TE", "Trailer", "Transfer-Encoding", "Upgrade", "Expect", "Proxy-Authorization"),
        *("Host", "Content-Length", "content-type", "Content-Encoding", "User-Agent", "Accept-Encoding"),
        *("Webhook-Id", "webhook-signature", "webhook-anything"),
        *("webhook_id", "Webhook_Signature", "webhook.timestamp", "CONTENT_TYPE", "content_length", "content~encoding"),
        *("transfer_encoding", "proxy_authorization", "keep_alive", "user_agent", "Proxy", "HTTP2-Settings"),
        *("Traceparent", "tracestate"),
    ],
)
def test_headers_of_the_sender_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="headers must not contain"):
        check_headers({name: "v"})


def test_authorization_has_its_own_field() -> None:
    with pytest.raises(ValueError, match="set token"):
        check_headers({"Authorization": "Basic hidden"})


@pytest.mark.parametrize("name", ["webhook_id", "Webhook-Id", "content_type"])
def test_a_header_that_an_older_release_accepted_can_be_removed(name: str) -> None:
    assert check_headers({name: None}) == {name.lower(): None}


def test_the_error_says_what_an_underscore_is_read_as() -> None:
    with pytest.raises(
        ValueError, match=r"^headers must not contain 'webhook_id', which many servers read as 'webhook-id': the sender"
    ):
        check_headers({"Webhook_Id": "v"})


@pytest.mark.parametrize(
    "name", ["x_tenant", "x-webhook-id", "my_webhook_id", "contents", "te_nant", "webhooks_id", "authorization2"]
)
def test_other_underscores_are_accepted(name: str) -> None:
    assert check_headers({name: "v"}) == {name: "v"}


@pytest.mark.parametrize("name", ["", "a b", "a:", "ä", "a\r\nb", "x" * 101, "(x)", "x\x00"])
def test_invalid_names_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="an invalid name"):
        check_headers({name: "v"})


@pytest.mark.parametrize(
    "value", ["", " hidden", "hidden ", "hidden\r\nx: y", "hidden\x00", "hiddenä", 1, True, ["hidden"], "x" * 4097]
)
def test_invalid_values_are_refused_and_not_shown(value: object) -> None:
    with pytest.raises(ValueError, match="headers must give 'x-a' a text of") as caught:
        check_headers({"X-A": value})
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize("given", ["x", ["x"], 1, True])
def test_a_value_that_is_not_an_object_is_refused(given: object) -> None:
    with pytest.raises(ValueError, match="headers must be an object"):
        check_headers(given)


def test_a_duplicate_name_is_refused() -> None:
    with pytest.raises(ValueError, match="headers has 'x-a' twice"):
        check_headers({"X-A": "1", "x-a": "2"})


@pytest.mark.parametrize("given", [{f"x-{n}": "v" for n in range(21)}, {"x-a": "v" * 3000, "x-b": "v" * 3000}])
def test_number_and_size_of_headers_are_limited(given: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="at most 20 headers"):
        check_headers(given)


@given(st.dictionaries(st.text(max_size=12), st.text(max_size=20) | st.none(), max_size=4))
async def test_accepted_headers_can_be_sent_and_inject_nothing(given: dict[str, str | None]) -> None:
    try:
        checked = check_headers(given)
    except ValueError:
        return
    headers = {name: value for name, value in (checked or {}).items() if value is not None}
    head = PooledRoute(URL("http://127.0.0.1/x"), "agent").head(headers, 7)
    first, *lines = head.decode().removesuffix("\r\n\r\n").split("\r\n")
    assert first == "POST /x HTTP/1.1"
    sent = CIMultiDict(line.partition(": ")[::2] for line in lines)
    assert dict(sent) == {"Host": "127.0.0.1", "User-Agent": "agent", "Content-Length": "7"} | headers
