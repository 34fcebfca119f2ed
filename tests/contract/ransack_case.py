"""Eight attempts, and what searches in the Ransack grammar find: facts, measured with Ransack 4.1 on PostgreSQL.

``ransack.tsv`` has a line for each query string: what is found here (numbers of attempts; sorted if the query asks for no order),
whether something is reported in ``ignored_filters``, what Ransack finds, and the reason for any difference: the name of a row of
the table in ``docs/search.md``.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from pipeline.store.rows import Row, RowPosition, attempt_row
from schemas.attempt import AttemptState, Outcome
from tests.contract.store_records import attempt, meta

TABLE: Final = Path(__file__).with_name("ransack.tsv")

SHOP, OTHER, LAST = "https://shop.example/hooks", "https://other.example/a_b", "https://x.example/"
ATTEMPTS: Final = (
    # number, event, type, endpoint, URL, code, succeeded, attempt, ms, error, time, order, stock item, truncated
    (1, 1, "order_completed", 7, SHOP, 200, True, 1, 12.5, None, "2026-03-01T00:00:00Z", "R100", None, False),
    (2, 2, "order_completed", 7, SHOP, 500, False, 1, 1000.0, "answered with 500", "2026-03-01T12:00:00Z", "R200", None, False),
    (3, 2, "order_completed", 7, SHOP, 200, True, 2, 80.0, None, "2026-03-01T23:59:59.999Z", "R200", None, True),
    (4, 3, "order_cancelled", 11, OTHER, None, False, 1, 5000.0, "timed out; 100%", "2026-03-02T00:00:00Z", "R_1", None, False),
    (5, 4, "shipment_shipped", 11, OTHER, 404, False, 3, 0.0, "Ü not found", "2026-03-02T10:30:00Z", None, None, False),
    (6, 5, "stock_item_back_in_stock", 12, LAST, 204, True, 1, 3.25, None, "2026-03-03T00:00:00Z", None, 42, False),
    (7, 6, "stock_item_out_of_stock", 12, LAST, 503, False, 6, 999.5, "a\\b", "2026-03-04T06:07:08.009Z", None, 2**40, True),
    (8, 7, "order_completed", 7, SHOP, 201, True, 1, 40.0, None, "2026-02-28T23:59:59Z", "r100", None, False),
)


@dataclass(frozen=True)
class Fact:
    """A query string and the attempts that it finds."""

    query: str
    found: tuple[int, ...] | str
    """Numbers of attempts, or ``refused``."""
    is_reported: bool
    ransack: tuple[int, ...] | str
    """Numbers of attempts, or ``error``."""
    reason: str


def facts() -> list[Fact]:
    """Return every line of the table."""
    with TABLE.open(encoding="utf-8", newline="") as lines:
        return [
            Fact(query, _numbers(found), reported == "reported", _numbers(ransack), reason)
            for query, found, reported, ransack, reason in csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
        ]


def _numbers(text: str) -> tuple[int, ...] | str:
    words = text.split()
    return text if words and not words[0].isdigit() else tuple(map(int, words))


def rows() -> Sequence[Row]:
    """Return the attempts as rows; an attempt's number is its id."""
    return [
        attempt_row(
            RowPosition(0, number),
            attempt(
                number,
                event=meta(
                    event,
                    event_name=name,
                    order_number=order,
                    stock_item_id=stock_item,
                    shipment_numbers=(),
                    skus=(),
                    subscription_id=None,
                ),
                endpoint_id=endpoint,
                target_url=url,
                http_status_code=code,
                state=AttemptState.SUCCEEDED if succeeded else AttemptState.FAILED,
                outcome=Outcome.DELIVERED if succeeded else Outcome.EXHAUSTED,
                attempt=attempt_number,
                duration_ms=duration,
                error=error,
                created_at=datetime.fromisoformat(time),
                response_truncated=truncated,
            ),
        )
        for number, event, name, endpoint, url, code, succeeded, attempt_number, duration, error, time, order, stock_item, truncated in ATTEMPTS
    ]
