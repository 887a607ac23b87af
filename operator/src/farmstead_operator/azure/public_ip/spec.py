"""What a public IP address has to be, whether one may be used, and which of ours may go. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from farmstead_operator.azure.document import Json
from farmstead_operator.azure.errors import PermanentError
from farmstead_operator.azure.load_balancer.spec import MANAGED_BY_TAG, is_ours
from farmstead_operator.azure.names import same
from farmstead_operator.azure.shares import ClusterShare, LoadBalancerKey

LOAD_BALANCER_TAG = "farmstead-load-balancer"
CLUSTER_TAG = "farmstead-cluster"
UID_TAG = "farmstead-cluster-uid"


def body(key: LoadBalancerKey, share: ClusterShare, instance: str) -> Json:
    """The PUT that creates a share's public address.

    Raises PermanentError when no region is known.
    """
    if not share.location:
        raise PermanentError(
            "LocationMissing",
            "To create the public IP address a region is needed: set spec.loadBalancer.azure.location, or the "
            "operator's default.",
        )
    document: Json = {
        "location": share.location,
        "sku": {"name": "Standard", "tier": "Regional"},
        "tags": {
            MANAGED_BY_TAG: instance,
            LOAD_BALANCER_TAG: key.name,
            CLUSTER_TAG: str(share.cluster),
            UID_TAG: share.uid,
        },
        "properties": {"publicIPAllocationMethod": "Static", "publicIPAddressVersion": "IPv4"},
    }
    if share.frontend.zones:
        document["zones"] = list(share.frontend.zones)
    return document


def broken(document: Json, instance: str) -> bool:
    """Whether it is one of ours whose creation failed: then it is created once more."""
    state = str((document.get("properties") or {}).get("provisioningState")).casefold()
    return state in ("failed", "canceled") and is_ours(document, instance)


def unfit(document: Json, key: LoadBalancerKey) -> PermanentError | None:
    """Why this address can't be the load balancer's frontend; None when it can."""
    name = document.get("name", "")
    sku = (document.get("sku") or {}).get("name", "Basic")
    if not same(sku, "Standard"):
        return PermanentError(
            "PublicIPAddressNotStandard",
            f"Public IP address {name} has the {sku} SKU, a Standard load balancer needs Standard: name another one.",
        )
    user = holder(document)
    if user and not user.casefold().startswith(key.identity + "/"):
        return PermanentError(
            "PublicIPAddressInUse",
            f"Public IP address {name} is in use by {user}: detach it there, or name another one.",
        )
    return None


def leftovers(
    documents: Iterable[Json],
    *,
    key: LoadBalancerKey,
    instance: str,
    wanted: Collection[str],
    attached: Collection[str],
) -> tuple[Json, ...]:
    """Those that we made for this load balancer, and that neither a share nor a frontend of it wants any more.

    `wanted` are names; `attached` the casefolded ids that the load balancer's frontends hold.
    """
    names = {name.casefold() for name in wanted}
    return tuple(
        document
        for document in documents
        if is_ours(document, instance)
        and same((document.get("tags") or {}).get(LOAD_BALANCER_TAG, ""), key.name)
        and document["name"].casefold() not in names
        and key.public_ip_id(document["name"]).casefold() not in attached
    )


def holder(document: Json) -> str:
    """Id of the frontend or the like that holds the address; empty when it is free."""
    return str(((document.get("properties") or {}).get("ipConfiguration") or {}).get("id") or "")
