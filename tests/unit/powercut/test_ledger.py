"""What may be found after a power cut, and what may not."""

from typing import Any

import pytest

from powercut.ledger import Ledger, Promise


def told(*lines: str) -> Ledger:
    ledger = Ledger()
    for line in lines:
        ledger.take(line)
    return ledger


def found(*, block: Any = None, name: Any = None, log: tuple[int, ...] = (), torn: bool = False) -> dict[str, Any]:
    """What `look.py` prints of one writer's folder."""
    return {
        "0": {
            "blocks": {"3": block},
            "names": {} if name is None else {"3": name},
            "log": {"numbers": list(log), "torn": torn},
        }
    }


WRITTEN = ("+ 1 0 write 3", "= 1", "+ 2 0 sync 0", "= 2", "+ 3 0 write 3", "= 3", "+ 4 0 write 3")


@pytest.mark.parametrize(
    ("block", "returned", "synced"),
    [
        (None, False, False),
        (1, False, True),
        (3, True, True),
        (4, True, True),
        (5, False, False),
        ("torn", False, False),
    ],
)
def test_a_block_is_as_it_was_promised_or_newer(*, block: Any, returned: bool, synced: bool) -> None:
    ledger = told(*WRITTEN)
    assert (not ledger.violations(found(block=block), Promise.RETURNED)) == returned
    assert (not ledger.violations(found(block=block), Promise.SYNCED)) == synced


def test_a_missing_write_is_told_in_a_sentence() -> None:
    (sentence,) = told(*WRITTEN[:-1]).violations(found(block=1), Promise.RETURNED)
    assert sentence == ("writer 0, block 3: 1 is there, and not 3 (promised: every operation that had returned)")


def test_a_synced_write_is_promised_for_itself_alone() -> None:
    ledger = told("+ 1 0 write 3", "= 1", "+ 2 0 dsync 4", "= 2")
    assert ledger.violations({}, Promise.SYNCED) == [
        "writer 0, block 4: nothing is there, and not 2 (promised: every operation that a returned fsync covers)"
    ]


PUT = ("+ 1 0 put-sync 3", "= 1", "+ 2 0 put 3", "= 2", "+ 3 0 drop 3", "= 3")


@pytest.mark.parametrize(
    ("name", "returned", "synced"), [(None, True, True), (1, False, True), (2, False, True), ("torn", False, True)]
)
def test_a_name_that_was_not_synced_may_come_back(*, name: Any, returned: bool, synced: bool) -> None:
    ledger = told(*PUT)
    assert (not ledger.violations(found(name=name), Promise.RETURNED)) == returned
    assert (not ledger.violations(found(name=name), Promise.SYNCED)) == synced


def test_what_was_synced_is_whole() -> None:
    assert told(*PUT[:2]).violations(found(name="torn"), Promise.SYNCED)


LOG = ("+ 1 0 append 0", "= 1", "+ 2 0 append-sync 0", "= 2", "+ 3 0 append 0", "= 3", "+ 4 0 append 0")


@pytest.mark.parametrize(
    ("log", "torn", "returned", "synced"),
    [
        ((1,), False, False, False),
        ((1, 2), False, False, True),
        ((1, 2), True, False, True),
        ((1, 2, 3), False, True, True),
        ((1, 2, 3), True, True, True),
        ((1, 2, 3, 4), False, True, True),
        ((2, 3), False, False, False),
        ((1, 3), True, False, False),
    ],
)
def test_a_log_has_no_holes(*, log: tuple[int, ...], torn: bool, returned: bool, synced: bool) -> None:
    ledger = told(*LOG)
    assert (not ledger.violations(found(log=log, torn=torn), Promise.RETURNED)) == returned
    assert (not ledger.violations(found(log=log, torn=torn), Promise.SYNCED)) == synced


def test_what_is_found_is_the_truth_from_then_on() -> None:
    ledger = told(*WRITTEN)
    assert not ledger.settle(found(block=3), Promise.RETURNED)
    # Number 4 never was; it must not come back. What is not synced may still be lost.
    assert ledger.violations(found(block=4), Promise.RETURNED)
    assert not ledger.violations(found(block=1), Promise.SYNCED)
    assert ledger.violations(found(block=1), Promise.RETURNED)


def test_a_failed_operation_is_told() -> None:
    assert told("+ 1 0 write 3", "! 1 [Errno 5] Input/output error").failed == ["! 1 [Errno 5] Input/output error"]


def test_a_machine_that_goes_on_late_must_not_be_believed() -> None:
    ledger = told(*WRITTEN, "+ 5 0 put 3", "+ 6 0 append 0")
    assert not ledger.settle(found(block=3, log=(6,)), Promise.RETURNED)
    first = ledger.new_writer()
    # Number 4 fails, as it should; 5 was lost and must not return; 6 was there, and may; 7 began too late.
    for line in ("! 4 [Errno 5]", "= 5", "= 6", "+ 7 0 write 3", "= 7", f"+ {first} 0 write 3", f"= {first}"):
        ledger.take(line)
    assert [sentence.split()[1] for sentence in ledger.failed] == ["5", "7"]
    assert not ledger.violations(found(block=first, log=(6,)), Promise.RETURNED)
