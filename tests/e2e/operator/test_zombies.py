"""A leader stopped in the middle of its work: somebody else leads, and when it wakes it writes nothing more."""

import signal

from farmstead_kube import FARM_CLUSTERS, LEASES, MEMBERS, Json, Selection
from testbed.azure_farm import AzureFarm


async def versions(farm: AzureFarm) -> dict[str, Json]:
    """Version of everything that an operator writes."""
    found = {}
    for resource, namespace in ((FARM_CLUSTERS, farm.namespace), (MEMBERS, farm.namespace), (LEASES, None)):
        for item in (await farm.client.list(Selection(resource, namespace=namespace))).items:
            meta = item["metadata"]
            if resource is not LEASES or meta["name"] == "farmstead-operator":
                found[f"{resource.kind} {meta['name']}"] = meta["resourceVersion"]
    return found


async def test_a_leader_that_wakes_late_writes_nothing_more(farm: AzureFarm) -> None:
    one = await farm.operator("one")
    await farm.apply(farm.manifest("web"), farm.manifest("other"))
    await farm.wait_ready()
    two = await farm.operator("two")
    await two.port()

    # Stopped with a write under way, and more to do as soon as it is told of its end.
    farm.azure.set_latency(1.0)
    await farm.apply(farm.manifest("web", port=81), farm.manifest("other", port=81))
    await farm.azure.wait_until(lambda: any(entry.method == "PUT" for entry in farm.azure.log.unanswered), seconds=30)
    zombie = one.child
    zombie.signal(signal.SIGSTOP)
    await farm.apply(farm.manifest("web", port=82), farm.manifest("other", port=82))
    await farm.wait_ready("two has done it")
    await farm.apply(farm.manifest("web", port=83))
    await farm.wait_ready("two goes on")

    # With two stopped as well, whatever is written now is the zombie's.
    two.child.signal(signal.SIGSTOP)
    await farm.azure.wait_until(lambda: not farm.azure.log.unanswered, seconds=30)
    before, asked = await versions(farm), len(farm.writes())
    zombie.signal(signal.SIGCONT)
    assert await zombie.wait() == 1
    await farm.azure.wait_until(lambda: not farm.azure.log.unanswered, seconds=30)
    assert len(farm.writes()) == asked
    assert await versions(farm) == before
    two.child.signal(signal.SIGCONT)
    await farm.apply(farm.manifest("web", port=84))
    await farm.wait_ready("somebody leads")
