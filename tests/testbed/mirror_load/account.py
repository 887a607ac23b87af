"""Reads the ledger of `journal.py` and judges a copy of the journal by it. Pure, but for reading the two files."""

import itertools
import json
from dataclasses import dataclass
from pathlib import Path

from testbed.mirror_load.journal import RECORD_BYTES, record


@dataclass(frozen=True)
class Entry:
    """A record that was acknowledged: its number, when (seconds of the wall clock), and on which machine."""

    record: int
    at: float
    where: str


def entries(ledger: Path) -> list[Entry]:
    """All that were acknowledged so far, in order."""
    text = ledger.read_text() if ledger.exists() else ""
    # The last line may be half written: its writer was killed before it could claim anything.
    return [Entry(**json.loads(line)) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def missing(acknowledged: list[Entry], journal: Path) -> list[int]:
    """The acknowledged records that are not in a copy of the journal as they were written."""
    data = journal.read_bytes() if journal.exists() else b""
    return [
        entry.record
        for entry in acknowledged
        if data[entry.record * RECORD_BYTES : (entry.record + 1) * RECORD_BYTES] != record(entry.record)
    ]


def longest_gap(acknowledged: list[Entry], began: float, ended: float) -> float:
    """The longest time in seconds between two acknowledgements, from `began` to `ended`."""
    moments = [began, *(entry.at for entry in acknowledged if began < entry.at < ended), ended]
    return max(after - before for before, after in itertools.pairwise(moments))
