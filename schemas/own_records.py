"""The common base of our own records: msgspec Structs, read and written by codec.

Creating a Struct checks nothing, because our own code provides the values. Records from Kafka are checked against their types.
The order of the fields is the order on the wire.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Final, TypeVar, get_args, get_type_hints

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType, field, structs

RecordT = TypeVar("RecordT", bound="OwnRecord")

Time = Annotated[datetime, Meta(tz=True)]
# ClickHouse's columns cannot store more, and one row that does not fit would hold up all rows after it.
Int64Value = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
OffsetValue = Annotated[int, Meta(ge=0, le=2**63 - 1)]
PartitionValue = Annotated[int, Meta(ge=0, le=2**31 - 1)]

_members = msgspec.json.Decoder(dict[str, Raw])
_values = msgspec.json.Decoder(list[Raw])
_PATH: Final = re.compile(r" - at `\$\.?([^`]*)`$")
_MISSING: Final = re.compile(r"^Object missing required field `([^`]*)`$")
_VALUE: Final = re.compile(r"(?<=enum value) .*$", re.DOTALL)
_MAX_PATH: Final = 200


NO_MEMBER: Final = "(later)"
"""A marker for a missing member of a record: nothing is written under this name."""


class OwnRecord(Struct, frozen=True, kw_only=True, gc=False):
    """A record that the pipeline writes itself."""


class RewrittenRecord(OwnRecord, frozen=True, kw_only=True, gc=False):
    """A record that is read, and written again, by itself or as a part of another record.

    ``later`` are raw members that a newer release has added; they are written again after the others.
    """

    later: dict[str, Raw] | UnsetType = field(default=UNSET, name=NO_MEMBER)


def with_unknown_members(record: RecordT, members: Mapping[str, Raw]) -> RecordT:
    """The record with all members that a newer release has added to it, or to records in it. ``members``: its raw members."""
    kept: dict[str, Any] = {}
    for name in _records_in(type(record)):
        if part := getattr(record, name):
            kept[name] = _part_keeping_later(part, members[name])
    if isinstance(record, RewrittenRecord):
        known = record.__struct_encode_fields__
        later = {name: Raw(bytes(value)) for name, value in members.items() if name not in known}
        if later or record.later is not UNSET:
            kept["later"] = later or UNSET
    return structs.replace(record, **kept) if kept else record


def _part_keeping_later(part: Any, value: Raw) -> Any:
    if isinstance(part, tuple):
        return tuple(map(_part_keeping_later, part, _values.decode(value)))
    return with_unknown_members(part, _members.decode(value))


def has_unknown_members(record: OwnRecord) -> bool:
    """Whether a newer release has added a member to it, or to a record in it."""
    if isinstance(record, RewrittenRecord) and record.later is not UNSET:
        return True
    for name in _records_in(type(record)):
        part = getattr(record, name)
        if isinstance(part, tuple):
            if any(map(has_unknown_members, part)):
                return True
        elif part is not None and has_unknown_members(part):
            return True
    return False


def members_of(record: OwnRecord) -> dict[str, Any]:
    """The members to write, by name, including the raw ones of a newer release."""
    members = structs.asdict(record)
    for name in _records_in(type(record)):
        part = members[name]
        if isinstance(part, tuple):
            members[name] = tuple(map(members_of, part))
        elif part is not None:
            members[name] = members_of(part)
    later = members.pop("later", UNSET)
    return members | later if isinstance(later, dict) else members


@functools.cache
def _records_in(model: type[OwnRecord]) -> tuple[str, ...]:
    """The members of a record that are records, or several of them."""
    return tuple(name for name, hint in get_type_hints(model).items() if _holds_record(hint))


def _holds_record(hint: Any) -> bool:
    return any(map(_holds_record, get_args(hint))) or (isinstance(hint, type) and issubclass(hint, RewrittenRecord))


def explained(error: Exception) -> str:
    """The error of msgspec as ``path: message.``, without the value, which may be a customer's."""
    message = str(error)
    found = _PATH.search(message)
    path = found[1] if found else ""
    message = _VALUE.sub("", _PATH.sub("", message))
    if missing := _MISSING.match(message):
        path, message = ".".join(filter(None, [path, missing[1]])), "Field required"
    return f"{path[:_MAX_PATH]}: {message}." if path else f"{message}."


def json_schema(model: type[OwnRecord]) -> dict[str, Any]:
    """The JSON Schema of a record, with the schemas of its parts inlined."""
    (schema,), known = msgspec.json.schema_components((model,))

    def in_place(part: Any) -> Any:
        if isinstance(part, list):
            return [in_place(one) for one in part]
        if not isinstance(part, dict):
            return part
        if "$ref" in part:
            return in_place(known[part["$ref"].rpartition("/")[2]])
        return {name: in_place(one) for name, one in part.items() if name != NO_MEMBER}

    made: dict[str, Any] = in_place(schema)
    return made
