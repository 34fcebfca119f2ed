"""An event type that a deployment adds: the schema of each of its versions, its samples, and where its references are. Pure."""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from schemas.event import MAX_REFERENCE, EventMeta, EventReferences, unique

if TYPE_CHECKING:
    from jsonschema.exceptions import ValidationError as SchemaFinding
    from jsonschema.protocols import Validator

REFERENCES: Final = ("order_number", "shipment_numbers", "subscription_id", "stock_item_id", "skus")
"""The references by which an event can be found."""
_MAX_FINDINGS: Final = 5
_MAX_EXAMINED: Final = 50
_MAX_VALUES: Final = 1000
"""How many elements of a list are searched for references."""
EVERY: Final = "*"
"""The step of a pointer that means every element of a list."""
FIRST_VERSION: Final = 1


@dataclass(frozen=True)
class EarlierVersion:
    """A version of an event type's payload that is still published in addition to the newest one."""

    version: int
    json_schema: Mapping[str, Any]
    sample: Mapping[str, Any]


@dataclass(frozen=True)
class ConfiguredEventType:
    """A name, the topic (without the deployment's prefix), and the rest of its entry in the file.

    ``references`` maps references to JSON pointers into the payload; ``json_schema`` describes the payload in its newest
    ``version``. ``version_at`` is the JSON pointer to the version in a payload; a payload without one is of the lowest version.
    """

    name: str
    topic: str
    description: str
    json_schema: Mapping[str, Any]
    sample: Mapping[str, Any]
    references: Mapping[str, Sequence[str]] = field(default_factory=dict)
    version: int = FIRST_VERSION
    version_at: str = ""
    earlier: Sequence[EarlierVersion] = ()

    def __post_init__(self) -> None:
        schemas = {self.version: self.json_schema} | {one.version: one.json_schema for one in self.earlier}
        validators = {version: validator_of(schema) for version, schema in schemas.items()}
        object.__setattr__(self, "_validators", validators)

    def entry(self) -> dict[str, Any]:
        """The entry as in a file of event types."""
        made: dict[str, Any] = {"name": self.name, "topic": self.topic, "description": self.description}
        if self.references:
            made["references"] = {name: list(pointers) for name, pointers in self.references.items()}
        if self.version != FIRST_VERSION:
            made["version"] = self.version
        if self.version_at:
            made["version_at"] = self.version_at
        made |= {"schema": dict(self.json_schema), "sample": dict(self.sample)}
        if self.earlier:
            made["earlier"] = [
                {"version": one.version, "schema": dict(one.json_schema), "sample": dict(one.sample)} for one in self.earlier
            ]
        return made

    @property
    def versions(self) -> tuple[int, ...]:
        """All versions, newest last."""
        return tuple(sorted([*(one.version for one in self.earlier), self.version]))

    def in_version(self, version: int | None) -> ConfiguredEventType | EarlierVersion:
        """The description of a version; of the newest if the version is None or unknown."""
        return next((one for one in self.earlier if one.version == version), self)

    def version_of(self, payload: object) -> int | None:
        """The version of a payload; None if it is unknown."""
        if not self.earlier:
            return self.version
        versions = self.versions
        found = list(_at(payload, self.version_at))
        if not found or found[0] is None:
            return versions[0]
        text = str(found[0])  # True is neither a version nor the text of one
        return next((one for one in versions if str(one) == text), None)

    def embedded_schema(self, version: int | None = None) -> dict[str, Any]:
        """The schema as a part of another one: its references still point into itself."""
        described = self.in_version(version)
        of_version = f":{described.version}" if self.earlier else ""
        return {"$id": f"urn:oms-webhooks:event-type:{self.name}{of_version}", **described.json_schema}

    def any_schema(self) -> dict[str, Any]:
        """The schema of a payload of any version."""
        if not self.earlier:
            return self.embedded_schema()
        return {"anyOf": [self.embedded_schema(version) for version in reversed(self.versions)]}

    def problems(self, payload: object) -> list[tuple[str, str]]:
        """The first few problems of a payload according to the schema: where (``data.total``), and what, without values."""
        version = self.version_of(payload)
        if version is None:
            path = ".".join(["data", *self.version_at.split("/")[1:]])
            return [(path, f"It is not one of the known versions: {', '.join(map(str, self.versions))}")]
        validator: Validator = self._validators[version]  # type: ignore[attr-defined]
        # The library reports each missing member, and we name all of them each time.
        found = dict.fromkeys(map(_problem, itertools.islice(validator.iter_errors(payload), _MAX_EXAMINED)))
        return list(itertools.islice(found, _MAX_FINDINGS))

    def meta(self, envelope: EventMeta, payload: object, given: EventReferences) -> EventMeta:
        """The references of the event: the targets of the pointers, or what the envelope says."""
        found = {
            name: [one for pointer in pointers for one in texts_at(payload, pointer)]
            for name, pointers in self.references.items()
        }
        stock_item = next(
            (int(one) for one in found.get("stock_item_id", ()) if one.isascii() and one.isdigit() and len(one) < 19), None
        )
        return EventMeta(
            id=envelope.id,
            event_name=envelope.event_name,
            created_at=envelope.created_at,
            received_at=envelope.received_at,
            order_number=_first(found.get("order_number", ())) or given.order_number,
            subscription_id=_first(found.get("subscription_id", ())) or given.subscription_id,
            shipment_numbers=unique(found.get("shipment_numbers", ())),
            skus=unique(found.get("skus", ())),
            stock_item_id=stock_item,
        )


