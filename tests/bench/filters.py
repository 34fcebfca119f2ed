"""The cost of filters in the fan-out: CPU time per event, by filter and by number of endpoints. No services; half a minute.

    python -m tests.bench.filters
    python -m tests.bench.filters --endpoints 1000 --rounds 20

An event is matched as in the fan-out: the payload is parsed, the parts that filters use are converted, and each filter is evaluated.
``alone`` is all of that for one endpoint; ``each of N``: N endpoints have different filters of that form; the time that they add,
divided by N.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from msgspec.structs import replace
from rich.console import Console
from rich.table import Table

from pipeline.core.filters.stored import compiled, fields_of
from pipeline.endpoints.endpoint import Endpoint, open_endpoint
from pipeline.endpoints.subscriptions import FilterFailure, MatchInput, Subscriptions
from pipeline.endpoints.vault import Vault
from schemas.event import EventType
from tests.unit.sample_events import endpoint_record, payload_of

FORMS: Mapping[str, str] = {
    "a number": "data.total_quantity > {n}",
    "a text, not equal": 'data.channel != "shop-{n}"',
    "the beginning of a text": 'data.number.startsWith("R{n}")',
    "a pattern": 'data.number.matches("^R{n}[0-9]+$")',
    "either of two texts": 'data.state == "complete-{n}" || data.ship_address.country_iso == "US"',
    "a field that may be missing": "has(data.canceler_id) && data.canceler_id != {n}",
    "money": 'decimal(data.total) >= decimal("{n}")',
    "a country and money": '!(data.ship_address.country_iso == "X{n}") && decimal(data.total) >= decimal("{n}")',
    "any line item": 'data.line_items.exists(i, i.variant.sku.startsWith("SKU-{n}"))',
    "every line item": "data.line_items.all(i, i.quantity < {n} + 100)",
}
"""Filters that the index cannot decide, by form. No two endpoints have the same one."""
OTHER_EVENT = EventType.ORDER_CANCELLED.value


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--endpoints", type=int, default=100, help="so many endpoints have filters of one form")
    parser.add_argument("--rounds", type=int, default=9, help="the median of so many rounds is printed")
    options = parser.parse_args()
    console = Console()
    vault = Vault(Vault.new_key())
    payload = payload_of(EventType.ORDER_COMPLETED)
    plain = endpoint_record(1)

    def filtered(form: str, count: int, event: str = EventType.ORDER_COMPLETED.value) -> Iterable[Endpoint]:
        for number in range(count):
            record = endpoint_record(2 + number, events=(event,))
            yield open_endpoint(replace(record, **fields_of(compiled((form.replace("{n}", str(number)),)))), vault)

    def micros(endpoints: Iterable[Endpoint]) -> float:
        return _micros([open_endpoint(plain, vault), *endpoints], payload, options.rounds)

    none = micros(())
    console.print(
        f"An order of {len(payload):,} bytes. To find its endpoints: {none:.2f} µs without filters, "
        f"{micros(filtered(FORMS['money'], 10_000, OTHER_EVENT)):.2f} µs beside 10,000 endpoints with filters for another event type."
    )
    table = Table("filter", "alone, µs", f"each of {options.endpoints}, µs")
    each = {}
    for name, form in FORMS.items():
        alone = micros(filtered(form, 1)) - none
        each[name] = (micros(filtered(form, options.endpoints)) - none) / options.endpoints
        table.add_row(name, f"{alone:.1f}", f"{each[name]:.1f}")
    mixed = [one for form in FORMS.values() for one in filtered(form, max(1, options.endpoints // len(FORMS)))]
    endpoints = [open_endpoint(replace(one.record, id=2 + number), vault) for number, one in enumerate(mixed)]
    table.add_section()
    table.add_row("the median of these forms", "", f"{statistics.median(each.values()):.1f}")
    table.add_row("all forms together", "", f"{(micros(endpoints) - none) / len(endpoints):.1f}")
    console.print(table)


def _micros(endpoints: Iterable[Endpoint], payload: bytes, rounds: int) -> float:
    """Return the CPU time per event, in µs: the median of some rounds."""
    index = Subscriptions()
    for one in endpoints:
        index.add(one)
    members = {"id": "evt_1", "event_name": EventType.ORDER_COMPLETED.value, "created_at": "2026-03-02T15:04:00.512Z"}

    def once() -> None:
        parsed: list[Any] = []

        def parse() -> Any:
            if not parsed:
                parsed.append(msgspec.json.decode(payload))
            return parsed[0]

        index.matching(MatchInput(EventType.ORDER_COMPLETED.value, parse, lambda: members), _must_not_fail)

    times = 1
    while _seconds(once, times) < 0.02:
        times *= 2
    return statistics.median(_seconds(once, times) for _ in range(rounds)) / times * 1_000_000


def _seconds(once: Any, times: int) -> float:
    began = time.process_time()
    for _ in range(times):
        once()
    return time.process_time() - began


def _must_not_fail(failure: FilterFailure) -> None:
    raise AssertionError(failure)


if __name__ == "__main__":
    main()
