"""Ransack queries mean what Ransack's users expect; ``docs/search.md`` explains the differences.

The first test takes seconds: every query runs on an engine with all migrations.
"""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from urllib.parse import quote

import pytest
from yarl import URL

from pipeline.ops.settings import Settings
from pipeline.store.writer import Table
from tests.contract.ransack_case import Fact, facts, rows
from tests.contract.store_case import opened
from tests.unit.web.service import NOW, running_service

pytestmark = pytest.mark.slow

FACTS = facts()
DOCS = Path(__file__).parents[2] / "docs" / "search.md"
OFFSET_BITS = 16
"""An attempt's id is its position in Kafka."""


def documented() -> list[str]:
    """Return the names of the rows of the table in the documentation."""
    section = DOCS.read_text("utf-8").split("\n## What differs from Ransack\n")[1].split("\n## ")[0]
    return re.findall(r"^\| \*\*(.+?)\*\* \|", section, re.MULTILINE)


async def answers() -> dict[str, tuple[tuple[int, ...] | str, bool]]:
    """Return what each query finds, and whether something is reported."""
    found: dict[str, tuple[tuple[int, ...] | str, bool]] = {}
    async with opened(Settings(clickhouse_path=PATHS[0])) as store:
        await store.writer.assign(Table.ATTEMPTS, 0)
        await store.writer.append(Table.ATTEMPTS, 0, rows())
        async with running_service(search=store.search) as service:
            for fact in FACTS:
                query = "".join(one if one.isascii() else quote(one) for one in fact.query)
                url = URL(f"{service.url}/api/webhook/attempts?{query}&per_page=200", encoded=True)
                async with service.client.get(url) as response:
                    body = await response.json()
                    if response.status == 422:
                        found[fact.query] = "refused", False
                        continue
                    ids = tuple(one["id"] >> OFFSET_BITS for one in body["attempts"])
                    is_sorted = re.search(r"q\[(s|sorts)\]", fact.query) is not None
                    found[fact.query] = ids if is_sorted else tuple(sorted(ids)), body["ignored_filters"] != []
    return found


PATHS: list[Path] = []


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[tuple[int, ...] | str, bool]]:
    """Run all of them at once: the engine is started once."""
    PATHS[:] = [tmp_path_factory.mktemp("ransack") / "clickhouse"]
    return asyncio.run(answers())


@pytest.mark.parametrize("fact", FACTS, ids=lambda fact: fact.query[:60])
def test_a_query_finds_what_it_means(played: dict[str, tuple[tuple[int, ...] | str, bool]], fact: Fact) -> None:
    assert played[fact.query] == (fact.found, fact.is_reported)


def test_every_difference_from_ransack_is_documented() -> None:
    assert len(FACTS) >= 245
    assert len({fact.query for fact in FACTS}) == len(FACTS)
    assert [fact.query for fact in FACTS if (fact.found != fact.ransack) is not bool(fact.reason)] == []
    assert sorted({fact.reason for fact in FACTS} - {""}) == sorted(documented())


def test_ignored_conditions_are_reported() -> None:
    """A query with a value that still finds everything is reported."""
    everything = tuple(range(1, 9))
    silent = [fact for fact in FACTS if tuple(sorted(fact.found)) == everything and not fact.is_reported]
    assert [fact.query for fact in silent if not _means_everything(fact.query)] == []


def _means_everything(query: str) -> bool:
    """Return true for blank filters, sorts, and conditions that hold for every attempt."""
    has_no_value = all(not part.partition("=")[2].strip("+%20 ") for part in query.split("&"))
    return (
        has_no_value
        or re.search(
            r"^q\[(s|sorts|m|target_url_cont|target_url_not_cont_any)\]|_(lt|gt|lteq|gteq|not_eq|not_eq_any|in)\]", query
        )
        is not None
    )


def test_the_clock_of_the_relative_times() -> None:
    """``yesterday`` in the table is the day before the service's current day."""
    assert NOW.isoformat() == "2026-03-02T15:04:00.512000+00:00"
