"""Whom a change wakes: a watch's news always, an answer to our own write only where it leads on."""

from typing import Any

from farmstead_operator.clusters.observed import Key
from farmstead_operator.stores import Stores

WEB = ("shop", "web")


def body(version: int, *, uid: str = "u1", ready: int = 0) -> dict[str, Any]:
    meta = {"name": "web", "namespace": "shop", "uid": uid, "resourceVersion": str(version)}
    spec = {"members": {"names": ["vm1"]}, "application": {"scripts": {"directory": "/opt/app"}}}
    return {"metadata": meta, "spec": spec, "status": {"readyMembers": ready}}


def stores() -> tuple[Stores, list[Key]]:
    woken: list[Key] = []
    return Stores(woken.append), woken


def test_our_own_status_wakes_nobody_and_is_remembered() -> None:
    known, woken = stores()
    known.clusters.put(body(5))
    woken.clear()
    known.clusters.put_written(body(6, ready=3), wakes=False)
    known.clusters.put(body(6, ready=3))
    assert woken == []
    assert known.clusters.objects[WEB].status.ready_members == 3


def test_somebody_else_s_write_wakes_whatever_we_wrote() -> None:
    known, woken = stores()
    known.clusters.put(body(5))
    known.clusters.put_written(body(6, ready=3), wakes=False)
    woken.clear()
    known.clusters.put(body(7, ready=1))
    assert woken == [WEB]


def test_an_answer_that_comes_late_does_not_undo_what_a_watch_has_shown() -> None:
    known, woken = stores()
    known.clusters.put(body(8, ready=2))
    woken.clear()
    known.clusters.put_written(body(7, ready=3))
    assert woken == []
    assert known.clusters.objects[WEB].status.ready_members == 2
    known.clusters.put_written(body(7, uid="u2"))
    assert woken == [WEB], "another life"
