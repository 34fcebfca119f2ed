"""Errors of pydantic are rewritten in our words, and without the value."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from pydantic import Field, TypeAdapter, ValidationError
from pydantic_core import PydanticCustomError

from schemas.validation_sentences import plain_sentence, sentence_of


@pytest.mark.parametrize(
    ("kind", "value", "sentence"),
    [
        (int, "secret", "It must be a whole number."),
        (int, 1.5, "It must be a whole number."),
        (int, "9" * 5_000, "It must be a smaller whole number."),
        (float, "secret", "It must be a number."),
        (bool, "secret", "It must be true or false."),
        (str, 7, "It must be text."),
        (list[str], "secret", "It must be a list."),
        (dict[str, str], "secret", "It must be an object."),
        (Literal["a", "b"], "secret", "It must be 'a' or 'b'."),
        (Annotated[int, Field(ge=1)], 0, "It must be 1 or more."),
        (Annotated[int, Field(le=9)], 10, "It must be 9 or less."),
        (Annotated[float, Field(gt=0)], 0, "It must be more than 0."),
        (Annotated[float, Field(lt=1)], 1, "It must be less than 1."),
        (Annotated[float, Field(allow_inf_nan=False)], "nan", "It must be a finite number."),
        (Annotated[str, Field(min_length=1)], "", "It must not be empty."),
        (Annotated[str, Field(min_length=3)], "ab", "It must have 3 characters or more."),
        (Annotated[str, Field(max_length=3)], "secret", "It must have no more than 3 characters."),
        (Annotated[list[int], Field(max_length=1)], [1, 2], "It must have no more than 1 entries."),
    ],
)
def test_an_error_is_rewritten_as_a_sentence(kind: Any, value: object, sentence: str) -> None:
    with pytest.raises(ValidationError) as refused:
        TypeAdapter(kind).validate_python(value)
    assert sentence_of(refused.value.errors()[0]) == sentence


def test_messages_of_our_own_validators_are_kept() -> None:
    error = ValidationError.from_exception_data(
        "x", [{"type": "value_error", "ctx": {"error": ValueError("It is not a delay.")}, "input": 1}]
    )
    assert sentence_of(error.errors()[0]) == "It is not a delay."
    assert plain_sentence(error.errors()[0]) is None


def test_an_unknown_kind_of_error_keeps_the_message_of_pydantic() -> None:
    error = ValidationError.from_exception_data("x", [{"type": PydanticCustomError("odd", "It is odd."), "input": 1}])
    assert sentence_of(error.errors()[0]) == "It is odd."
