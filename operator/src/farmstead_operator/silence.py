"""Which machines' agents have fallen silent: their Lease has not changed for a while, by our own clock.

At first sight a Lease's own time says how old it is; from then on only its changes count, so clocks that differ do no
harm. After the API server was away nobody is called silent until they have had time to speak again. Silence decides
nothing about traffic, that is the load balancer's; it is shown, and nobody waits for the silent.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from farmstead_operator.clusters.observed import moment, timestamp

LONGEST_SLEEP = 5.0


@dataclass(slots=True)
class _Heard:
    renewed: str
    at: float
    """By the monotonic clock."""


class Silence:
    """Keeps when each machine was last heard of."""

    def __init__(
        self,
        *,
        seconds: float,
        clock: Callable[[], float],
        now: Callable[[], datetime],
        changed: Callable[[str], None],
    ) -> None:
        self._seconds = seconds
        self._clock = clock
        self._now = now
        self._changed = changed
        self._heard: dict[str, _Heard] = {}
        self._grace_until = 0.0
        self._known: Mapping[str, str] = {}
        self._news = asyncio.Event()

    def heard(self, node: str, renewed: str) -> None:
        """A machine's Lease says so."""
        before = self._heard.get(node)
        if before is None:
            age = (self._now() - moment(renewed)).total_seconds() if renewed else self._seconds
            self._heard[node] = _Heard(renewed, self._clock() - max(age, 0.0))
        elif before.renewed != renewed:
            self._heard[node] = _Heard(renewed, self._clock())
        if node in self._known:
            self._news.set()

    def gone(self, node: str) -> None:
        """A machine's Lease is no more."""
        self._heard.pop(node, None)

    def deaf(self) -> None:
        """We ourselves heard nothing for a while: everybody gets the full time again."""
        self._grace_until = self._clock() + self._seconds

    def silent(self, nodes: Iterable[str]) -> dict[str, str]:
        """Those of `nodes` that are silent, and since when."""
        if self._clock() < self._grace_until:
            return {node: since for node in nodes if (since := self._known.get(node))}
        return {node: since for node in nodes if (since := self._since(node))}

    def _since(self, node: str) -> str:
        heard = self._heard.get(node)
        if heard is None:
            return ""
        quiet = self._clock() - heard.at
        if quiet < self._seconds:
            return ""
        return self._known.get(node) or timestamp(self._now() - timedelta(seconds=quiet))

    async def run(self) -> None:
        """Tell of every machine that falls silent or speaks again; ends only by cancellation."""
        while True:
            self.tell()
            self._news.clear()
            try:
                async with asyncio.timeout(self._next()):
                    await self._news.wait()
            except TimeoutError:
                continue

    def tell(self) -> None:
        """Find out who is silent now, and tell of changes."""
        before, self._known = self._known, self.silent(list(self._heard))
        for node in before.keys() ^ self._known.keys():
            self._changed(node)

    def _next(self) -> float:
        """Seconds until somebody may fall silent."""
        now = self._clock()
        ends = [left for heard in self._heard.values() if (left := heard.at + self._seconds - now) > 0]
        return min([*ends, LONGEST_SLEEP]) + 0.01
