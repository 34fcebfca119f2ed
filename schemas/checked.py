"""Records of values that were checked already: the same records as their models make, without checking them again.

For what is on the way of every delivery (the event's metadata, its dispatch, its attempt): validating takes longer than writing as JSON. All
values come of our own code, which has types, and of an event that was validated; they must be of exactly the types that validation leaves, as JSON
is written of them (``core.exchange`` sees to that for what servers answer). pydantic's ``model_construct`` is meant for this and takes
twice as long as validation does.
"""

from __future__ import annotations

import functools
from typing import Any, TypeVar

from pydantic import BaseModel

ModelT = TypeVar("ModelT", bound=BaseModel)

_set = object.__setattr__  # the models are frozen


@functools.cache
def _fields_of(model: type[BaseModel]) -> set[str]:
    """One set for all records of a model: pydantic copies it when it copies a record."""
    return set(model.model_fields)


def checked(model: type[ModelT], members: dict[str, Any]) -> ModelT:
    """A record with these members: every field of the model, and values as validation would leave them. Nothing is looked at."""
    record = model.__new__(model)
    _set(record, "__dict__", members)
    _set(record, "__pydantic_fields_set__", _fields_of(model))
    _set(record, "__pydantic_extra__", {})
    _set(record, "__pydantic_private__", None)
    return record
