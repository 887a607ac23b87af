"""Gone is not stop: an older Member changes nothing, whatever made it old; what comes after it is applied again.

applied generation 9 --etcd put back--> generation 5 seen: keep --somebody edits--> generation 6 seen: apply
"""

from typing import Any

import msgspec
import pytest

from farmstead_agent.desired import Baseline, Verdict, judge
from farmstead_api import Member

SPEC = {
    "clusterRef": {"kind": "FarmCluster", "name": "web"},
    "nodeName": "vm1",
    "revision": "r",
    "application": {"scripts": {}},
    "applicationRevision": "a",
}


def member(uid: str, generation: int, created: str, *, revision: str = "", deleting: bool = False) -> Member:
    meta: dict[str, Any] = {
        "name": "web.vm1",
        "namespace": "shop",
        "uid": uid,
        "generation": generation,
        "creationTimestamp": f"2026-01-01T{created}:00Z",
    }
    if deleting:
        meta["deletionTimestamp"] = "2026-01-02T00:00:00Z"
    spec = SPEC | {"revision": revision or f"r{generation}"}
    return msgspec.convert({"metadata": meta, "spec": spec}, Member)


APPLIED = member("a", 9, "10:00")


@pytest.mark.parametrize(
    ("seen", "verdict"),
    [
        (member("a", 10, "10:00"), Verdict.APPLY),
        (member("a", 9, "10:00"), Verdict.APPLY),
        (member("a", 5, "10:00"), Verdict.KEEP),
        (member("a", 5, "10:00", revision="r9"), Verdict.APPLY),  # older in number, the same in content
        (member("a", 6, "10:00", deleting=True), Verdict.APPLY),  # an order is an order
        (member("b", 1, "11:00"), Verdict.APPLY),  # pruned and written again
        (member("b", 1, "09:00"), Verdict.KEEP),  # a predecessor, back from a snapshot
        (member("b", 1, "09:00", revision="r9"), Verdict.APPLY),  # a predecessor that wanted the same
        (member("b", 1, "09:00", revision="r9", deleting=True), Verdict.KEEP),  # its end was another life's
    ],
)
def test_what_is_older_is_kept_away(seen: Member, verdict: Verdict) -> None:
    judgement = judge(APPLIED, None, seen)
    assert judgement.verdict is verdict
    assert bool(judgement.message) is (verdict is Verdict.KEEP)


def test_the_first_member_is_applied() -> None:
    assert judge(None, None, APPLIED).verdict is Verdict.APPLY


def test_a_change_after_a_restore_is_applied() -> None:
    restored = judge(APPLIED, None, member("a", 5, "10:00"))
    assert restored.baseline == Baseline(uid="a", generation=5)
    again = judge(APPLIED, restored.baseline, member("a", 5, "10:00"))
    assert (again.verdict, again.baseline) == (Verdict.KEEP, restored.baseline)
    assert judge(APPLIED, restored.baseline, member("a", 6, "10:00")).verdict is Verdict.APPLY
