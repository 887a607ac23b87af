"""What a cluster's own controller does when a namespace goes, and ours has none to do: nothing of ours is left in it.

Without it a later test's operator, which looks at every namespace as it should, would find what an earlier test left,
and act on it.
"""

from farmstead_kube import FARM_CLUSTERS, MEMBERS, OPERATIONS, Client, NotFound, Selection


async def empty_namespace(client: Client, namespace: str) -> None:
    """Remove our objects, also those that nobody would take the finalizer off any more."""
    for resource in (FARM_CLUSTERS, OPERATIONS, MEMBERS):
        try:
            listing = await client.list(Selection(resource, namespace=namespace))
        except NotFound:
            continue  # this control plane was never told of our kinds
        for item in listing.items:
            name = item["metadata"]["name"]
            await client.delete(resource, name, namespace=namespace)
            if item["metadata"].get("finalizers"):
                await client.patch(resource, name, {"metadata": {"finalizers": None}}, namespace=namespace)
