"""What answers of probe and application say together."""

import pytest

from testbed.load.truth import Answer, Outage, Verdict


def application(*answers: tuple[float, float, str]) -> list[Answer]:
    return [Answer("application", *answer) for answer in answers]


def probe(*answers: tuple[float, float, str]) -> list[Answer]:
    return [Answer("probe", *answer) for answer in answers]


DIED = application((0.0, 0.1, "200"), (1.0, 1.1, "Connection refused"), (2.0, 2.1, "reset"), (3.0, 3.2, "200"))


def test_an_outage_lasts_from_the_first_failure_to_the_next_good_answer() -> None:
    assert Verdict(DIED).outages == [Outage(dead=1.1, alive=3.0, served=3.2)]


def test_a_good_answer_of_the_probe_while_the_application_is_dead_is_a_lie() -> None:
    verdict = Verdict([*DIED, *probe((1.0, 1.05, "200"), (1.3, 1.4, "200"), (1.5, 1.6, "503"), (3.1, 3.2, "200"))])
    assert verdict.longest_lie == pytest.approx(0.2)


def test_a_probe_that_says_503_at_once_does_not_lie() -> None:
    verdict = Verdict([*DIED, *probe((0.5, 0.6, "200"), (1.2, 1.3, "503"), (2.5, 2.6, "503"))])
    assert verdict.longest_lie == 0.0


def test_an_application_that_never_comes_back_is_dead_to_the_end() -> None:
    verdict = Verdict([*application((0.0, 1.0, "reset")), *probe((5.0, 5.1, "200"))])
    assert verdict.outages == [Outage(dead=1.0, alive=float("inf"), served=float("inf"))]
    assert verdict.longest_lie == pytest.approx(4.0)


def test_no_answer_at_all_is_not_the_same_as_503() -> None:
    verdict = Verdict(probe((0.0, 0.1, "503"), (1.0, 2.5, "Connection refused")))
    assert [answer.outcome for answer in verdict.refused] == ["Connection refused"]
    assert verdict.slowest == pytest.approx(1.5)
