"""The layout of small charts. Pure. Templates draw the charts as SVG without inline styles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

GAP: Final = 1.0


@dataclass(frozen=True, slots=True)
class ChartBar:
    """A column: successful attempts at the bottom, failed attempts above."""

    x: float
    width: float
    good_y: float
    good_height: float
    bad_y: float
    bad_height: float
    label: str
    href: str = ""
    """The search for its attempts. Empty if it has none."""


@dataclass(frozen=True, slots=True)
class Chart:
    """Columns in a box of ``width`` and ``height``. ``summary`` describes them in words."""

    width: float
    height: float
    bars: tuple[ChartBar, ...]
    summary: str


def columns(
    counts: Sequence[tuple[str, int, int]],
    *,
    width: float = 120.0,
    height: float = 28.0,
    least: float = 1.5,
    hrefs: Sequence[str] = (),
) -> Chart:
    """A chart of label, successes and failures, oldest first. ``least`` is the minimum height of a column that is not empty.

    ``hrefs``: the link of each column.
    """
    highest = max((good + bad for _, good, bad in counts), default=0)
    step = width / max(len(counts), 1)
    bars = []
    for number, (label, good, bad) in enumerate(counts):
        good_height, bad_height = (_height(count, highest, height, least) for count in (good, bad))
        good_height = min(good_height, height - bad_height)
        bars.append(
            ChartBar(
                x=round(number * step, 2),
                width=round(max(step - GAP, 0.5), 2),
                good_y=round(height - good_height, 2),
                good_height=round(good_height, 2),
                bad_y=round(height - good_height - bad_height, 2),
                bad_height=round(bad_height, 2),
                label=label,
                href=hrefs[number] if hrefs and (good_height or bad_height) else "",
            )
        )
    return Chart(width, height, tuple(bars), _summary(counts))


def _height(count: int, highest: int, height: float, least: float) -> float:
    return max(count / highest * height, least) if count else 0.0


def _summary(counts: Sequence[tuple[str, int, int]]) -> str:
    good, bad = sum(good for _, good, _ in counts), sum(bad for _, _, bad in counts)
    return f"{good:,} delivered, {bad:,} failed" if good or bad else "no attempts"
