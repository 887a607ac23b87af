"""On a load balancer that others use too: ours is kept as it should be, theirs is not touched by a byte."""

import copy
import json

from farmstead_kube import Json
from testbed.azure_farm import AzureFarm

COLLECTIONS = ("frontendIPConfigurations", "backendAddressPools", "loadBalancingRules", "probes", "outboundRules")


def their_balancer(farm: AzureFarm) -> Json:
    """A load balancer in full use by somebody else, with fields and tags of every kind."""
    identity = farm.balancer_id("kubernetes")
    return {
        "location": "eastus",
        "sku": {"name": "Standard"},
        "tags": {"aks-managed-cluster-name": "theirs", "note": "Grüße — ✓"},
        "properties": {
            "frontendIPConfigurations": [
                {
                    "name": "a1b2c3",
                    "zones": ["1", "2", "3"],
                    "properties": {
                        "privateIPAddress": "10.0.4.250",
                        "privateIPAllocationMethod": "Static",
                        "subnet": {"id": f"{farm.network_id}/subnets/front"},
                    },
                }
            ],
            "backendAddressPools": [{"name": "kubernetes", "properties": {"drainPeriodInSeconds": 17}}],
            "probes": [
                {
                    "name": "a1b2c3-TCP-443",
                    "properties": {"protocol": "Tcp", "port": 30443, "intervalInSeconds": 7, "numberOfProbes": 3},
                }
            ],
            "loadBalancingRules": [
                {
                    "name": "a1b2c3-TCP-443",
                    "properties": {
                        "protocol": "Tcp",
                        "frontendPort": 443,
                        "backendPort": 443,
                        "enableFloatingIP": True,
                        "idleTimeoutInMinutes": 11,
                        "loadDistribution": "SourceIPProtocol",
                        "frontendIPConfiguration": {"id": f"{identity}/frontendIPConfigurations/a1b2c3"},
                        "backendAddressPool": {"id": f"{identity}/backendAddressPools/kubernetes"},
                        "probe": {"id": f"{identity}/probes/a1b2c3-TCP-443"},
                    },
                }
            ],
        },
    }


def theirs(document: Json | None, names: Json) -> str:
    """Their part of a document, as text: every byte counts. Etags are the service's and change with every write."""
    assert document is not None
    part = {
        kind: [_without_state(item) for item in document["properties"].get(kind, []) if item["name"] in names[kind]]
        for kind in COLLECTIONS
    }
    return json.dumps(part | {"tags": document["tags"], "sku": document["sku"]}, ensure_ascii=False)


def _without_state(item: Json) -> Json:
    item = copy.deepcopy(item)
    item.pop("etag", None)
    item["properties"].pop("provisioningState", None)
    return item


async def test_what_is_theirs_is_not_touched_and_what_is_ours_is_put_back(farm: AzureFarm) -> None:
    farm.put("loadBalancers", "kubernetes", their_balancer(farm))
    first = farm.balancer("kubernetes")
    assert first is not None
    names = {kind: [item["name"] for item in first["properties"].get(kind, [])] for kind in COLLECTIONS}
    before = theirs(first, names)
    await farm.operator(azure={"driftSeconds": 2})

    frontend = farm.internal("10.0.4.20")
    await farm.apply(farm.manifest("guest", balancer="kubernetes", frontend=frontend), farm.manifest("own"))
    await farm.wait_ready()
    await farm.apply(farm.manifest("guest", balancer="kubernetes", frontend=frontend, port=81))
    await farm.wait_ready()

    wanted = farm.balancer("kubernetes")
    assert wanted is not None

    def meddle(body: Json) -> None:
        for rule in body["properties"]["loadBalancingRules"]:
            if rule["name"] not in names["loadBalancingRules"]:
                rule["properties"]["frontendPort"] = 8443
                rule["properties"]["idleTimeoutInMinutes"] = 30
        pools = body["properties"]["backendAddressPools"]
        body["properties"]["backendAddressPools"] = [
            pool
            | {
                "properties": pool["properties"]
                | ({} if pool["name"] in names["backendAddressPools"] else {"loadBalancerBackendAddresses": []})
            }
            for pool in pools
        ]

    farm.azure.edit_as_other_client(farm.balancer_id("kubernetes"), meddle)
    assert farm.balancer("kubernetes") != wanted
    await farm.azure.wait_until(lambda: farm.balancer("kubernetes") == wanted, seconds=60)
    await farm.wait_said("guest", "LoadBalancerReady", says="put back what somebody else changed")
    await farm.wait_ready("well again")

    def vanish(body: Json) -> None:
        for kind in COLLECTIONS:
            body["properties"][kind] = [
                item for item in body["properties"].get(kind, []) if item["name"] in names[kind]
            ]

    farm.azure.edit_as_other_client(farm.balancer_id("kubernetes"), vanish)
    await farm.azure.wait_until(lambda: farm.balancer("kubernetes") == wanted, seconds=60)
    await farm.wait_ready("well once more")

    await farm.remove("guest", "own")
    await farm.wait_gone("guest", "own")
    assert farm.resources() == {"loadBalancers/kubernetes"}
    sent = [entry.request for entry in farm.writes(method="PUT", balancer="kubernetes") if entry.status in (200, 201)]
    assert len(sent) >= 5
    for document in [*sent, farm.balancer("kubernetes")]:
        assert theirs(document, names) == before
    print(f"\n{len(sent)} PUTs on somebody else's load balancer, their part the same in each")
