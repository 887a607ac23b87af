"""Azure is down, or something that only Azure knows is wrong: the cluster says so, waits, and heals by itself."""

import pytest

from testbed.azure import Availability, Fault, Kind
from testbed.azure_farm import AzureFarm
from testbed.controlplane import CommandError
from testbed.datacentre.files import RESOURCE_GROUP

FOREIGN = {
    "location": "eastus",
    "sku": {"name": "Standard"},
    "tags": {"owner": "somebody-else"},
    "properties": {"probes": [{"name": "theirs", "properties": {"protocol": "Tcp", "port": 22}}]},
}


@pytest.mark.parametrize("outage", [Availability.REFUSE, Availability.UNAVAILABLE])
async def test_a_deletion_waits_for_azure_and_says_why(farm: AzureFarm, outage: Availability) -> None:
    farm.put("loadBalancers", "shared", FOREIGN)
    before = farm.balancer("shared")
    await farm.operator()
    await farm.apply(
        farm.manifest("own"), farm.manifest("guest", balancer="shared", frontend=farm.internal("10.0.4.20"))
    )
    await farm.wait_ready()
    await farm.azure.set_availability(outage)
    words = "Azure can't be reached" if outage is Availability.REFUSE else "The service is unavailable"
    await farm.remove("own", "guest")
    for name in ("own", "guest"):
        await farm.wait_said(name, "Reconciling", says=words, status="True")
        await farm.wait_said(name, "LoadBalancerReady", says=words, status="False")
    with pytest.raises(CommandError, match="timed out"):
        await farm.kubectl("wait", "--for=delete", "farmcluster/own", "--timeout=1s")
    path = "{.status.conditions[?(@.type=='Reconciling')].message}"
    assert words in await farm.kubectl("get", "farmcluster", "own", "-o", f"jsonpath={path}")
    await farm.azure.set_availability(Availability.UP)
    await farm.kubectl("wait", "--for=delete", "farmcluster", "--all", "--timeout=90s")
    assert farm.resources() == {"loadBalancers/shared"}
    assert farm.balancer("shared") == before, "what is not ours is as it was"


async def test_what_only_azure_knows_stalls_and_heals(farm: AzureFarm) -> None:
    groups = [
        {"subscriptionID": farm.azure.subscription_id, "resourceGroup": group} for group in (RESOURCE_GROUP, "later")
    ]
    await farm.operator(azure={"stalledSeconds": 1, "namespaces": {farm.namespace: groups}})
    early, denied = farm.manifest("early"), farm.manifest("denied")
    early["spec"]["loadBalancer"]["azure"]["resourceGroup"] = "later"
    path = farm.own_balancer("denied")
    words = "The client does not have authorization to perform action 'Microsoft.Network/loadBalancers/write'"
    farm.azure.fail(Fault(Kind.STATUS, path=path, status=403, code="AuthorizationFailed", message=words, times=100_000))
    await farm.apply(early, denied)
    for name, reason, says in (
        ("early", "ResourceGroupNotFound", "Create the resource group"),
        ("denied", "AuthorizationFailed", words),
    ):
        for kind, status in (("Stalled", "True"), ("LoadBalancerReady", "False"), ("Ready", "False")):
            await farm.wait_said(name, kind, says=says, status=status)
            assert any(
                entry.reason == reason for entry in farm.history.said if (entry.name, entry.type) == (name, "Stalled")
            )
    assert farm.azure.faults.waiting
    farm.azure.add_group("later")
    farm.azure.faults.clear()
    await farm.wait_ready("healed")
    assert all(farm.history.is_(name, "Stalled", "False") for name in ("early", "denied"))

    # The same on the way out: denied for a while, then not.
    farm.azure.fail(
        Fault(
            Kind.STATUS,
            method="DELETE",
            path=path,
            status=403,
            code="AuthorizationFailed",
            message=words,
            times=100_000,
        )
    )
    await farm.remove("early", "denied")
    await farm.wait_said("denied", "Reconciling", says=words, status="True")
    farm.azure.faults.clear()
    await farm.wait_gone("early", "denied")
    assert farm.resources() == set()
