"""Time, injected everywhere so that tests turn it by hand.

`monotonic` measures durations: it is the same for every process of one boot, so a value written to disk by one
agent is good for the next one until the machine reboots. `time` is for people and for windows of hours.
"""

import time as system_time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """The two clocks the agent reads."""

    def monotonic(self) -> float:
        """Seconds since some moment of this boot."""

    def time(self) -> float:
        """Seconds since 1970, UTC."""


class SystemClock:
    """The kernel's clocks."""

    def monotonic(self) -> float:
        """CLOCK_MONOTONIC, in seconds."""
        return system_time.monotonic()

    def time(self) -> float:
        """CLOCK_REALTIME, in seconds."""
        return system_time.time()


def timestamp(seconds: float) -> str:
    """A moment as Kubernetes writes it (RFC 3339, whole seconds, UTC)."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def micro_timestamp(seconds: float) -> str:
    """A moment as Leases hold it (RFC 3339 with microseconds, UTC)."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
