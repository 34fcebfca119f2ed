"""Errors about input are in our own words, whatever the input: no sentence comes from a library."""

from __future__ import annotations

import importlib
import json
import pkgutil
from collections.abc import Iterator

import pytest
from pydantic import BaseModel

import schemas.http
from pipeline.web.api.wrapped_input import parse_wrapped
from pipeline.web.errors import InvalidError
from schemas.http.erasures import ErasureInput
from schemas.http.operations import EventTypeInput
from schemas.http.replays import ReplayInput, ReplayStep

WRONG = ({"a": 1}, 5, "x", [5], None, True)


def inputs() -> Iterator[type[BaseModel]]:
    for module in pkgutil.iter_modules(schemas.http.__path__):
        for name, found in vars(importlib.import_module(f"schemas.http.{module.name}")).items():
            if name.endswith("Input") and isinstance(found, type) and issubclass(found, BaseModel) and found.model_fields:
                yield found


@pytest.mark.parametrize("model", sorted(set(inputs()), key=str))
def test_no_sentence_comes_from_pydantic(model: type[BaseModel]) -> None:
    refused = 0
    for value in WRONG:
        try:
            parse_wrapped(json.dumps({"w": dict.fromkeys(model.model_fields, value)}).encode(), "w", model, hint="")
        except InvalidError as error:
            refused += 1
            for sentence in (one for found in error.errors.values() for one in found):
                assert not any(
                    word in sentence for word in ("Input should", "Value error", "unable to parse", "Field required")
                ), sentence
    assert refused


def test_a_sentence_names_its_subject() -> None:
    with pytest.raises(InvalidError) as refused:
        parse_wrapped(b'{"replay": {"endpoint_ids": 5, "event_names": ["x", 5]}}', "replay", ReplayInput, hint="")
    assert refused.value.errors["endpoint_ids"] == ["endpoint_ids must be a list."]
    assert "event_names.1 must be text." in refused.value.errors["event_names"]


REPLAY = {"endpoint_ids": [7], "since": "2026-03-01T00:00:00Z", "until": "2026-03-02T00:00:00Z", "run": "abcdef12"}


@pytest.mark.parametrize(
    ("model", "given", "message"),
    [
        (ReplayStep, {"endpoint_ids": [True]}, "endpoint_ids.0 must be a whole number."),
        (ReplayStep, {"endpoint_ids": ["7"]}, "endpoint_ids.0 must be a whole number."),
        (ReplayStep, {"limit": True}, "limit must be a whole number."),
        (ReplayStep, {"matched_only": "no"}, "matched_only must be true or false."),
        (ReplayStep, {"matched_only": 0}, "matched_only must be true or false."),
        (ReplayStep, {"skip": "yes"}, "skip must be true or false."),
        (
            ReplayStep,
            {"until": "2026-02-28T00:00:00Z"},
            "until must be later than since: between them there is nothing to replay.",
        ),
        (ReplayStep, {"until": REPLAY["since"]}, "until must be later than since: between them there is nothing to replay."),
        (EventTypeInput, {"allow_breaking": 1}, "allow_breaking must be true or false."),
        (EventTypeInput, {"allow_breaking": "yes"}, "allow_breaking must be true or false."),
        (ErasureInput, {"email": "a@b.example\0"}, "email must be an email address, and nothing else."),
    ],
)
def test_a_value_of_a_wrong_type_sends_and_changes_nothing(
    model: type[BaseModel], given: dict[str, object], message: str
) -> None:
    wrapped = {"w": (REPLAY if model is ReplayStep else {}) | given}
    with pytest.raises(InvalidError) as refused:
        parse_wrapped(json.dumps(wrapped).encode(), "w", model, hint="")
    assert refused.value.errors == {next(iter(given)): [message]}
