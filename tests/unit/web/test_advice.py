"""The advice for every outcome of an attempt and every reason of a dead letter, and the curl command."""

from __future__ import annotations

import json
import shlex

import pytest

from pipeline.core.exchange import Failure
from pipeline.web.advice import for_dead_letter, for_receiver
from pipeline.web.curl import curl
from schemas.delivery import DeadLetterReason


@pytest.mark.parametrize("failure", Failure)
def test_each_failure_has_its_own_advice(failure: Failure) -> None:
    advice = for_receiver("repeated", failure, None)
    assert advice is not None
    others = {for_receiver("repeated", other, None) for other in Failure if other is not failure}
    assert advice not in others


def test_every_status_except_acknowledgements_has_advice() -> None:
    for status in range(100, 600):
        assert (for_receiver("repeated", None, status) is None) == (status in (200, 201, 202, 204)), status


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (203, "Only 200, 201, 202 and 204"),
        (301, "Redirects are not followed"),
        (401, "rejected the credentials"),
        (418, "The receiver rejects the request"),
        (429, "max_per_second"),
        (500, "for the webhook-id"),
        (599, "for the webhook-id"),
    ],
)
def test_status_descriptions(status: int, words: str) -> None:
    assert words in str(for_receiver("exhausted", None, status))


def test_advice_for_discarded_attempts_and_unknown_failures() -> None:
    assert "Nothing was sent" in str(for_receiver("discarded", None, None))
    assert "reached from outside" in str(for_receiver("repeated", "a failure of tomorrow", None))
    assert for_receiver("delivered", None, 204) is None


def test_every_dead_letter_reason_has_advice() -> None:
    assert all(for_dead_letter(reason, is_event=True).endswith(".") for reason in DeadLetterReason)
    assert "runbook" in for_dead_letter("invalid_record", is_event=True)
    # A delivery without a body was not written by a producer.
    assert "runbook" in for_dead_letter("null_value", is_event=False)


def test_the_curl_command_can_be_pasted() -> None:
    body = json.dumps({"note": 'it\'s "quoted" $(rm -rf ~) `x` \n ü'}, ensure_ascii=False)
    headers = {"Authorization": "[redacted]", "Host": "x", "Content-Length": "3", "X-A": "it's"}
    command = curl("https://x.example/?a='b'&c=$d", headers, body)
    assert shlex.split(command.replace("\\\n", "")) == [
        *("curl", "--request", "POST", "--header", "Authorization: [redacted]", "--header", "X-A: it's"),
        *("--data-raw", body, "--", "https://x.example/?a='b'&c=$d"),
    ]


@pytest.mark.parametrize("body", [None, "x" * 10_000, "a\0b"])
def test_curl_reads_missing_large_or_binary_bodies_from_a_file(body: str | None) -> None:
    assert "--data-binary @body.json" in curl("http://x", {}, body)
