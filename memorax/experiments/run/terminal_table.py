"""Tables for the terminal whose values are never cut."""

from collections.abc import Iterator, Mapping, Sequence

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions
from rich.table import Table
from rich.text import Text

BORDER = 1
PADDING = 3
"""Width of a column's padding and one of its borders."""


class FittedTable:
    """A table as wide as the terminal at most: columns that do not fit beside the others go below.

    Every part repeats the first column. A value is never cut: only words of a header or of a list
    of values that is wider than the terminal are wrapped.

    Args:
        header: The titles of its columns.
        groups: The rows by heading; an empty heading is not shown.
        title: The title above it.
        notes: The notes below it, in sentences.
        words: How many of the first columns hold words, which are aligned to the left.
    """

    def __init__(
        self,
        header: Sequence[str],
        groups: Mapping[str, Sequence[Sequence[str]]],
        title: str = "",
        notes: Sequence[str] = (),
        words: int = 1,
    ):
        self._header = header
        self._groups = groups
        self._title = title
        self._notes = notes
        self._words = words

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text | Table]:
        """Yield the parts to print in a terminal of some width."""
        rows = [row for group in self._groups.values() for row in group]
        widths = [self._width(index, rows) for index in range(len(self._header))]
        if self._title:
            yield Text(self._title, style="bold")
        for heading, group in self._groups.items():
            if heading:
                yield Text(heading, style="bold")
            for columns in _parts(widths, options.max_width):
                yield self._part(columns, widths, group, options.max_width)
        yield from map(Text, self._notes)

    def _width(self, index: int, rows: Sequence[Sequence[str]]) -> int:
        words = self._header[index].split() or [""]
        return max(map(cell_len, (*words, *(row[index] for row in rows))))

    def _part(
        self,
        columns: Sequence[int],
        widths: Sequence[int],
        rows: Sequence[Sequence[str]],
        max_width: int,
    ) -> Table:
        most = max_width - BORDER - PADDING
        if len(columns) > 1:
            most -= widths[columns[0]] + PADDING
        result = Table()
        for index in columns:
            result.add_column(
                self._header[index],
                justify="left" if index < self._words else "right",
                width=widths[index] if index == columns[0] else min(widths[index], most),
                overflow="fold",
            )
        for row in rows:
            result.add_row(*(Text(row[index]) for index in columns))
        return result


def _parts(widths: Sequence[int], max_width: int) -> Iterator[list[int]]:
    """Divide columns, all but the first, among tables that fit, and put the first into each."""
    columns, used = [0], BORDER + widths[0] + PADDING
    for index in range(1, len(widths)):
        if len(columns) > 1 and used + widths[index] + PADDING > max_width:
            yield columns
            columns, used = [0], BORDER + widths[0] + PADDING
        columns.append(index)
        used += widths[index] + PADDING
    yield columns
