"""What people see of the demo: one line an event, with the time since the start. Formatting alone."""

import sys
import textwrap
import time
from collections.abc import Callable
from typing import TextIO

WIDTH = 118
COLUMN = 22
SOURCES = {
    "demo": "1;37",  # what we do
    "member": "36",
    "cluster": "34",
    "machine": "33",
    "clients": "32",
    "azure": "35",
    "failed": "1;31",
    "a": "36",
    "b": "34",
    "program": "32",
}


class Timeline:
    """Writes the lines; colours only on a terminal."""

    def __init__(self, *, out: TextIO = sys.stdout, clock: Callable[[], float] = time.monotonic) -> None:
        self._out = out
        self._clock = clock
        self._started = clock()
        self._colour = out.isatty()

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return self._clock() - self._started

    def chapter(self, title: str) -> None:
        """A new act."""
        self._out.write(f"\n{self._paint('demo', f'── {title} ' + '─' * max(0, WIDTH - len(title) - 4))}\n")
        self._out.flush()

    def say(self, source: str, text: str) -> None:
        """One event; `source` says whose word it is."""
        stamp = f"{self.elapsed:8.1f} s  {source:<8}  "
        lines = textwrap.wrap(text, WIDTH - COLUMN, subsequent_indent=" " * COLUMN) or [""]
        self._out.write(self._paint(source, stamp) + "\n".join(lines) + "\n")
        self._out.flush()

    def table(self, rows: list[tuple[str, ...]]) -> None:
        """A table; the first row is its head."""
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        for number, row in enumerate(rows):
            text = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            self._out.write(f"  {self._paint('demo', text) if number == 0 else text}\n")
        self._out.flush()

    def _paint(self, source: str, text: str) -> str:
        return f"\x1b[{SOURCES.get(source, '0')}m{text}\x1b[0m" if self._colour else text
