"""What a failing application leads to, and when it is enough. Pure.

A failed check asks for its action; a start that failed asks for another one. Each such act counts, and after
`maxActions` in the window the answer is to give up: the member stops, and a person looks at it. Whether checks
may act at all (maintenance) is decided before.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from farmstead_agent.member.facts import CheckFact
from farmstead_api.common import Action, Failover
from farmstead_api.common import Phase as CheckPhase
from farmstead_api.member import ResourceState

IGNORED = frozenset({Action.NONE, Action.SWITCHOVER})
"""Switchover is a mirror's; admission refuses it in a farm."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """An automatic act: which, why, and the check behind it if there is one."""

    action: Action
    reason: str
    message: str
    check: str = ""
    gives_up: str = ""
    """Why this is the last act until a person acts; empty while the agent may go on."""


def failed_check(checks: Iterable[CheckFact]) -> CheckFact | None:
    """The first check that is down and asks for an act; what waits for something else does not hide a restart."""
    down = [
        check
        for check in checks
        if check.state is ResourceState.DOWN and check.phase is CheckPhase.WHILE_RUNNING and check.action not in IGNORED
    ]
    return max(down, key=lambda check: SEVERITY[check.action], default=None)


SEVERITY = {Action.RESTART: 1, Action.STOP_START: 2, Action.WAIT: 3, Action.STOP: 4}
"""With several checks down, the act that changes most decides: a restart would not bring back what Wait waits for."""


def judge(*, checks: tuple[CheckFact, ...], died: bool, failover: Failover, taken: int) -> Verdict | None:
    """The act that the state of a running application asks for, if any.

    `taken` is the number of automatic acts in the window. An application of which no process is left asks for
    the action of its first process check, else for a restart.
    """
    check = failed_check(checks)
    if check is not None:
        verdict = Verdict(
            action=check.action,
            reason="CheckFailed",
            message=f"check {check.name} failed: {check.message}",
            check=check.name,
        )
    elif died:
        guards = [c.action for c in checks if c.kind == "process" and c.action not in IGNORED]
        action = guards[0] if guards else Action.RESTART
        verdict = Verdict(action=action, reason="ApplicationDied", message="no process of the application is left")
    else:
        return None
    return limited(verdict, failover=failover, taken=taken)


def failed_start(message: str, *, failover: Failover, taken: int) -> Verdict:
    """The act after a start script failed."""
    verdict = Verdict(action=Action.STOP_START, reason="StartFailed", message=message)
    return limited(verdict, failover=failover, taken=taken)


def limited(verdict: Verdict, *, failover: Failover, taken: int) -> Verdict:
    """The verdict, or the end of trying where the limit is reached or the action is Stop."""
    if verdict.action is Action.STOP:
        gives_up = f"{verdict.message}; its action is Stop"
    elif taken >= failover.max_actions:
        gives_up = (
            f"{verdict.message}, after {taken} automatic actions in {failover.window_seconds} s"
            " (failover.maxActions, failover.windowSeconds)"
        )
    else:
        return verdict
    return Verdict(
        action=Action.STOP, reason=verdict.reason, message=verdict.message, check=verdict.check, gives_up=gives_up
    )


def in_window(times: Iterable[float], *, now: float, failover: Failover) -> tuple[float, ...]:
    """The automatic acts that still count."""
    return tuple(time for time in times if now - time < failover.window_seconds)
