"""The last transitions of a member, on disk, for people: when, from where to where, why, and how long it took."""

import json
from collections import deque
from pathlib import Path

from farmstead_api.meta import View

KEPT = 200


class Transition(View, frozen=True):
    """One transition."""

    time: str
    before: str
    after: str
    reason: str
    cause: str
    seconds: float
    """How long it was in `before`."""
    result: str = ""
    """How the script of `before` ended, where there was one."""


class History:
    """The last 200, oldest first. Losing the last of them in a power cut is no harm, so nothing is synced."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lines: deque[str] = deque(_read(path), maxlen=KEPT)
        self._in_file = len(self._lines)

    def add(self, transition: Transition) -> None:
        """Keep one more."""
        line = json.dumps({field: getattr(transition, field) for field in transition.__struct_fields__})
        self._lines.append(line)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        if self._in_file < 2 * KEPT:
            with self._path.open("a") as file:
                file.write(line + "\n")
            self._in_file += 1
            return
        partial = self._path.with_suffix(".new")
        partial.write_text("".join(f"{kept}\n" for kept in self._lines))
        partial.rename(self._path)
        self._in_file = len(self._lines)

    def entries(self) -> list[dict[str, object]]:
        """All that is kept, oldest first."""
        return [json.loads(line) for line in self._lines]


def _read(path: Path) -> list[str]:
    """Whole lines of the file; one that a crash cut short is left out."""
    try:
        lines = path.read_text().splitlines()
    except FileNotFoundError:
        return []
    return [line for line in lines if line.endswith("}")][-KEPT:]
