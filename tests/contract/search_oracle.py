"""A naive attempt search in Python, written from the description of the grammar, not from the code that it checks."""

from __future__ import annotations

import json
import random
import re
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from pipeline.store.rows import Row, RowPosition, attempt_row, event_row
from schemas.attempt import AttemptState, Outcome
from schemas.delivery import Trigger
from tests.contract.store_records import START, attempt, dispatch, meta
from tests.json_encoders import ALL_ENCODERS

Pairs = list[tuple[str, str]]

PIECES: Final = (
    *(
        "Günther",
        "GÜNTHER",
        "Straße",
        "Łódź",
        "ŁÓDŹ",
        "日本語",
        "100%",
        "100x",
        "a_b",
        "aXb",
        "\\",
        "\\\\",
        "'",
        '"',
        "--",
        "/*",
        ";",
    ),
    *("R1", "R10", "r1", "CHORD-1", "spree", "Spree", "\n", "\t", "{p0:String}", "\x00", "🎁", "one two", "%", "_"),
)
NUMBERS: Final = ("R1", "r1", "R10", "R_1", "R%1", "CHORD-1", "CHORD-000111222", "")
SHIPMENTS: Final = ("H1", "H10", "h1", "H_1", "H%1", "Ü1")
SKUS: Final = ("MUG", "mug-2", "KETTLE-1L", "Tasse Ü")
ERRORS: Final = ("", "Could not connect.", "timed out; 100%", "a\\b", "ÜBERLAST")
URLS: Final = ("https://shop.example/hooks", "https://Other.example/a_b", "https://x.example/")
MILLISECOND: Final = timedelta(milliseconds=1)


@dataclass(frozen=True)
class Attempted:
    """An attempt as the oracle sees it: a value per attribute, a list for several, None for none."""

    id: int
    values: dict[str, Any]
    row: Row


@dataclass(frozen=True)
class World:
    """Attempts and the rows of their events."""

    attempts: list[Attempted]
    events: list[Row]


