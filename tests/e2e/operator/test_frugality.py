"""What the operator asks of Azure, counted: many clusters cost few writes, and nothing to change costs none."""

import os

import pytest

from testbed.azure_farm import AzureFarm

CLUSTERS = 30
MOST_PUTS = 5
ROUNDS = 20
SOAK_SECONDS = float(os.environ.get("FARMSTEAD_SOAK_SECONDS", "0"))


async def test_thirty_clusters_at_once_cost_few_puts(farm: AzureFarm) -> None:
    await farm.operator()
    names = [f"c{number:02}" for number in range(CLUSTERS)]
    frontends = {name: farm.internal(f"10.0.4.{10 + number}") for number, name in enumerate(names)}
    await farm.apply(*(farm.manifest(name, balancer="shared", frontend=frontends[name]) for name in names))
    await farm.wait_ready("all created", seconds=120)
    await farm.kubectl("wait", "farmcluster", "--all", "--for=condition=Ready", "--timeout=30s")
    created = len(farm.writes(method="PUT", balancer="shared"))

    await farm.apply(*(farm.manifest(name, balancer="shared", frontend=frontends[name], port=81) for name in names))
    await farm.wait_ready("all changed", seconds=120)
    changed = len(farm.writes(method="PUT", balancer="shared")) - created
    rules = (farm.balancer("shared") or {})["properties"]["loadBalancingRules"]
    assert [rule["properties"]["frontendPort"] for rule in rules] == [81] * CLUSTERS

    print(f"\n{CLUSTERS} clusters at once: {created} PUTs to create, {changed} to change")
    assert created <= MOST_PUTS
    assert changed <= CLUSTERS // 2


@pytest.mark.timeout(SOAK_SECONDS + 300)
async def test_nothing_to_change_costs_no_write(farm: AzureFarm) -> None:
    """Short: twenty rounds of looking for drift, one a second. With FARMSTEAD_SOAK_SECONDS: so long, at true pace."""
    pace = {} if SOAK_SECONDS else {"driftSeconds": 1, "healthSeconds": 1}
    await farm.operator(azure=pace)
    own, shared = (
        [farm.manifest(name) for name in ("own-1", "own-2")],
        [farm.manifest(f"shared-{number}", balancer="shared") for number in range(3)],
    )
    await farm.apply(*own, *shared)
    await farm.wait_ready()
    for name in farm.history.latest:
        await farm.wait_said(name, "LoadBalancerReady", says="3 of 3 backends up")
    before = {name: body["metadata"]["resourceVersion"] for name, body in farm.history.latest.items()}
    farm.azure.log.clear()

    def looked() -> int:
        path = farm.balancer_id("shared").casefold()
        return sum(entry.method == "GET" and entry.path.casefold() == path for entry in farm.azure.log.entries)

    if SOAK_SECONDS:
        await _for(SOAK_SECONDS)
    else:
        await farm.azure.wait_until(lambda: looked() >= ROUNDS, seconds=ROUNDS * 4)
    print(f"\nwith nothing to change, {looked()} looks at the load balancer: {farm.azure.log.counters()}")
    assert looked() >= (SOAK_SECONDS // 300 if SOAK_SECONDS else ROUNDS)
    assert farm.azure.log.writes() == []
    assert {name: body["metadata"]["resourceVersion"] for name, body in farm.history.latest.items()} == before


async def _for(seconds: float) -> None:
    """The one wait on time: that so long nothing happens is what is promised."""
    import asyncio

    await asyncio.sleep(seconds)
