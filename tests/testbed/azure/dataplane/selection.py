"""Which members are up, why, and which of them new flows go to.

Pure. `MemberHealth` counts probe results of one member of one probe; `judge` adds adminState and what the
probe says about 'all down'. The words are those of Azure's rule health.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from testbed.azure import health
from testbed.azure.dataplane.view import Member, Rule


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """One probe: passed, or the reason code why not."""

    passed: bool
    reason: str = health.UP_SUCCESS


@dataclass(slots=True)
class MemberHealth:
    """What the probes of one member have shown so far: down until enough of them have passed."""

    up: bool = False
    reason: str = health.NOT_PROBED
    streak: int = 0

    def observe(self, result: ProbeResult, threshold: int) -> bool:
        """Count one result; whether the member has changed sides."""
        if result.passed == self.up:
            self.streak, self.reason = 0, result.reason
            return False
        self.streak += 1
        if self.streak < threshold:
            approaching = health.UP_APPROACHING_DOWN if self.up else health.DOWN_APPROACHING_UP
            self.reason = approaching
            return False
        self.up, self.streak, self.reason = result.passed, 0, result.reason
        return True


@dataclass(frozen=True, slots=True)
class Verdict:
    """One member as the rule sees it now."""

    member: Member
    up: bool
    reason: str

    @property
    def state(self) -> str:
        return health.UP if self.up else health.DOWN


def judge(rule: Rule, health_of: Callable[[str], MemberHealth]) -> tuple[Verdict, ...]:
    """The verdict on every member of a rule, in the order of its pools."""
    verdicts = tuple(_judge_one(rule, member, health_of) for member in rule.members)
    nobody = not any(verdict.up for verdict in verdicts)
    if nobody and rule.probe is not None and rule.probe.all_down_is_up:
        return tuple(
            verdict if verdict.member.admin == "Down" else Verdict(verdict.member, up=True, reason=health.UP_ALL_DOWN)
            for verdict in verdicts
        )
    return verdicts


def _judge_one(rule: Rule, member: Member, health_of: Callable[[str], MemberHealth]) -> Verdict:
    if member.admin == "Up":
        return Verdict(member, up=True, reason=health.UP_ADMIN)
    if member.admin == "Down":
        return Verdict(member, up=False, reason=health.DOWN_ADMIN)
    if rule.probe is None:
        return Verdict(member, up=True, reason=health.NOT_PROBED)
    found = health_of(member.address)
    return Verdict(member, up=found.up, reason=found.reason)
