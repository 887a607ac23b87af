"""What a change costs the API server, by its own count: a number that grows unseen until a farm is large."""

import asyncio
from collections import Counter
from typing import Any

from msgspec.structs import replace

from farmstead_api import FarmCluster, parse
from farmstead_api.member import Readiness
from farmstead_kube import FARM_CLUSTERS, EventType, Selection, Watch
from testbed.api_requests import requests
from testbed.stand_in_agents import StandInAgents

CHANGES = 10
CHECKS = [{"name": "answers", "http": {"port": 8080}}, {"name": "worker", "process": {"name": "worker"}}]
OWN_LOOKS = {"farmclusters LIST"}
"""The watchdog's, on a period, whatever happens."""


async def test_a_members_change_costs_one_status_and_nothing_is_read(
    farm: Any, machines: list[str], agents: StandInAgents
) -> None:
    before = await requests(farm.client)
    await farm.operator()
    await farm.cluster(checks=CHECKS)
    await farm.condition("Ready", "True")
    assert (await requests(farm.client) - before)["members APPLY"] == len(machines)
    agents.obey = False
    shown: asyncio.Queue[FarmCluster] = asyncio.Queue()
    watch = asyncio.create_task(_follow(farm, shown))
    while not _reasons(await shown.get()):
        continue  # the watch is up once it has shown the cluster
    before = await requests(farm.client)
    for number in range(CHANGES):
        member = agents.members[farm.namespace, f"web.{machines[number % len(machines)]}"]
        said = replace(member.status, readiness=Readiness.NOT_READY, message=f"change {number}")
        await agents.write(member, said)
        while f"change {number}" not in _reasons(await shown.get()):
            continue
    asked = await requests(farm.client) - before
    watch.cancel()
    assert Counter({what: count for what, count in asked.items() if what not in OWN_LOOKS}) == {
        "members/status APPLY": CHANGES,
        "farmclusters/status APPLY": CHANGES,
    }


async def _follow(farm: Any, shown: asyncio.Queue[FarmCluster]) -> None:
    async for event in Watch(farm.client, Selection(FARM_CLUSTERS, namespace=farm.namespace)):
        if event.type is not EventType.SYNCED:
            shown.put_nowait(parse(FarmCluster, event.object))


def _reasons(cluster: FarmCluster) -> set[str]:
    return {entry.reason for entry in cluster.status.members}
