"""One turn of a member's life: operations taken up, the decision, the books. Pure; the runner does what it says."""

from dataclasses import dataclass, replace

from farmstead_agent.member.advance import moved, shown
from farmstead_agent.member.decide import decide
from farmstead_agent.member.facts import Facts, Look, Move
from farmstead_agent.member.operations import accepted, progressed
from farmstead_agent.member.record import Record
from farmstead_agent.member.target import target
from farmstead_api.member import MemberSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """What comes of one look at all facts."""

    look: Look
    record: Record
    """With what this look has changed, before the move."""
    move: Move | None = None
    moved: Record | None = None
    """After the move, where there is one."""
    wake_after: float | None = None
    """Ask again after so many seconds if nothing happens before."""


def take(spec: MemberSpec, facts: Facts, *, now: float, wall: float) -> Turn:
    """Look once; `now` is monotonic, `wall` seconds since 1970."""
    want = target(spec, facts)
    record = accepted(facts.record, spec.operation, want)
    facts = replace(facts, record=record)
    decision = decide(spec, facts, now)
    record = shown(record, decision.look, wall=wall)
    if decision.move is not None:
        after = moved(record, decision.move, spec, now=now, wall=wall)
        return Turn(look=decision.look, record=record, move=decision.move, moved=after)
    record = progressed(record, target(spec, facts), decision.look)
    return Turn(look=decision.look, record=record, wake_after=decision.wake_after)
