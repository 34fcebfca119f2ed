"""The calculator of the page Sizing, on the site built as by `make docs`, with the content security policy of the API.

The site is built once, which takes some seconds.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Final, Literal

import pytest
import pytest_asyncio
from aiohttp.test_utils import TestServer
from playwright.async_api import Browser, Page, expect

from pipeline.ops.health import Health
from pipeline.web.docs_site import docs_routes
from pipeline.web.server import make_app
from tests.browser.chromium import Tab, tab_of

pytestmark = pytest.mark.asyncio(loop_scope="session")

ROOT: Final = Path(__file__).parents[2]
SOURCE: Final = (ROOT / "docs" / "sizing.md").read_text(encoding="utf-8")
PAGE: Final = "/docs/sizing.html"
EVENTS: Final = "events a second, at the peak"
DAYS: Final = "days that ClickHouse keeps"


def worked_examples() -> dict[str, dict[str, str]]:
    """Return the table of the page: its results by the number of events."""
    table = SOURCE[SOURCE.index(f"| {EVENTS} |") :].partition("\n\n")[0]
    heading, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    return {events.partition(" ")[0]: {name: cells[at] for name, *cells in rows} for at, events in enumerate(heading[1:])}


EXAMPLES: Final = worked_examples()
REFUSED: Final = (
    (EVENTS, ("", "0", "many", "10,00", "Infinity"), "Enter a number from 0.001 to 1,000,000,000, such as 100."),
    ("average load", ("101",), "Enter a number from 0.1 to 100, such as 30."),
    ("endpoints that match", ("-1",), "Enter a number from 0 to 1,000,000, such as 2."),
    ("attempts per delivery", ("1,15", "7", "0.9"), "Enter a number from 1 to 6, such as 1.15."),
    ("body, in bytes", (".", "2 000"), "Enter a number from 1 to 1,000,000,000, such as 2,000."),
    ("random text", ("1e1", "100.1"), "Enter a number from 0 to 100, such as 0."),
    (DAYS, ("0x10",), "Enter a number from 1 to 36,500, such as 400."),
    ("CPU time of a delivery", ("0.5",), "Enter a number from 1 to 1,000,000,000, such as 300."),
)
"""Invalid values, and the page's message for each."""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site."""
    where = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", str(where)]
    subprocess.run(command, cwd=ROOT, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"}, check=True, timeout=120)
    return where


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def site(built: Path) -> AsyncIterator[str]:
    """Serve the site; returns its URL."""
    app = make_app(health=Health())
    app.add_routes(docs_routes(built))
    async with TestServer(app) as server:
        yield str(server.make_url("/"))


@pytest_asyncio.fixture(loop_scope="session")
async def reader(browser: Browser, site: str) -> AsyncIterator[Tab]:
    """Open a tab with the page."""
    async with tab_of(browser, site) as tab:
        await tab.go(PAGE)
        yield tab


async def enter(page: Page, values: Mapping[str, str]) -> None:
    for label, value in values.items():
        await page.get_by_label(label).fill(value)


async def results(page: Page) -> dict[str, str]:
    """Return the resources and their amounts."""
    rows = "table => [...table.rows].map(row => [...row.cells].map(cell => cell.textContent))"
    return dict(await page.get_by_role("table", name="What it needs").evaluate(rows))


async def test_the_worked_examples_match_the_calculator(reader: Tab) -> None:
    """After a change of the costs, copy the failure's values into docs/sizing.md."""
    assert list(EXAMPLES) == ["1", "100", "10,000", "100,000"]
    for events, expected in EXAMPLES.items():
        await enter(reader.page, {EVENTS: events})
        assert await results(reader.page) == expected


async def test_the_text_matches_the_calculator(reader: Tab) -> None:
    assert f"**{await reader.page.get_by_label('CPU time of a delivery').input_value()} µs**" in SOURCE
    await enter(reader.page, {EVENTS: "100,000", DAYS: "30"})
    month = await results(reader.page)
    assert f"With `retention_days=30` it is {month['ClickHouse disk']} on {month['ClickHouse shards']} shards" in SOURCE


async def test_a_calculation_by_hand(reader: Tab) -> None:
    """1,000 deliveries of 2,000 µs are 2 cores: 4 half-busy processes. A body takes 0.8 * 0.55 + 0.2 * 1.55 = 0.75 of its bytes.

    ClickHouse: 500 * 86,400 * 100 events of 1,000 * 0.75 + 2 * 80 bytes, twice. Kafka: 500 * 86,400 * 7 events of
    (2 + 1) * 1,000 * 0.4 + 2 * 170 bytes, three times.
    """
    load = {
        EVENTS: "1000",
        "average load": "50",
        "endpoints that match": "1",
        "attempts per delivery": "2",
        "body, in bytes": "1000",
        "random text": "20",
        DAYS: "100",
        "CPU time of a delivery": "2000",
    }
    await enter(reader.page, load)
    assert await results(reader.page) == {
        "deliveries a second": "1,000",
        "attempts a second": "2,000",
        "fan-out processes": "4",
        "retry processes": "4",
        "recorder processes": "2",
        "partitions": "8",
        "ClickHouse cores": "1.1",
        "ClickHouse shards": "1",
        "ClickHouse disk": "8 TB",
        "Kafka disk": "1 TB",
    }


async def test_an_invalid_value_shows_advice_and_no_results(reader: Tab) -> None:
    page = reader.page
    before = await results(page)
    for label, values, advice in REFUSED:
        field = page.get_by_label(label)
        usual = await field.input_value()
        for value in values:
            await field.fill(value)
            await expect(field).to_have_accessible_description(advice)
            await expect(field).to_have_attribute("aria-invalid", "true")
            assert await page.get_by_text("Enter a number").all_inner_texts() == [advice]
            await expect(page.get_by_text("The results appear when every value is valid.")).to_be_visible()
            assert await results(page) == dict.fromkeys(before, "-"), (label, value)
        await field.fill(usual)
        await expect(field).to_have_attribute("aria-invalid", "false")
        await expect(page.get_by_text("Enter a number")).to_have_count(0)
        assert await results(page) == before


async def test_a_load_too_large_for_one_topic_shows_what_to_do(reader: Tab) -> None:
    await enter(reader.page, {EVENTS: "1,000,000"})
    await expect(reader.page.get_by_text("A topic may have at most 1,024 partitions. Divide this load")).to_be_visible()
    assert (await results(reader.page))["partitions"] == "2,400"


async def test_the_form_can_be_filled_in_with_the_keyboard(reader: Tab) -> None:
    page = reader.page
    await page.get_by_label(EVENTS).focus()
    for value in ("10,000", "30", "2", "1.15", "2,000", "0", "400", "300"):
        await page.keyboard.press("ControlOrMeta+A")
        await page.keyboard.type(value)
        await page.keyboard.press("Enter")  # sends nothing, and opens no page
        await page.keyboard.press("Tab")
    assert await results(page) == EXAMPLES["10,000"]


@pytest.mark.parametrize(("colours", "scheme"), [("light", "default"), ("dark", "slate")])
async def test_the_calculator_works_on_a_desktop_and_on_a_phone(
    browser: Browser, site: str, colours: Literal["light", "dark"], scheme: str
) -> None:
    async with tab_of(browser, site) as tab:
        page = tab.page
        # Before the first page, because the theme keeps that page's colours.
        await page.emulate_media(color_scheme=colours, reduced_motion="reduce")
        await tab.go(PAGE)
        await expect(page.locator("body")).to_have_attribute("data-md-color-scheme", scheme)
        await enter(page, {"attempts per delivery": "1,15"})
        for screen, width in {"desktop": 1280, "phone": 390}.items():
            await page.set_viewport_size({"width": width, "height": 860})
            await tab.look_as_it_is(f"sizing-{screen}-{colours}", ".md-content p, #sizing-calculator")


async def test_without_javascript_the_page_says_so_and_shows_the_examples(browser: Browser, site: str) -> None:
    async with tab_of(browser, site, javascript=False) as tab:
        await tab.go(PAGE)
        told = "The calculator needs the documentation site (/docs) and JavaScript. Without them, use the worked examples below."
        await expect(tab.page.locator("#sizing-calculator")).to_have_text(told, use_inner_text=True)
        await expect(tab.page.get_by_role("cell", name="266 TB")).to_be_visible()
