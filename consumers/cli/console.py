"""How the command line prints. Ids, times and numbers are never truncated; in a pipe or a file, nothing is."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Sequence
from typing import Final

from rich.cells import cell_len
from rich.console import Console, ConsoleDimensions, ConsoleOptions, RenderResult
from rich.highlighter import JSONHighlighter
from rich.markup import escape
from rich.table import Table
from rich.text import Text

_NO_LIMIT: Final = 10_000_000
_FOLDED_TO: Final = 16
"""In columns. Wrapped text is hard to read in fewer."""
_BORDERS: Final = 3
"""Columns that a table adds to each cell."""
_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff]")
"""Characters that move the cursor, are invisible, or reverse the direction of text."""
_CONTROL_IN_JSON: Final = re.compile(_CONTROL.pattern.replace("\x00-\x1f", ""))
"""In JSON, those below U+0020 are escapes already. What is left of them are the line breaks between members."""


def escape_markup(text: str) -> str:
    """Text, escaped so that rich does not read it as markup."""
    return escape(text)


class Output(Console):
    """Standard output. Only a terminal has a width; in a pipe or a file, each row is one line.

    (By itself, rich assumes 80 columns for a pipe, or the width of the terminal that standard error goes to.)
    """

    @property
    def size(self) -> ConsoleDimensions:
        """Columns and lines."""
        return super().size if self.is_terminal else ConsoleDimensions(_NO_LIMIT, 25)

    @size.setter
    def size(self, new_size: tuple[int, int]) -> None:
        self._width, self._height = new_size

    def print_data(self, data: object) -> None:
        """Print JSON, in colour on a terminal."""
        text = Text(json_text(data, self.encoding))
        JSONHighlighter().highlight(text)
        self.print(text, soft_wrap=True)


def json_text(data: object, encoding: str, *, indent: int | None = 2) -> str:
    """JSON that is valid in every encoding. Control characters are escaped: a terminal would obey those in what a receiver answered."""
    text = json.dumps(data, indent=indent, ensure_ascii=not encoding.lower().startswith("utf"))
    return _CONTROL_IN_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def shortened(text: str, width: int) -> str:
    """The text in at most ``width`` columns, with an ellipsis for what does not fit."""
    cut = visible(text)
    cut.truncate(width, overflow="ellipsis")
    return cut.plain


class Rows:
    """Rows under headings, as a table. If it is too wide even without its spare columns: as blocks, with one line per cell.

    Cells are text, never markup. Line breaks and other control characters in them are shown as escapes.

    Args:
        folded: headings of the columns whose text may wrap. Other columns never wrap.
        spare: headings of the columns to leave out of a table that is too wide, in this order. The caption names them.
        caption: text below the rows.
        has_lines: whether to draw lines between the rows of a table.
    """

    def __init__(
        self,
        *headings: str,
        folded: Collection[str] = (),
        spare: Sequence[str] = (),
        caption: str = "",
        has_lines: bool = False,
    ) -> None:
        self.caption = caption
        self._headings = headings
        self._folded = folded
        self._spare = spare
        self._has_lines = has_lines
        self._rows: list[Sequence[Text]] = []

    def add(self, *cells: str | Text) -> None:
        """A row, with a cell for each heading."""
        self._rows.append([visible(cell) for cell in cells])

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The table or the blocks, and the caption."""
        shown = self._shown(options.max_width)
        yield self._blocks() if shown is None else self._table(shown)
        if self.caption:
            yield Text(self.caption, "italic")
        if shown is not None and (hidden := [one for number, one in enumerate(self._headings) if number not in shown]):
            yield Text(
                f"Columns hidden because the terminal is too narrow: {', '.join(hidden)}. Use a wider terminal or a pipe.",
                "italic",
            )

    def _shown(self, width: int) -> Sequence[int] | None:
        """The numbers of the columns that fit into this width; None if leaving out the spare ones is not enough."""
        shown = list(range(len(self._headings)))
        least = {number: self._least(number) + _BORDERS for number in shown}
        for spare in (*self._spare, None):
            if not self._rows or sum(least[number] for number in shown) + 1 <= width:
                return shown
            if spare is not None:
                shown.remove(self._headings.index(spare))
        return None

    def _least(self, column: int) -> int:
        heading = self._headings[column]
        widest = max(map(cell_len, (heading, *(row[column].plain for row in self._rows))))
        return min(widest, _FOLDED_TO) if heading in self._folded else widest

    def _table(self, shown: Sequence[int]) -> Table:
        table = Table(show_lines=self._has_lines)
        for heading in (self._headings[number] for number in shown):
            table.add_column(Text(heading), overflow="fold", no_wrap=heading not in self._folded)
        for row in self._rows:
            table.add_row(*(row[number] for number in shown))
        return table

    def _blocks(self) -> Table:
        blocks = Table.grid(padding=(0, 2, 0, 0))
        blocks.add_column(no_wrap=True, style="bold")
        blocks.add_column(overflow="fold")
        for row in self._rows:
            for heading, cell in zip(self._headings, row, strict=True):
                if cell.plain:
                    blocks.add_row(Text(heading), cell)
            blocks.add_row()
        return blocks


def visible(cell: str | Text) -> Text:
    """The text on one line, with control characters shown as escapes."""
    text, style = (cell.plain, cell.style) if isinstance(cell, Text) else (cell, "")
    return Text(_CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text), style)