def world(seed: int, size: int = 150) -> World:
    """Return random attempts over a year or a minute, of random events: retried late, dispatched twice, or not in the store."""
    chance = random.Random(seed)
    stretch = chance.choice([timedelta(minutes=1), timedelta(days=3), timedelta(days=360)])
    start = START - timedelta(days=5)
    events = [_event(chance, number, start, stretch) for number in range(size // 3)]
    attempts = [_attempt(chance, number, chance.choice(events), start, stretch) for number in range(size)]
    stored = [event for event in events if chance.random() < 0.95]
    dispatched = [(one, body) for one, body, _ in stored for _ in range(chance.choice((1, 1, 1, 2)))]
    rows = [
        event_row(RowPosition(0, offset), dispatch(event=one, received_at=_received(events, one.id)), body.encode())
        for offset, (one, body) in enumerate(dispatched)
    ]
    have = {one.id for one, _ in dispatched}
    return World([_without_body(one) if one.values["event_id"] not in have else one for one in attempts], rows)


def _received(events: list[Any], event_id: str) -> datetime:
    found: datetime = next(received for one, _, received in events if one.id == event_id)
    return found


def _event(chance: random.Random, number: int, start: datetime, stretch: timedelta) -> tuple[Any, str, datetime]:
    received = start + chance.random() * stretch
    received = received.replace(microsecond=received.microsecond // 1000 * 1000)
    one = meta(
        number,
        event_name=chance.choice(("order_completed", "shipment_shipped", "stock_item_back_in_stock")),
        created_at=received - chance.choice((0, 1, 10**6)) * MILLISECOND,
        received_at=chance.choice((received, received, received, None)),
        order_number=chance.choice(NUMBERS) or None,
        shipment_numbers=tuple(chance.sample(SHIPMENTS, chance.randrange(3))),
        subscription_id=chance.choice((None, "S1", "S2")),
        stock_item_id=chance.choice((None, 1, 2, 2**40)),
        skus=tuple(chance.sample(SKUS, chance.randrange(3))),
    )
    text = "".join(chance.choices(PIECES, k=chance.randint(1, 12)))
    return one, chance.choice(list(ALL_ENCODERS.values()))({"note": text}), received


def _attempt(
    chance: random.Random, number: int, event: tuple[Any, str, datetime], start: datetime, stretch: timedelta
) -> Attempted:
    one, body, received = event
    created = chance.choice((received + MILLISECOND * chance.randrange(2000), received, start + chance.random() * stretch))
    created = created.replace(microsecond=created.microsecond // 1000 * 1000)
    failed = chance.random() < 0.4
    record = attempt(
        number,
        event=one,
        endpoint_id=chance.choice((7, 8, 2**33)),
        target_url=chance.choice(URLS),
        attempt=chance.randint(1, 6),
        trigger=chance.choice(list(Trigger)),
        state=AttemptState.FAILED if failed else AttemptState.SUCCEEDED,
        outcome=chance.choice((Outcome.RETRIED, Outcome.EXHAUSTED)) if failed else Outcome.DELIVERED,
        created_at=created,
        duration_ms=chance.choice((0.0, 0.5, 12.375, 5000.0)),
        http_status_code=chance.choice((None, 200, 204, 500, 503)),
        failure=chance.choice((None, "connect", "timeout")),
        error=chance.choice(ERRORS) or None,
        response_body="".join(chance.choices(PIECES, k=chance.randrange(4))),
        response_truncated=chance.random() < 0.2,
    )
    row = attempt_row(RowPosition(0, number), record)
    values = {
        "id": row[0],
        "event_id": one.id,
        "event_name": one.event_name,
        "endpoint_id": record.endpoint_id,
        "target_url": record.target_url,
        "http_status_code": record.http_status_code,
        "state": record.state.value,
        "outcome": record.outcome.value,
        "failure": record.failure,
        "trigger": record.trigger.value,
        "attempt": record.attempt,
        "duration_ms": record.duration_ms,
        "error": record.error,
        "idempotency_key": one.id,
        "created_at": created,
        "order_number": one.order_number,
        "shipment_number": list(one.shipment_numbers),
        "subscription_id": one.subscription_id,
        "stock_item_id": one.stock_item_id,
        "sku": list(one.skus),
        "request_body": body,
        "response_body": record.response_body or None,
        "response_truncated": record.response_truncated,
    }
    return Attempted(row[0], values, row)


def _without_body(one: Attempted) -> Attempted:
    return Attempted(one.id, one.values | {"request_body": None}, one.row)


@dataclass(frozen=True)
class Asked:
    """One condition as a user would write it."""

    attributes: tuple[str, ...]
    combinator: str
    predicate: str
    quantifier: str
    texts: tuple[str, ...]
    values: tuple[Any, ...]
    """The meaning of the texts."""
    is_long: bool = False

    @property
    def key(self) -> str:
        return f"_{self.combinator}_".join(self.attributes) + f"_{self.predicate}{self.quantifier}"

    def pairs(self, path: str, number: int) -> Iterator[tuple[str, str]]:
        if not self.is_long:
            yield from ((f"{path}[{self.key}]" + ("[]" if len(self.texts) > 1 else ""), text) for text in self.texts)
            return
        here = f"{path}[c][{number}]"
        yield from ((f"{here}[a][{n}][name]", name) for n, name in enumerate(self.attributes))
        yield (f"{here}[m]", self.combinator)
        yield (f"{here}[p]", self.predicate + self.quantifier)
        yield from ((f"{here}[v][{n}][value]", text) for n, text in enumerate(self.texts))

    def holds(self, attempted: Attempted) -> bool:
        each = [self._holds_for(name, attempted.values[name]) for name in self.attributes]
        return any(each) if self.combinator == "or" else all(each)

    def _holds_for(self, name: str, found: Any) -> bool:
        if self.predicate in YES_OR_NO:
            return YES_OR_NO[self.predicate](found) is self.values[0]
        if self.predicate in ("in", "not_in") and not self.quantifier:
            return any(_matches("eq", name, found, value) for value in self.values) is (self.predicate == "in")
        predicate = {"in": "eq", "not_in": "not_eq"}.get(self.predicate, self.predicate)
        each = [_matches(predicate, name, found, value) for value in self.values]
        return any(each) if self.quantifier == "_any" else all(each)


@dataclass(frozen=True)
class AskedGroup:
    """Conditions and groups, of which all or any must hold. An empty group does not count."""

    combinator: str
    parts: tuple[Asked | AskedGroup, ...]

    def pairs(self, path: str = "q") -> Iterator[tuple[str, str]]:
        if self.combinator == "or" and self.counting():
            yield (f"{path}[m]", "or")
        seen = set()
        for number, part in enumerate(self.parts):
            if isinstance(part, AskedGroup):
                yield from part.pairs(f"{path}[g][{number}]")
            elif part.is_long or part.key not in seen:
                seen.add("" if part.is_long else part.key)
                yield from part.pairs(path, number)

    def counting(self) -> list[Asked | AskedGroup]:
        """Return the parts that count: of two short conditions with the same key, the strategy means the first."""
        seen = set()
        counting: list[Asked | AskedGroup] = []
        for part in self.parts:
            if isinstance(part, AskedGroup):
                counting += [part] if part.counting() else []
            elif part.is_long or part.key not in seen:
                seen.add("" if part.is_long else part.key)
                counting.append(part)
        return counting

    def holds(self, attempted: Attempted) -> bool:
        each = [part.holds(attempted) for part in self.counting()]
        return any(each) if self.combinator == "or" and each else all(each)


YES_OR_NO: dict[str, Callable[[Any], bool]] = {
    "present": lambda found: found not in (None, "", []),
    "blank": lambda found: found in (None, "", []),
    "null": lambda found: found in (None, "", []),
    "not_null": lambda found: found not in (None, "", []),
    "true": lambda found: found is True,
    "not_true": lambda found: found is not True,
    "false": lambda found: found is False,
    "not_false": lambda found: found is not False,
}


def _matches(predicate: str, name: str, found: Any, value: Any) -> bool:
    if predicate == "does_not_match" or predicate.startswith("not_"):
        positive = "matches" if predicate == "does_not_match" else predicate.removeprefix("not_")
        return not _matches(positive, name, found, value)
    if isinstance(found, list):
        return any(_matches(predicate, name, one, value) for one in found)
    if found is None:
        return False  # whatever it is compared with
    if name in ("request_body", "response_body") and predicate in ("eq", "cont", "i_cont", "start", "end", "matches"):
        return _body_matches(predicate, found, value)
    match predicate:
        case "eq":
            return bool(found == value)
        case "cont" | "i_cont":
            return value.lower() in found.lower()
        case "start":
            return bool(found.lower().startswith(value.lower()))
        case "end":
            return bool(found.lower().endswith(value.lower()))
        case "matches":
            return re.fullmatch(_regex(value.lower()), found.lower(), re.DOTALL) is not None
    return _ordered(predicate, found, value)


def _body_matches(predicate: str, found: str, value: str) -> bool:
    """Match the bytes as they are, or with JSON's escapes decoded."""
    said = _said(found)
    if predicate == "eq":
        return found == value or unicodedata.normalize("NFC", said) == unicodedata.normalize("NFC", value)
    pairs = [(found.lower(), value.lower()), (_folded(said), _folded(value))]
    if predicate in ("cont", "i_cont") and len(_folded(_said(value))) >= 3:
        pairs.append((_folded(said), _folded(_said(value))))
    tests: dict[str, Callable[[str, str], bool]] = {
        "start": str.startswith,
        "end": str.endswith,
        "matches": lambda text, pattern: re.fullmatch(_regex(pattern), text, re.DOTALL) is not None,
    }
    return any(tests.get(predicate, str.__contains__)(text, wanted) for text, wanted in pairs)


def _folded(text: str) -> str:
    return unicodedata.normalize("NFC", text.casefold())


def _said(text: str) -> str:
    """Decode the JSON escapes of a text, one character at a time."""
    said, at = list[str](), 0
    while at < len(text):
        for length in (12, 6, 2, 1):
            piece = text[at : at + length]
            try:
                meant = json.loads(f'"{piece}"') if piece[0] == "\\" else piece[0]
            except ValueError:
                continue
            # Two escapes mean one character only if they are a surrogate pair.
            if length == 12 and (len(meant) != 1 or not meant > "\uffff"):
                continue
            if length == 6 and piece[1:2] != "u":
                continue
            said.append(meant if len(meant) != 1 or not "\ud800" <= meant <= "\udfff" else "\ufffd")
            at += length if piece[0] == "\\" else 1
            break
        else:
            said.append(text[at])
            at += 1
    return "".join(said)


def _ordered(predicate: str, found: Any, value: Any) -> bool:
    if isinstance(value, Day):
        day = timedelta(days=1)
        return bool(found >= value.start if predicate in ("gt", "gteq") else found < value.start + day)
    if isinstance(found, str):
        found, value = found.encode(), value.encode()
    match predicate:
        case "gt":
            return bool(found > value)
        case "gteq":
            return bool(found >= value)
        case "lt":
            return bool(found < value)
        case "lteq":
            return bool(found <= value)
    raise AssertionError(predicate)


@dataclass(frozen=True)
class Day:
    """A date without a time."""

    start: datetime


def _regex(pattern: str) -> str:
    parts = re.findall(r"\\.|\\$|.", pattern, re.DOTALL)
    special = {"%": ".*", "_": "."}
    return "".join(special[part] if part in special else re.escape(part[1:] if len(part) == 2 else part) for part in parts)


def newest_first(attempts: list[Attempted]) -> list[Attempted]:
    """Sort as attempts are shown."""
    return sorted(attempts, key=lambda one: (one.values["created_at"], one.id), reverse=True)
