"""Where and how the command line prints: nothing that somebody would copy or search for is cut."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import Final

from rich.cells import cell_len
from rich.console import Console, ConsoleDimensions, ConsoleOptions, RenderResult
from rich.markup import escape
from rich.table import Table
from rich.text import Text

_NO_LIMIT: Final = 10_000_000
_FOLDED_TO: Final = 16
"""Columns; in less, a folded text is hard to read."""
_BORDERS: Final = 3
"""Columns that a table takes beside each of its cells."""
_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def plain(text: str) -> str:
    """Text that rich must not take for markup."""
    return escape(text)


class Output(Console):
    """Standard output. A terminal has a width; a pipe and a file have none, so that a row is a line there.

    (rich takes 80 columns for a pipe, or those of the terminal that standard error goes to.)
    """

    @property
    def size(self) -> ConsoleDimensions:
        """Columns and lines."""
        return super().size if self.is_terminal else ConsoleDimensions(_NO_LIMIT, 25)

    @size.setter
    def size(self, new_size: tuple[int, int]) -> None:
        self._width, self._height = new_size


class Rows:
    """Rows under headings, as a table; as blocks of lines, one a cell, where a table would be too wide even without its spare columns.

    Cells are text, never markup. Line breaks in them, and whatever else a terminal would act on, are shown as escapes.

    Args:
        folded: headings of the columns whose texts may take several lines in a table. All others are whole.
        spare: headings of the columns that are left out where a table is too wide, the first one first. The caption names them.
        caption: what is to be said of the rows, below them.
        has_lines: whether there are lines between the rows of a table.
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
                f"Not shown for want of width: {', '.join(hidden)}. A wider terminal shows them, and so does a pipe.", "italic"
            )

    def _shown(self, width: int) -> Sequence[int] | None:
        """The numbers of the columns that a table of this width has; None where it would lack more than the spare ones."""
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
    """A text of one line, in which whatever a terminal would act on is an escape."""
    text, style = (cell.plain, cell.style) if isinstance(cell, Text) else (cell, "")
    return Text(_CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text), style)
