"""Secrets are removed from a receiver's answer."""

from __future__ import annotations

import base64
import gzip
import html
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from urllib.parse import quote, quote_plus, unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.exchange import Failure, Headers, NoResponse, Response
from pipeline.core.redaction import REDACTED, Redactor
from pipeline.core.signing import new_secret

TOKEN = "tok/4242+Zz\"q&r<s>\\f_9'_end=="
PLAIN = "sk_live_51H8abcDEFghiJKL"
SECRET = new_secret(lambda size: bytes(range(0x90, 0x90 + size)))
KEY = SECRET.removeprefix("whsec_")


def answer(body: bytes = b"", headers: Headers = (), *, truncated: bool = False) -> Response:
    return Response(200, headers, body, truncated, 1.0, 1.0)


def left_of(text: str, *values: str, keys: tuple[str, ...] = (SECRET,)) -> str:
    exchange = Redactor(values, keys).redact(answer(text.encode()))
    return exchange.body.decode()


def escaped(form: str) -> Callable[[str], str]:
    return lambda text: "".join(form.format(ord(character)) for character in text)


FORMS: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "upper case": str.upper,
    "lower case": str.lower,
    "JSON": json.dumps,
    "JSON of PHP": lambda text: json.dumps(text).replace("/", "\\/"),
    "JSON that is safe in HTML": lambda text: (
        json.dumps(text).replace("<", "\\u003c").replace(">", "\\u003E").replace("&", "\\u0026")
    ),
    "JSON in JSON in JSON": lambda text: json.dumps(json.dumps(json.dumps({"sent": text}))),
    "HTML": html.escape,
    "JSON on a page": lambda text: html.escape(json.dumps({"sent": text})),
    "percent": lambda text: quote(text, safe=""),
    "percent, lower case": lambda text: quote(text, safe="").lower(),
    "a form": quote_plus,
    "percent twice": lambda text: quote(quote(text, safe=""), safe=""),
    "every character as percent": escaped("%{:02X}"),
    "every character for JavaScript": escaped("\\u{:04x}"),
    "every character in hexadecimal": escaped("\\x{:02x}"),
    "every character as a decimal entity": escaped("&#{};"),
    "every character as a hexadecimal entity": escaped("&#x{:X};"),
    "bytes of Python": lambda text: repr(text.encode()),
    "hexadecimal": lambda text: text.encode().hex(),
    "base64": lambda text: base64.b64encode(text.encode()).decode(),
    "base64 of a header": lambda text: base64.b64encode(f"Authorization: Bearer {text}\r\nAccept: */*".encode()).decode(),
    "base64 of credentials": lambda text: base64.b64encode(f"u:{text}".encode()).decode(),
    "base64 for URLs": lambda text: base64.urlsafe_b64encode(f"?{text}?".encode()).decode(),
    "base64 in lines": lambda text: base64.encodebytes(f"{'x' * 50}{text}{'y' * 99}".encode()).decode(),
    "base64 in lines in JSON": lambda text: json.dumps(base64.encodebytes(f"{'x' * 50}{text}{'y' * 99}".encode()).decode()),
    "UTF-16": lambda text: text.encode("utf-16-le").decode(),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("secret", [TOKEN, PLAIN, KEY], ids=["odd token", "plain token", "signing secret"])
def test_a_secret_is_redacted_in_each_form(secret: str, form: str) -> None:
    shown = FORMS[form](secret)
    left = left_of(f"before {shown} after", TOKEN, PLAIN)
    assert REDACTED in left
    assert left.startswith("before ")
    assert left.endswith(" after")
    pieces = {secret[start : start + 6].lower() for start in range(len(secret) - 5)}
    seen = [reading.lower() for chunk in left.split(REDACTED) for reading in readings_of(chunk)]
    assert not [piece for piece in pieces for reading in seen if piece in reading]


