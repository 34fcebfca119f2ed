from __future__ import annotations

import pytest

from tests.unit.web.endpoint_requests import INVALID, PATH, request, wrapped
from tests.unit.web.service import Service


async def test_a_policy_is_chosen_by_name_or_as_delays(service: Service) -> None:
    identifier = await service.create(retry_policy="impatient")
    _, shown = await request(service, "GET", f"{PATH}/{identifier}")
    assert shown["retry_policy"] == "impatient"

    status, changed = await request(service, "PATCH", f"{PATH}/{identifier}", **wrapped(retry_policy="5s, 600s"))
    assert status == 200
    assert (changed["retry_policy"], changed["retry_delays"]) == ("5s,10m", ["5s", "10m"])
    assert changed["retry_words"] == "Retries after 5 s and 10 min; gives up after 10 min 5 s."

    _, back = await request(service, "PATCH", f"{PATH}/{identifier}", **wrapped(retry_policy=None))
    assert back["retry_policy"] == "standard"
    assert [change.retry_policy for change in service.kafka.changes] == ["impatient", "5s,10m", "standard"]


async def test_an_answer_can_be_sent_back(service: Service) -> None:
    identifier = await service.create(retry_policy="1m,1h")
    _, shown = await request(service, "GET", f"{PATH}/{identifier}")

    status, written = await request(service, "PUT", f"{PATH}/{identifier}", **wrapped(**shown))

    assert status == 200
    assert written["retry_policy"] == "1m,1h"
    assert {"retry_delays", "retry_words"} <= set(written["ignored_fields"])


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ("5s,2m", "retry_policy has delays without a topic: 2m. Choose from 5s, 1m, 10m, 1h, 6h."),
        ("furious", "retry_policy must be standard, patient, impatient, or one to 5 delays"),
        (["5s"], "retry_policy must be standard, patient, impatient, or one to 5 delays"),
    ],
)
async def test_an_invalid_policy_is_refused_with_the_reason(service: Service, value: object, sentence: str) -> None:
    identifier = await service.create()

    status, body = await request(service, "PATCH", f"{PATH}/{identifier}", **wrapped(retry_policy=value))

    assert (status, body["error"]) == (422, INVALID)
    assert body["errors"]["retry_policy"][0].startswith(sentence)
    assert len(service.kafka.changes) == 1
