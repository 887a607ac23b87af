"""What the emulator was asked: every request with its answer, and counters by verb and status.

Pure. Made for assertions: 'no PUT when nothing changed', 'at most five PUTs for thirty clusters'.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, field

from testbed.azure.errors import Json


@dataclass(slots=True)
class Entry:
    """One request. `status` 0: the connection was cut in place of an answer."""

    at: float
    method: str
    path: str
    query: str
    request: Json | None
    status: int
    response: Json | None
    request_headers: dict[str, str] = field(default_factory=dict)
    response_headers: dict[str, str] = field(default_factory=dict)
    fault: str = ""

    def to_json(self) -> Json:
        return asdict(self)

    @classmethod
    def from_json(cls, body: Json) -> Entry:
        return cls(**body)


_KEPT = 10_000


class RequestLog:
    """The latest entries in order, and counters of all; a test cuts it with `clear()`.

    `on_request` is called when a request has come, `on_answer` when its answer is known.
    """

    def __init__(self) -> None:
        self.entries: deque[Entry] = deque(maxlen=_KEPT)
        self.unanswered: list[Entry] = []
        """Requests that came and whose answer has not gone out yet, in order."""
        self.on_request: list[Callable[[], None]] = []
        self.on_answer: list[Callable[[], None]] = []
        self._counters: Counter[str] = Counter()

    def begin(self, entry: Entry) -> None:
        """A request has come."""
        self.entries.append(entry)
        self.unanswered.append(entry)
        for listener in self.on_request:
            listener()

    def end(self, entry: Entry) -> None:
        """It has been answered, or its connection cut."""
        self.unanswered = [other for other in self.unanswered if other is not entry]
        self._counters[f"{entry.method} {entry.status}"] += 1
        for listener in self.on_answer:
            listener()

    def clear(self) -> None:
        self.entries.clear()
        self._counters.clear()

    def matching(self, *, method: str = "", path: str = "") -> list[Entry]:
        """Entries of one method, with a part of the path; both optional."""
        return [
            entry
            for entry in self.entries
            if (not method or entry.method == method) and path.lower() in entry.path.lower()
        ]

    def counters(self) -> dict[str, int]:
        """`PUT 201` -> how many."""
        return dict(self._counters)

    def writes(self) -> list[Entry]:
        """Every request that could have changed something."""
        return [entry for entry in self.entries if entry.method in ("PUT", "PATCH", "DELETE")]
