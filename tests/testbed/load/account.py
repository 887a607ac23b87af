"""What became of the requests: pure bookkeeping, written out as one JSON object a line.

A gap is a time in which nobody at all was served although clients asked: from one good answer to the next.
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any


@dataclass(kw_only=True)
class Account:
    """Counts since the start, and since the last `tick`. Times are seconds of one clock, given by the caller."""

    started: float
    served: int = 0
    failed: int = 0
    longest_gap: float = 0.0
    longest_gap_at: float = 0.0
    _last_answer: float | None = None
    _slowest: float = 0.0
    _by_machine: Counter[str] = field(default_factory=Counter)
    _tick_failed: int = 0
    _tick_gap: float = 0.0

    def answered(self, *, now: float, seconds: float, machine: str) -> None:
        """A request was answered after `seconds`."""
        self.served += 1
        self._by_machine[machine] += 1
        self._slowest = max(self._slowest, seconds)
        gap = now - (self.started if self._last_answer is None else self._last_answer)
        self._tick_gap = max(self._tick_gap, gap)
        if gap > self.longest_gap:
            self.longest_gap, self.longest_gap_at = gap, now - gap
        self._last_answer = now

    def failure(
        self, *, now: float, seconds: float, opened: float, client: str, machine: str, why: str
    ) -> dict[str, Any]:
        """A request failed after `seconds` on a connection that was asked for at `opened`; gives the line to write."""
        self.failed += 1
        self._tick_failed += 1
        return {"failure": why, "at": now, "seconds": seconds, "opened": opened, "client": client, "machine": machine}

    def tick(self, *, now: float) -> dict[str, Any]:
        """Counts since the last tick."""
        line = {
            "at": now,
            "by_machine": dict(sorted(self._by_machine.items())),
            "failed": self._tick_failed,
            "slowest": self._slowest,
            "gap": self._tick_gap,
        }
        self._by_machine.clear()
        self._tick_failed, self._slowest, self._tick_gap = 0, 0.0, 0.0
        return line

    def total(self) -> dict[str, Any]:
        """Everything since the start."""
        return {
            "served": self.served,
            "failed": self.failed,
            "longest_gap": self.longest_gap,
            "longest_gap_at": self.longest_gap_at,
        }
