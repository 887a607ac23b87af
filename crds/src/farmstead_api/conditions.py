"""Kubernetes conditions: their view, and the pure step that keeps `lastTransitionTime` honest."""

from collections.abc import Iterable
from enum import StrEnum

from msgspec.structs import replace

from farmstead_api.meta import View


class ConditionStatus(StrEnum):
    """Whether what a condition's type names holds."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


class Condition(View, frozen=True, omit_defaults=False):
    """One observation of an object, in the form of `metav1.Condition`."""

    type: str
    status: ConditionStatus
    reason: str
    """CamelCase, for programs."""
    message: str = ""
    """For people: what happened, and what to do."""
    last_transition_time: str = ""
    observed_generation: int = 0


def merge(old: Iterable[Condition], new: Iterable[Condition], *, now: str) -> tuple[Condition, ...]:
    """The new conditions, each with the time of its last change of status: the old one's where it did not change."""
    before = {condition.type: condition for condition in old}

    def dated(condition: Condition) -> Condition:
        previous = before.get(condition.type)
        same = previous is not None and previous.status == condition.status and previous.last_transition_time
        return replace(condition, last_transition_time=same or now)

    return tuple(dated(condition) for condition in new)
