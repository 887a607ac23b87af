"""Token buckets of Azure Resource Manager and of the network provider.

Pure: tokens are worked out from the time given. ARM has one bucket a region, subscription and principal for
reads, writes and deletes; Microsoft.Network adds 1,000 writes in 5 minutes. `scale` shrinks or widens all of
them for tests.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

READS, WRITES, DELETES = "read", "write", "delete"
_KINDS = {"GET": READS, "HEAD": READS, "DELETE": DELETES}


@dataclass(frozen=True, slots=True)
class Limit:
    """So many tokens at most, so many back a second."""

    size: float
    per_second: float


ARM_LIMITS = {READS: Limit(250, 25), WRITES: Limit(200, 10), DELETES: Limit(200, 10)}
PROVIDER_WRITES = Limit(1000, 1000 / 300)


class Bucket:
    """One token bucket, full at first."""

    def __init__(self, limit: Limit, now: float) -> None:
        self._limit = limit
        self._tokens = limit.size
        self._at = now

    def level(self, now: float) -> float:
        """Tokens there are now."""
        gained = (now - self._at) * self._limit.per_second
        return min(self._limit.size, self._tokens + gained)

    def take(self, now: float) -> float:
        """Take one token: 0, or the seconds until there will be one."""
        self._tokens, self._at = self.level(now), now
        if self._tokens >= 1:
            self._tokens -= 1
            return 0.0
        return (1 - self._tokens) / self._limit.per_second


def kind_of(method: str) -> str:
    """Which bucket an HTTP method draws from; POST counts as a write."""
    return _KINDS.get(method.upper(), WRITES)


class Throttle:
    """The buckets of all principals."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._scale = 1.0
        self._buckets: dict[tuple[str, str], Bucket] = {}

    def set_scale(self, scale: float) -> None:
        """Multiply every limit by this and start with full buckets: 0.05 makes throttling easy to meet."""
        if scale <= 0:
            raise ValueError("the scale of the token buckets must be above 0")
        self._scale = scale
        self._buckets.clear()

    def take(self, method: str, principal: str) -> int | None:
        """Draw for one request: None, or the whole seconds to wait."""
        kind = kind_of(method)
        waits = [self._bucket(kind, principal, ARM_LIMITS[kind]).take(self._clock())]
        if kind == WRITES:
            waits.append(self._bucket("provider", principal, PROVIDER_WRITES).take(self._clock()))
        wait = max(waits)
        return math.ceil(wait) if wait > 0 else None

    def remaining(self, method: str, principal: str) -> int:
        """What is left in the bucket that this method draws from."""
        kind = kind_of(method)
        return int(self._bucket(kind, principal, ARM_LIMITS[kind]).level(self._clock()))

    def _bucket(self, name: str, principal: str, limit: Limit) -> Bucket:
        key = (name, principal)
        if key not in self._buckets:
            scaled = Limit(max(1.0, limit.size * self._scale), limit.per_second * self._scale)
            self._buckets[key] = Bucket(scaled, self._clock())
        return self._buckets[key]
