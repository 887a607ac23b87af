"""Which instructions to work from: what the API shows now, held against what is applied. Pure.

Gone is not stop: a Member that comes back older than the one applied changes nothing, since the API server may
have been put back to an earlier state. What is shown is always the API's present (lists are consistent, streams
follow them), so once an older one has been seen, anything later than *that* is somebody's new wish, and is applied.
"""

from dataclasses import dataclass
from enum import StrEnum

from farmstead_api.member import Member


class Verdict(StrEnum):
    """What to do with a Member that the API shows."""

    APPLY = "Apply"
    KEEP = "Keep"
    """It is older than what is applied: run on as before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """An older Member that was seen; what comes after it is new."""

    uid: str
    generation: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """The verdict, why, and what to remember for the next one."""

    verdict: Verdict
    message: str = ""
    baseline: Baseline | None = None


def judge(applied: Member | None, baseline: Baseline | None, seen: Member) -> Judgement:
    """Whether `seen` is to be worked from, given what is applied."""
    if applied is None or not _older(applied, seen):
        return Judgement(verdict=Verdict.APPLY)
    generation = seen.metadata.generation
    same = seen.metadata.uid == applied.metadata.uid
    if (same and seen.metadata.deleting) or (seen.spec == applied.spec and not seen.metadata.deleting):
        return Judgement(verdict=Verdict.APPLY)
    if baseline is not None and baseline.uid == seen.metadata.uid and generation > baseline.generation:
        return Judgement(verdict=Verdict.APPLY)
    message = (
        f"the API shows generation {generation} of {seen.metadata.creation_timestamp}, older than the one applied here"
        f" ({applied.metadata.generation} of {applied.metadata.creation_timestamp}): was the API server restored?"
        " Any change of the cluster is applied again"
    )
    kept = baseline if baseline is not None and baseline.uid == seen.metadata.uid else None
    return Judgement(
        verdict=Verdict.KEEP,
        message=message,
        baseline=kept or Baseline(uid=seen.metadata.uid, generation=generation),
    )


def _older(applied: Member, seen: Member) -> bool:
    """Whether `seen` was written before `applied`."""
    if seen.metadata.uid == applied.metadata.uid:
        return seen.metadata.generation < applied.metadata.generation
    return seen.metadata.creation_timestamp < applied.metadata.creation_timestamp
