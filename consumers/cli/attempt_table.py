"""A page of attempts as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from consumers.cli.console import Rows, shortened, visible

_OUTCOMES: Final = {
    "delivered": ("delivered", "green"),
    "repeated": ("will retry", "yellow"),
    "exhausted": ("gave up", "red"),
    "discarded": ("not sent", "magenta"),
    "expired": ("waited too long", "magenta"),
}
"""The outcomes of attempts, in words for people. JSON and CSV use the words of the API."""


class AttemptRows:
    """Attempts: complete in a pipe; on a terminal one line per attempt, with what people look for first.

    On a narrow terminal, columns are left out, and event and endpoint are shortened. If that is not enough: as blocks.
    """

    def __init__(self, found: Sequence[Mapping[str, Any]], names: Mapping[int, str]) -> None:
        self.caption = ""
        self._found = found
        self._names = names

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The rows and the caption."""
        width = options.max_width
        columns = self._short_columns() if console.is_terminal else {}
        spare = ["error", "id", "ms", "try"]
        while columns and spare and _least_width(columns) > width:
            del columns[spare.pop(0)]
        if not columns or _least_width(columns) > width:
            yield self._whole_rows()
            return
        room = width - _least_width(columns)
        is_cut = False
        for name in _GIVING_WAY:
            if name in columns:
                longest = max(cell_len(cell.plain) for cell in columns[name])
                kept = min(longest, _LEAST + room)
                room -= max(kept - _LEAST, 0)
                is_cut = is_cut or kept < longest
                columns[name] = [Text(shortened(cell.plain, kept)) for cell in columns[name]]
        table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
        for name in columns:
            table.add_column(name, no_wrap=True, justify="right" if name in ("ms", "try") else "left")
        for row in zip(*columns.values(), strict=True):
            table.add_row(*row)
        yield table
        yield Text(f"{self.caption}; times are in {datetime.now(UTC).astimezone():%Z}", "italic")
        left_out = [name for name in ("id", "try", "ms", "error") if name not in columns]
        if left_out or is_cut:
            note = (
                f"Hidden because the terminal is too narrow: {', '.join(left_out)}" if left_out else "Some values are shortened"
            )
            yield Text(f"{note}. Use a wider terminal, a pipe, or --json.", "italic")

    def _short_columns(self) -> dict[str, list[Text]]:
        times = [datetime.fromisoformat(one["created_at"]).astimezone() for one in self._found]
        is_today = all(one.date() == datetime.now(UTC).astimezone().date() for one in times)
        return (
            {
                "id": [visible(str(one["id"])) for one in self._found],
                "time": [Text(f"{one:{'%H:%M:%S' if is_today else '%m-%d %H:%M:%S'}}") for one in times],
                "order / item": [visible(_about(one)) for one in self._found],
                "event": [visible(one["event_name"]) for one in self._found],
                "endpoint": [visible(self._endpoint(one)) for one in self._found],
                "try": [Text(str(one["attempt"])) for one in self._found],
                "outcome": [_outcome(one) for one in self._found],
                "code": [visible(_code(one)) for one in self._found],
                "ms": [Text(f"{one['duration_ms']:.0f}") for one in self._found],
                "error": [visible(one["error"] or "") for one in self._found],
            }
            if self._found
            else {}
        )

    def _endpoint(self, attempt: Mapping[str, Any]) -> str:
        number, url = attempt["endpoint_id"], attempt["target_url"]
        return f"{number} {self._names.get(number) or url.partition('://')[2] or url}"

    def _whole_rows(self) -> Rows:
        headings = ("id", "time", "event", "order / item", "endpoint", "try", "outcome", "code", "ms", "error")
        rows = Rows(*headings, folded=("endpoint", "error"), caption=self.caption)
        for one in self._found:
            rows.add(
                str(one["id"]),
                one["created_at"],
                one["event_name"],
                _about(one),
                f"{one['endpoint_id']} {one['target_url']}",
                str(one["attempt"]),
                _outcome(one),
                _code(one),
                f"{one['duration_ms']:.0f}",
                one["error"] or "",
            )
        return rows


_GIVING_WAY: Final = ("event", "endpoint", "error")
_LEAST: Final = 15
"""The least width of a shortened text, in columns of the terminal."""


def _least_width(columns: Mapping[str, Sequence[Text]]) -> int:
    def least(name: str) -> int:
        widest = max(cell_len(name), *(cell_len(cell.plain) for cell in columns[name]))
        return min(widest, _LEAST) if name in _GIVING_WAY else widest

    return sum(least(name) + 2 for name in columns) - 2


def _about(attempt: Mapping[str, Any]) -> str:
    return str(attempt["order_number"] or attempt["stock_item_id"] or "")


def _code(attempt: Mapping[str, Any]) -> str:
    return str(attempt["http_status_code"] or attempt["failure"] or "")


def _outcome(attempt: Mapping[str, Any]) -> Text:
    return Text(*_OUTCOMES.get(attempt["outcome"], (attempt["outcome"], "")))
