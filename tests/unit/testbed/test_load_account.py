"""The account of a load: gaps and counts, by a clock that the test holds."""

import pytest

from testbed.load.account import Account
from testbed.load.http import parse_head


def test_the_longest_gap_is_between_answers_and_knows_when_it_began() -> None:
    account = Account(started=100.0)
    for now in (100.1, 100.2, 103.7, 103.8):
        account.answered(now=now, seconds=0.01, machine="vm1")
    total = account.total()
    assert total["served"] == 4
    assert total["longest_gap"] == pytest.approx(3.5)
    assert total["longest_gap_at"] == pytest.approx(100.2)


def test_the_time_before_the_first_answer_is_a_gap_too() -> None:
    account = Account(started=100.0)
    account.answered(now=102.0, seconds=0.01, machine="vm1")
    assert account.total()["longest_gap"] == pytest.approx(2.0)


def test_a_tick_counts_since_the_tick_before() -> None:
    account = Account(started=0.0)
    account.answered(now=0.1, seconds=0.5, machine="vm2")
    account.failure(now=0.2, seconds=0.1, opened=0.1, client="new-0", machine="vm2", why="connect: refused")
    assert account.tick(now=1.0) == {"at": 1.0, "by_machine": {"vm2": 1}, "failed": 1, "slowest": 0.5, "gap": 0.1}
    assert account.tick(now=2.0) == {"at": 2.0, "by_machine": {}, "failed": 0, "slowest": 0.0, "gap": 0.0}
    assert account.total()["failed"] == 1


def test_header_names_are_compared_without_case() -> None:
    status, headers = parse_head("HTTP/1.1 200 OK\r\nX-Served-By: vm1\r\nCONNECTION:  close\r\n\r\n")
    assert (status, headers) == (200, {"x-served-by": "vm1", "connection": "close"})
