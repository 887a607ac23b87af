"""What a check is to the agent: something to ask, a result, and the pure fold of results into Up or Down.

Until a check has passed once since the start it is asked in quick succession, so that a fast application is Ready
fast; only one failure an interval counts then, so that a slow one is not shot while it starts.
"""

from dataclasses import dataclass, replace
from typing import Protocol

from farmstead_api.common import Check
from farmstead_api.member import ResourceState

QUICK_SECONDS = 0.2
SLOWEST_QUICK_SECONDS = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One answer of a check."""

    ok: bool
    message: str = ""
    final: bool = False
    """A failure that no threshold has to confirm, once the check has passed: what is dead is not slow."""


class Asker(Protocol):
    """One check's way to ask."""

    async def ask(self) -> Result:
        """Ask once; the caller sets the limit and cancels."""

    async def pause(self, seconds: float) -> None:
        """Wait for the next time to ask; ends sooner where there is a reason to ask sooner."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckState:
    """A check's verdict and the counts behind it."""

    state: ResourceState = ResourceState.UNKNOWN
    since: float = 0.0
    """When the verdict last changed, in seconds since 1970."""
    message: str = ""
    failures: int = 0
    successes: int = 0
    passed: bool = False
    """Whether it has been Up since the application was started."""
    asked: int = 0


def folded(before: CheckState, check: Check, result: Result, *, counts: bool, now: float) -> CheckState:
    """The state after one more result; `counts` tells whether a failure moves towards the threshold."""
    if result.ok:
        successes, failures = before.successes + 1, 0
    else:
        successes, failures = 0, before.failures + (1 if counts else 0)
    state = before.state
    if result.ok and successes >= check.success_threshold:
        state = ResourceState.UP
    elif not result.ok and (failures >= check.failure_threshold or (result.final and before.passed)):
        state = ResourceState.DOWN
    return replace(
        before,
        state=state,
        since=now if state is not before.state or not before.since else before.since,
        message=result.message,
        failures=failures,
        successes=successes,
        passed=before.passed or state is ResourceState.UP,
        asked=before.asked + 1,
    )


def pace(state: CheckState, check: Check) -> float:
    """Seconds from the beginning of one asking to the next."""
    if state.passed or state.state is ResourceState.DOWN:
        return check.interval_seconds
    quick = min(QUICK_SECONDS * 1.5**state.asked, SLOWEST_QUICK_SECONDS)
    return min(quick, check.interval_seconds)
