"""The figures that end-to-end tests have measured, for the table at the end.

They travel in the tests' reports, so they arrive from whichever process has run the test.
"""

from collections.abc import Iterable, Sequence

from testbed.datacentre.farm import Served

HEAD = ("what happened", "served", "failed", "longest gap", "measured")
PROPERTY = "figures"


class Figures:
    """What one test has measured, put into the properties of its report."""

    def __init__(self, properties: list[tuple[str, object]]) -> None:
        self._properties = properties

    def note(self, what: str, served: Served, measured: str = "") -> None:
        """A row: what happened, what clients noticed of it, and what else was measured."""
        total = served.total
        counts = (str(total["served"]), str(total["failed"]), f"{total['longest_gap']:.2f} s")
        self._properties.append((PROPERTY, (what, *counts, measured)))


def table(rows: Sequence[Sequence[str]]) -> Iterable[str]:
    """The lines of the table."""
    whole = [HEAD, *rows]
    widths = [max(len(row[column]) for row in whole) for column in range(len(HEAD))]
    for row in whole:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
