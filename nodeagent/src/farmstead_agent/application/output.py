"""What scripts write, brought to the agent's own log with the member's name and the step.

Scripts write to files, so that they never wait for, or die with, a reader. What `start` leaves running may go on
writing there for ever: a file that has been read is emptied when it grows.
"""

import logging
from pathlib import Path

log = logging.getLogger("farmstead.output")
CHUNK = 64 * 1024
EMPTIED_FROM = 1024 * 1024


class Output:
    """The output files of one member."""

    def __init__(self, label: str, directory: Path) -> None:
        self._label = label
        self._directory = directory / "output"
        self._last: dict[str, str] = {}

    def pump(self) -> None:
        """Log what is new, at most 64 KiB of each file."""
        for path in sorted(self._directory.glob("*.log")):
            self._pump(path)

    def last_line(self, step: str) -> str:
        """The last line that a step's scripts wrote and that has been logged; empty without one."""
        return self._last.get(step, "")

    def _pump(self, path: Path) -> None:
        mark = path.with_suffix(".read")
        begin = int(mark.read_text() or 0) if mark.exists() else 0
        size = path.stat().st_size
        if size == begin:
            return
        with path.open("rb") as file:
            file.seek(begin if begin <= size else 0)
            chunk = file.read(CHUNK)
            end = file.tell()
        for line in chunk.decode(errors="replace").splitlines():
            log.info("[%s %s] %s", self._label, path.stem, line)
            self._last[path.stem] = line.strip() or self._last.get(path.stem, "")
        if end >= EMPTIED_FROM and end >= path.stat().st_size:
            with path.open("r+b") as file:
                file.truncate(0)
            end = 0
        mark.write_text(str(end))
