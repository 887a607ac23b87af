"""The figures that end-to-end tests have measured, for the table at the end."""

from collections.abc import Iterable

from testbed.datacentre.farm import Served

HEAD = ("what happened", "served", "failed", "longest gap", "measured")


class Figures:
    """Rows in the order in which they were measured."""

    def __init__(self) -> None:
        self._rows: list[tuple[str, ...]] = []

    def note(self, what: str, served: Served, measured: str = "") -> None:
        """A row: what happened, what clients noticed of it, and what else was measured."""
        total = served.total
        counts = (str(total["served"]), str(total["failed"]), f"{total['longest_gap']:.2f} s")
        self._rows.append((what, *counts, measured))

    def lines(self) -> Iterable[str]:
        """The table; nothing where nothing was measured."""
        if not self._rows:
            return
        table = [HEAD, *self._rows]
        widths = [max(len(row[column]) for row in table) for column in range(len(HEAD))]
        for row in table:
            yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