def readings_of(text: str) -> Iterator[str]:
    """What somebody could read in a text, decoded by other means than the product's."""
    yield text
    yield from (html.unescape(text), unquote(unquote(text)), text.replace("\\/", "/").replace("\x00", ""))
    for run in re.findall(r"[A-Za-z0-9+/_-]{8,}", re.sub(r"\\n|\s", "", text)):
        for start in range(4):
            part = run[start:].replace("-", "+").replace("_", "/")
            yield base64.b64decode(part[: len(part) // 4 * 4]).decode("latin-1")


@given(
    st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=8, max_size=60),
    st.sampled_from([form for form in FORMS if "case" not in form]),
    st.text(max_size=20),
    st.text(max_size=20),
)
def test_tokens_of_eight_or_more_characters_are_redacted_in_every_form(token: str, form: str, before: str, after: str) -> None:
    shown = FORMS[form](token)
    left = Redactor([token]).redact(answer(f"{before} {shown} {after}".encode()))
    ordinary = token.lower() in {
        "disabled",
        "production",
        "development",
        "identity",
        "keep-alive",
        "webhooks",
        "no-cache",
        "no-store",
    }
    assert ordinary or token.encode() not in left.body.replace(REDACTED.encode(), b"")


def test_a_secret_is_redacted_with_its_prefix_without_it_and_as_raw_key() -> None:
    redactor = Redactor(keys=[SECRET, new_secret()])
    key = base64.b64decode(KEY)
    assert (
        redactor.redact(answer(f"a={SECRET};b={KEY};c={key.hex()}".encode())).body
        == b"a=whsec_[redacted];b=[redacted];c=[redacted]"
    )
    assert redactor.redact(answer(b"\xff" + key + b"\xfe")).body == b"\xff[redacted]\xfe"


def test_header_names_and_values_are_redacted() -> None:
    headers = (
        ("X-Echo", f"Bearer {PLAIN}"),
        (f"X-{PLAIN}", "1"),
        ("Location", f"https://hooks.example.com/?key={quote(TOKEN, safe='')}&a=1"),
        ("Set-Cookie", f"a={base64.b64encode(PLAIN.encode()).decode()}; Path=/"),
        ("Content-Type", "text/plain"),
    )
    left = Redactor([TOKEN, PLAIN], [SECRET]).redact(answer(b"ok", headers))
    assert left == answer(
        b"ok",
        (
            ("X-Echo", "Bearer [redacted]"),
            ("X-[redacted]", "1"),
            ("Location", "https://hooks.example.com/?key=[redacted]&a=1"),
            ("Set-Cookie", "a=[redacted]; Path=/"),
            ("Content-Type", "text/plain"),
        ),
    )


def test_detail_and_partial_body_are_redacted_when_there_was_no_usable_answer() -> None:
    exchange = NoResponse(
        Failure.INVALID_RESPONSE, f"invalid header {PLAIN}", 1.0, 500, (("A", PLAIN),), f"{PLAIN} sk_live_5".encode()
    )
    left = Redactor([PLAIN]).redact(exchange)
    assert left == replace(
        exchange, detail="invalid header [redacted]", headers=(("A", "[redacted]"),), body=b"[redacted] [redacted]"
    )


@pytest.mark.parametrize(
    "form", [str, json.dumps, lambda text: quote(text, safe=""), html.escape], ids=["plain", "JSON", "URL", "HTML"]
)
def test_a_truncated_answer_does_not_end_with_the_start_of_a_secret(form: Callable[[str], str]) -> None:
    redactor, shown = Redactor([TOKEN], [SECRET]), "." * 200 + form(TOKEN)
    for kept in range(205, len(shown)):
        body = redactor.redact(answer(shown[:kept].encode(), truncated=True)).body.decode()
        assert body in ("." * 200 + REDACTED, "." * 200 + '"' + REDACTED), shown[:kept]
    assert redactor.redact(answer(b"." * 200 + b"to", truncated=True)).body == b"." * 200 + b"to"  # too short to reveal anything
    whole = answer(b"." * 200 + b"tok/42")
    assert redactor.redact(whole) == whole


@pytest.mark.parametrize(
    "value",
    [
        "1",
        "v1",
        "true",
        "2026",
        "120",
        "json",
        "application/json",
        "Production",
        "no-cache",
        "*/*",
        "application/json; charset=utf-8",
    ],
)
def test_an_ordinary_value_is_not_redacted(value: str) -> None:
    exchange = answer(
        b'{"true": 120, "env": "production", "v1": 1}',
        (
            ("Date", "Mon, 02 Mar 2026 15:04:05 GMT"),
            ("Content-Type", "application/json; charset=utf-8"),
            ("Cache-Control", "no-cache"),
        ),
    )
    assert Redactor([value], [SECRET]).redact(exchange) is exchange


def test_a_short_value_is_redacted_only_as_a_whole_word() -> None:
    assert left_of('{"tenant":"acme","for":"ACME inc"} acmes macme', "acme") == (
        '{"tenant":"[redacted]","for":"[redacted] inc"} acmes macme'
    )


def test_the_parts_of_a_value_are_redacted_too() -> None:
    basic = "Basic " + base64.b64encode(b"alice:correct horse").decode()
    cookie = "session=0123456789abcdef; theme=dark"
    left = left_of(
        f"user alice, password correct horse, {basic}; sid 0123456789abcdef, theme dark; ApiKey",
        basic,
        cookie,
        "ApiKey k-77-long-one",
    )
    assert left == "user alice, password [redacted], [redacted]; sid [redacted], theme dark; ApiKey"
    assert left_of("k-77-long-one", "ApiKey k-77-long-one") == REDACTED


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (gzip.compress(PLAIN.encode(), mtime=0), (("Content-Encoding", "gzip"),)),
        (gzip.compress(PLAIN.encode(), mtime=0), ()),
        (b"\x8b\x0b\x80 brotli or whatever \xff", (("content-encoding", "br"),)),
    ],
)
def test_a_compressed_answer_is_not_kept_because_it_cannot_be_searched(body: bytes, headers: Headers) -> None:
    left = Redactor([PLAIN]).redact(answer(body, headers))
    assert left.body.decode().startswith(f"[a compressed answer, {len(body)} bytes: it is not kept")
    named = answer(b"not compressed at all", (("Content-Encoding", "gzip"),))
    assert Redactor([PLAIN]).redact(named) == named


def test_repr_hides_the_secrets() -> None:
    assert repr(Redactor([PLAIN], [SECRET])) == "Redactor(***)"
    assert Redactor().redact(answer(b"anything at all", truncated=True)).body == b"anything at all"