def validator_of(schema: Mapping[str, Any]) -> Validator:
    """A validator that fetches nothing: the targets of references must be inside the schema."""
    from jsonschema.validators import Draft202012Validator, extend, validator_for  # noqa: PLC0415 - every role loads this file, and few have such types
    from referencing import Registry  # noqa: PLC0415

    kind = extend(validator_for(schema, default=Draft202012Validator), {"uniqueItems": _unique_items})
    made: Validator = kind(schema, registry=Registry())
    return made


def _unique_items(_validator: Validator, wanted: object, instance: object, _schema: object) -> Iterator[SchemaFinding]:
    """The library compares each pair of objects in a list: hours for a list of 100,000, in which nothing is delivered."""
    from jsonschema.exceptions import ValidationError  # noqa: PLC0415

    if wanted is True and isinstance(instance, list) and len(set(map(_hashable, instance))) < len(instance):
        yield ValidationError("the elements are not unique")


def _hashable(value: object) -> Hashable:
    """Equal for values that are equal in JSON: 1 and 1.0 are, 1 and true are not."""
    match value:
        case bool():
            return "bool", value
        case list():
            return "list", tuple(map(_hashable, value))
        case dict():
            return "dict", frozenset((name, _hashable(one)) for name, one in value.items())
        case Hashable():
            return value
    raise TypeError(f"{type(value).__name__} is not JSON")


def texts_at(payload: object, pointer: str) -> list[str]:
    """The texts and whole numbers at a JSON pointer; ``*`` means every element of a list, and so does a list at the end."""
    found = _at(payload, pointer)
    ends = itertools.chain.from_iterable(one if isinstance(one, list) else [one] for one in found)
    return [str(one) for one in itertools.islice(ends, _MAX_VALUES) if isinstance(one, str | int) and not isinstance(one, bool)]


def _at(payload: object, pointer: str) -> list[object]:
    found = [payload]
    for step in pointer.split("/")[1:]:
        found = list(itertools.islice(_stepped(found, step.replace("~1", "/").replace("~0", "~")), _MAX_VALUES))
    return found


def _stepped(values: Iterable[object], step: str) -> Iterator[object]:
    for value in values:
        if isinstance(value, dict) and step in value:
            yield value[step]
        elif isinstance(value, list) and step == EVERY:
            yield from value
        elif isinstance(value, list) and step.isascii() and step.isdigit() and int(step[:9]) < len(value):
            yield value[int(step[:9])]


def _first(texts: Iterable[str]) -> str | None:
    return next((one for one in texts if 0 < len(one) <= MAX_REFERENCE), None)


def _problem(error: SchemaFinding) -> tuple[str, str]:
    path = ".".join(["data", *map(str, error.absolute_path)])
    rule: Any = error.validator_value
    match error.validator:
        case "required":
            missing = [name for name in rule if isinstance(error.instance, dict) and name not in error.instance]
            verb = "is" if len(missing) == 1 else "are"
            return path, f"{', '.join(missing)} {verb} required" if missing else "A member is missing"
        case "type":
            return path, f"It should be {' or '.join(rule) if isinstance(rule, list) else rule}"
        case "enum" | "const":
            return path, "It is not one of the values that the schema allows"
        case "additionalProperties" | "unevaluatedProperties":
            return path, "It has members that the schema does not allow"
    return path, f"It breaks the schema's {error.validator}" + (f" {rule}" if isinstance(rule, str | int | float) else "")
