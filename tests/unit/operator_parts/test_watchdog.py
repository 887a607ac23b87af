"""What kopf has shown, held against what is there: late news are no fault, missing ones are; and what health says."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from farmstead_api import FarmCluster
from farmstead_kube import Listing, NotFound, Transient
from farmstead_operator.health import HOPELESS_SECONDS, Health
from farmstead_operator.metrics import Metrics
from farmstead_operator.stores import Store
from farmstead_operator.watchdog import DeadWatch, Difference, Watchdog, difference
from testbed.virtual_time import in_virtual_time

WEB = ("shop", "web")


def body(name: str, version: int) -> dict[str, Any]:
    spec = {"members": {"names": ["vm1"]}, "application": {"scripts": {"directory": "/opt/app"}}}
    return {"metadata": {"namespace": "shop", "name": name, "uid": name, "resourceVersion": str(version)}, "spec": spec}


class Rig:
    """A watchdog, what is there, and what was shown."""

    def __init__(self) -> None:
        self.there: dict[str, int] = {}
        self.error: Exception | None = None
        self.looks = 0
        self.between: Callable[[], None] = lambda: None
        """What happens between the first look and the second."""
        self.store = Store(FarmCluster, lambda _old, _new: None)
        self.health = Health(leading=True, synced=True, clock=lambda: asyncio.get_running_loop().time())
        self.metrics = Metrics()
        client: Any = self
        self.watchdog = Watchdog(client, self.store, self.health, self.metrics)

    async def list(self, _selection: Any) -> Listing:
        self.looks += 1
        if self.looks == 2:
            self.between()
        if self.error is not None:
            raise self.error
        return Listing([body(name, version) for name, version in self.there.items()], "9")

    def show(self, name: str, version: int) -> None:
        self.store.put(body(name, version))

    def counted(self) -> bool:
        return b'farmstead_dead_watches_total{kind="FarmCluster"} 1.0' in self.metrics.text()


def tried(story: Callable[[Rig], Awaitable[None]]) -> None:
    async def whole() -> None:
        await story(Rig())

    in_virtual_time(whole())


@pytest.mark.parametrize(
    ("there", "shown", "unseen", "extra"),
    [
        ({WEB: "5"}, {WEB: "5"}, {}, {}),
        ({WEB: "6"}, {WEB: "5"}, {WEB: ("5", "6")}, {}),
        ({WEB: "5"}, {}, {WEB: ("", "5")}, {}),
        ({}, {WEB: "5"}, {}, {WEB: "5"}),
        ({WEB: "3"}, {WEB: "5"}, {WEB: ("5", "3")}, {}),  # an etcd that was put back
    ],
)
def test_differences(there: Any, shown: Any, unseen: Any, extra: Any) -> None:
    assert difference(there, shown) == Difference(unseen, extra)


def test_what_was_shown_is_no_trouble() -> None:
    async def story(rig: Rig) -> None:
        rig.there = {"web": 5}
        rig.show("web", 5)
        await rig.watchdog.look()
        assert rig.looks == 1
        assert rig.health.ready == ""

    tried(story)


def test_what_is_shown_a_little_later_is_no_trouble_either() -> None:
    async def story(rig: Rig) -> None:
        rig.there = {"web": 6}
        rig.show("web", 5)
        rig.between = lambda: rig.show("web", 6)
        await rig.watchdog.look()
        assert rig.health.ready == ""
        assert not rig.counted()

    tried(story)


def test_a_busy_cluster_that_is_always_a_little_behind_is_no_trouble() -> None:
    async def story(rig: Rig) -> None:
        rig.there = {"web": 6}
        rig.show("web", 5)

        def both() -> None:
            rig.show("web", 6)
            rig.there = {"web": 7}

        rig.between = both
        await rig.watchdog.look()
        assert not rig.counted()

    tried(story)


@pytest.mark.parametrize("shown", [5, None])
def test_what_is_not_shown_is_a_dead_watch(shown: int | None) -> None:
    async def story(rig: Rig) -> None:
        rig.there = {"web": 6}
        if shown:
            rig.show("web", shown)
        with pytest.raises(DeadWatch):
            await rig.watchdog.look()
        assert "1 changes were not shown" in rig.health.ready
        assert rig.counted()
        rig.show("web", 6)
        await rig.watchdog.look()
        assert rig.health.ready == ""

    tried(story)


def test_what_is_gone_leaves_the_store_without_a_dead_watch() -> None:
    async def story(rig: Rig) -> None:
        rig.show("web", 5)
        await rig.watchdog.look()
        assert rig.store.objects == {}
        assert rig.health.ready == ""

    tried(story)


def test_what_came_between_two_looks_stays() -> None:
    async def story(rig: Rig) -> None:
        rig.show("web", 5)
        rig.between = lambda: rig.show("web", 7)
        await rig.watchdog.look()
        assert WEB in rig.store.objects

    tried(story)


def test_an_api_server_that_is_away_says_nothing_about_a_watch() -> None:
    async def story(rig: Rig) -> None:
        rig.show("web", 5)
        rig.error = Transient("gone fishing")
        await rig.watchdog.look()
        assert WEB in rig.store.objects
        assert not rig.counted()

    tried(story)


def test_a_kind_that_is_gone_takes_its_objects_along() -> None:
    async def story(rig: Rig) -> None:
        rig.show("web", 5)
        rig.error = NotFound("no such kind")
        await rig.watchdog.look()
        assert rig.store.objects == {}

    tried(story)


def test_nothing_is_decided_before_everything_was_shown() -> None:
    async def story(rig: Rig) -> None:
        rig.there = {"web": 5, "api": 6}
        rig.show("web", 5)
        waiting = asyncio.create_task(rig.watchdog.synced())
        await asyncio.sleep(60)
        assert not waiting.done()
        rig.show("api", 6)
        await asyncio.wait_for(waiting, 1)

    tried(story)


def test_a_watch_that_stays_dead_makes_the_process_unhealthy_and_one_that_heals_does_not() -> None:
    async def story(rig: Rig) -> None:
        rig.there = {"web": 6}
        while not rig.health.alive:
            with pytest.raises(DeadWatch):
                await rig.watchdog.look()
            assert asyncio.get_running_loop().time() < 1000 + HOPELESS_SECONDS + 20
        assert "beginning anew did not help" in rig.health.alive
        rig.show("web", 6)
        await rig.watchdog.look()
        assert rig.health.alive == ""

    tried(story)


def test_a_standby_is_ready_and_a_leader_that_has_not_seen_everything_is_not() -> None:
    health = Health()
    assert health.ready == ""
    health.leading = True
    assert "not seen everything" in health.ready
    health.synced = True
    health.trouble("watch of members", "cut off")
    health.trouble("kopf", "dead")
    assert health.ready == "kopf: dead; watch of members: cut off"
    health.trouble("kopf", "")
    assert health.ready == "watch of members: cut off"
    assert health.alive == ""
