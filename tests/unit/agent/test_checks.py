"""How results become verdicts: thresholds, certain failures, and quick questions until the first pass."""

import pytest

from farmstead_agent.checks.base import CheckState, Result, folded, pace
from farmstead_api.common import Check, TcpCheck
from farmstead_api.member import ResourceState

UP, DOWN, UNKNOWN = ResourceState.UP, ResourceState.DOWN, ResourceState.UNKNOWN
CHECK = Check(name="answers", tcp=TcpCheck(port=80), interval_seconds=10, failure_threshold=2, success_threshold=1)
SLOW_TO_TRUST = Check(name="answers", tcp=TcpCheck(port=80), success_threshold=3)


def states(check: Check, results: str) -> list[ResourceState]:
    """Verdicts after each result: + passed, - failed, ! certainly failed, . failed but not counted."""
    state, verdicts = CheckState(), []
    for number, letter in enumerate(results):
        result = Result(ok=letter == "+", final=letter == "!")
        state = folded(state, check, result, counts=letter != ".", now=float(number + 1))
        verdicts.append(state.state)
    return verdicts


@pytest.mark.parametrize(
    ("check", "results", "verdicts"),
    [
        (CHECK, "+", [UP]),
        (CHECK, "+-+", [UP, UP, UP]),
        (CHECK, "+--", [UP, UP, DOWN]),
        (CHECK, "+-+-", [UP, UP, UP, UP]),
        (CHECK, "+--+", [UP, UP, DOWN, UP]),
        (CHECK, "--", [UNKNOWN, DOWN]),
        (CHECK, "....-", [UNKNOWN] * 5),
        (CHECK, "+!", [UP, DOWN]),
        (CHECK, "!", [UNKNOWN]),  # not yet started is not dead
        (SLOW_TO_TRUST, "++-+++", [UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN, UP]),
    ],
)
def test_thresholds(check: Check, results: str, verdicts: list[ResourceState]) -> None:
    assert states(check, results) == verdicts


def test_since_is_when_the_verdict_changed() -> None:
    state = CheckState()
    for now, ok in [(1.0, True), (2.0, True), (3.0, False), (4.0, False), (5.0, False)]:
        state = folded(state, CHECK, Result(ok=ok), counts=True, now=now)
    assert state.since == 4.0


def test_questions_are_quick_until_the_first_pass() -> None:
    state, waits = CheckState(), []
    for _ in range(6):
        waits.append(pace(state, CHECK))
        state = folded(state, CHECK, Result(ok=False), counts=False, now=1.0)
    assert waits[0] == pytest.approx(0.2)
    assert waits == sorted(waits)
    assert waits[-1] == pytest.approx(1.0)
    passed = folded(state, CHECK, Result(ok=True), counts=True, now=2.0)
    assert pace(passed, CHECK) == 10
