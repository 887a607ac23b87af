"""Whose turn it is, and whose fault it was."""

from __future__ import annotations

import pytest

from farmstead_operator.azure.errors import PermanentError, TransientError
from farmstead_operator.azure.load_balancer.board import Board
from farmstead_operator.azure.shares import ClusterName
from unit.azure.builders import share

BAD = PermanentError("Bad", "Azure: farmstead.shop.b.http is bad.")
SILENT = PermanentError("Bad", "Azure: no.")
NOWHERE = PermanentError("NoRights", "Azure: no.", everywhere=True)


def names(*texts: str) -> frozenset[ClusterName]:
    return frozenset(ClusterName("shop", text) for text in texts)


class Told:
    def __init__(self, *clusters: str) -> None:
        self.calls: list[ClusterName] = []
        self.board = Board(stalled_seconds=60, on_change=self.calls.append)
        for name in clusters:
            self.board.wish(ClusterName("shop", name), share(name), 0.0)

    def settle(self, *clusters: str) -> None:
        for name in names(*clusters):
            self.board.settle(name, self.board.slots[name].version)

    def stalled(self) -> frozenset[ClusterName]:
        return frozenset(name for name, slot in self.board.slots.items() if slot.state.stalled)


def test_the_same_wish_is_no_news() -> None:
    told = Told("a")
    [a] = names("a")
    told.calls.clear()
    assert not told.board.wish(a, share("a"), 5.0)
    assert told.calls == []
    assert told.board.slots[a].state.pending_since == 0.0


def test_a_wish_that_came_meanwhile_is_not_settled() -> None:
    told = Told("a")
    [a] = names("a")
    selection = told.board.select(0.0)
    told.board.wish(a, None, 1.0)
    told.board.settle(a, selection.versions[a])
    assert not told.board.slots[a].state.settled
    assert told.board.select(1.0).withdrawn == names("a")


def test_all_that_changed_goes_together_with_all_that_is_there() -> None:
    told = Told("a", "b", "c")
    told.settle("a")
    selection = told.board.select(0.0)
    assert selection.lane == names("b", "c")
    assert selection.wanted.keys() == names("a", "b", "c")


def test_who_is_named_is_to_blame() -> None:
    told = Told("a", "b", "c")
    lane = told.board.select(0.0).lane
    told.board.refuse(lane, lane, BAD, 0.0)
    assert told.stalled() == names("b")
    assert told.board.select(0.0).lane == names("a", "c")


def test_who_is_alone_is_to_blame() -> None:
    told = Told("a", "c")
    told.settle("c")
    lane = told.board.select(0.0).lane
    told.board.refuse(lane, lane, SILENT, 0.0)
    assert told.stalled() == names("a")


@pytest.mark.parametrize("size", [2, 3, 8, 30])
def test_halves_find_the_cause(size: int) -> None:
    """However many changed, one bad cluster is alone in the end, after few tries."""
    every = [f"n{number:02}" for number in range(size)]
    told = Told(*every)
    culprit = ClusterName("shop", every[size // 3])
    tries = 0
    while lane := told.board.select(0.0).lane:
        tries += 1
        if culprit in lane:
            told.board.refuse(lane, lane, SILENT, 0.0)
        else:
            told.settle(*(name.name for name in lane))
    assert told.stalled() == {culprit}
    assert tries <= 2 * size.bit_length() + 1


def test_what_concerns_all_stalls_all() -> None:
    told = Told("a", "b")
    told.settle("b")
    lane = told.board.select(0.0).lane
    told.board.refuse(frozenset(), lane, NOWHERE, 0.0)
    assert told.stalled() == names("a")


def test_what_is_stalled_comes_back_alone() -> None:
    told = Told("a", "b", "c")
    lane = told.board.select(0.0).lane
    told.board.refuse(lane, lane, NOWHERE, 0.0)
    assert told.board.select(59.0).lane == frozenset()
    assert told.board.next_retry() == 60.0
    told.board.wish(ClusterName("shop", "d"), share("d"), 60.0)
    assert told.board.select(60.0).lane == names("d")
    told.settle("d")
    assert [told.board.select(60.0).lane for _ in "abc"] == [names("a"), names("b"), names("c")]


def test_another_wish_ends_the_stall() -> None:
    told = Told("a")
    [a] = names("a")
    told.board.stall(a, SILENT, 0.0)
    told.board.wish(a, share("a", location="westeurope"), 1.0)
    assert not told.board.slots[a].state.stalled
    assert told.board.ready(1.0) == {a}


def test_postponed_is_not_tried_before_its_time() -> None:
    told = Told("a")
    [a] = names("a")
    told.board.postpone(a, TransientError("Busy", "Azure: later."), until=7.0)
    problem = told.board.slots[a].state.problem
    assert problem is not None
    assert (problem.permanent, problem.retry_at) == (False, 7.0)
    assert told.board.ready(6.0) == frozenset()
    assert told.board.ready(7.0) == {a}


def test_drift_is_what_was_settled() -> None:
    told = Told("a", "b")
    told.settle("a")
    assert told.board.unsettle(names("a", "b"), 3.0) == tuple(names("a"))
    told.board.stall(ClusterName("shop", "a"), SILENT, 3.0)
    assert told.stalled() == names("a")
    told.settle("a")
    assert told.board.slots[ClusterName("shop", "a")].state.in_place
