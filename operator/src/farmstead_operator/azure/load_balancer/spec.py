"""What one PUT of a load balancer has to say: the current document and the clusters' shares in, a plan out. Pure.

    current document   shares        after the plan                       plan
    ----------------   -----------   ----------------------------------   ----------------------
    none               none          none                                 nothing
    none               some          new, tagged ours, holds the shares   PUT
    holds the shares   the same      as it was                            nothing
    lacks or differs   some          only our items changed               PUT
    ours, ours alone   none          none                                 DELETE
    ours, and foreign  none          foreign items as they were           PUT
    foreign            none          foreign items as they were           PUT, or nothing

An address can be one frontend's alone. So a share whose address a frontend of this load balancer already has, of
another cluster or of nobody we know, puts its rules on that frontend; a frontend of ours goes with its last rule.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from farmstead_operator.azure.document import Json, differences, overlay, texts
from farmstead_operator.azure.errors import PermanentError
from farmstead_operator.azure.load_balancer.items import (
    COLLECTIONS,
    FRONTENDS,
    OTHER_COLLECTIONS,
    RULES,
    Items,
    address_of,
    build,
    frontend,
)
from farmstead_operator.azure.names import prefix_of, same
from farmstead_operator.azure.shares import ClusterName, ClusterShare, LoadBalancerKey

MANAGED_BY_TAG = "farmstead-managed-by"
"""Tag of what we created; its value is the operator's instance."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A share with its public IP address resolved, where it has one."""

    share: ClusterShare
    public_ip_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to do: PUT `body`, DELETE, or nothing."""

    body: Json | None = None
    delete: bool = False
    changes: Mapping[ClusterName, tuple[str, ...]] = field(default_factory=dict)
    """Whose items change, and how, for people."""
    refused: Mapping[ClusterName, PermanentError] = field(default_factory=dict)
    """Shares that can't be put beside the others; their present items stay."""
    frontends: Mapping[ClusterName, str] = field(default_factory=dict)
    """Name of the frontend of each share."""

    @property
    def nothing(self) -> bool:
        """Whether all is as wanted."""
        return self.body is None and not self.delete


def is_ours(document: Json, instance: str) -> bool:
    """Whether this operator created the resource: its tag proves it."""
    tags = document.get("tags") or {}
    return bool(instance) and tags.get(MANAGED_BY_TAG) == instance


def plan(
    current: Json | None,
    *,
    key: LoadBalancerKey,
    instance: str,
    wanted: Sequence[Wanted],
    withdrawn: Collection[ClusterName] = (),
    keep: bool = False,
) -> Plan:
    """Decide. `keep`: other clusters will want this load balancer soon; it is not deleted even when empty.

    Raises PermanentError when no share can be there at all.
    """
    if current is None and not wanted:
        return Plan()
    before = current if current is not None else _fresh(key, instance, wanted)
    if wanted:
        _check_sku(before, key)
    chosen, refused = _choose(before, key, wanted, withdrawn)
    moving = _owners([*chosen, *withdrawn])
    document, changes = _put_items(before, chosen, moving)
    _drop_unused_frontends(document, before, chosen, moving, changes)
    names = {cluster: items.frontend for cluster, items in chosen.items()}
    if current is None:
        created = {cluster: changes.get(cluster, ("created",)) for cluster in chosen}
        return Plan(body=document if chosen else None, changes=created, refused=refused, frontends=names)
    if not wanted and not keep and is_ours(before, instance) and _empty(document):
        return Plan(delete=True, changes=changes)
    failed = str((before.get("properties") or {}).get("provisioningState")).casefold() in ("failed", "canceled")
    if failed:
        changes = {cluster: changes.get(cluster, ("the last operation failed",)) for cluster in (*chosen, *withdrawn)}
    return Plan(body=document if changes else None, changes=changes, refused=refused, frontends=names)


def frontend_address(document: Json, name: str) -> tuple[str, str]:
    """Private address and id of the public address of a frontend, each empty where there is none."""
    for item in _items(document, FRONTENDS):
        if same(item["name"], name):
            properties = item.get("properties") or {}
            public = (properties.get("publicIPAddress") or {}).get("id") or ""
            return ("" if public else properties.get("privateIPAddress") or ""), public
    return "", ""


def public_ips_in_use(document: Json | None) -> frozenset[str]:
    """Ids, casefolded, of the public addresses that the load balancer's frontends hold."""
    items = _items(document, FRONTENDS) if document else []
    ids = ((item.get("properties") or {}).get("publicIPAddress") or {} for item in items)
    return frozenset(one["id"].casefold() for one in ids if one.get("id"))


# -- which items


def _fresh(key: LoadBalancerKey, instance: str, wanted: Sequence[Wanted]) -> Json:
    location = next((one.share.location for one in wanted if one.share.location), "")
    if not location:
        raise PermanentError(
            "LocationMissing",
            f"Load balancer {key.name} does not exist in {key.resource_group}, and to create it a region is needed: "
            "set spec.loadBalancer.azure.location, or the operator's default.",
        )
    return {
        "location": location,
        "sku": {"name": "Standard", "tier": "Regional"},
        "tags": {MANAGED_BY_TAG: instance},
        "properties": {collection: [] for collection in COLLECTIONS},
    }


def _check_sku(document: Json, key: LoadBalancerKey) -> None:
    sku = (document.get("sku") or {}).get("name", "Basic")
    if not same(sku, "Standard"):
        raise PermanentError(
            "LoadBalancerNotStandard",
            f"Load balancer {key.name} in {key.resource_group} has the {sku} SKU; pools by IP address need Standard: "
            "name another one in spec.loadBalancer.azure.name.",
        )


def _choose(
    before: Json, key: LoadBalancerKey, wanted: Sequence[Wanted], withdrawn: Collection[ClusterName]
) -> tuple[dict[ClusterName, Items], dict[ClusterName, PermanentError]]:
    """The items of every share that can be there beside the others, and why the rest can't."""
    refused: dict[ClusterName, PermanentError] = {}
    ordered = sorted(wanted, key=lambda one: one.share.cluster)
    while True:
        accepted = [one for one in ordered if one.share.cluster not in refused]
        chosen = _resolve(before, key, accepted)
        losers = _clashes(before, chosen, _owners([*chosen, *withdrawn]))
        if not losers:
            return chosen, refused
        refused |= losers


_Owners = Mapping[str, ClusterName]
"""Clusters by the casefolded prefix of their items."""


def _owners(clusters: Iterable[ClusterName]) -> _Owners:
    return {cluster.prefix.casefold(): cluster for cluster in clusters}


def _resolve(before: Json, key: LoadBalancerKey, wanted: Sequence[Wanted]) -> dict[ClusterName, Items]:
    known = {address: item for item in _items(before, FRONTENDS) if (address := address_of(item))}
    chosen: dict[ClusterName, Items] = {}
    for one in wanted:
        own = frontend(one.share, public_ip_id=one.public_ip_id)
        address = address_of(own)
        there = known.setdefault(address, own) if address else own
        mine = same(there["name"], own["name"])
        chosen[one.share.cluster] = build(key, one.share, frontend_item=own if mine else there, own_frontend=mine)
    return chosen


Claim = tuple[str, str, int]
"""Frontend id, protocol and port: one rule's alone."""


def _clashes(before: Json, chosen: Mapping[ClusterName, Items], moving: _Owners) -> dict[ClusterName, PermanentError]:
    """Shares that want a port which another rule has; who has it already stays."""
    held = {_claim(rule): str(rule["name"]) for rule in _items(before, RULES)}
    taken = {claim: (name, None) for claim, name in held.items() if prefix_of(name) not in moving}
    claims = sorted(
        (moving.get(prefix_of(held.get(_claim(rule), ""))) != cluster, cluster, _claim(rule), str(rule["name"]))
        for cluster, items in chosen.items()
        for rule in items.rules
    )
    losers: dict[ClusterName, PermanentError] = {}
    holders: dict[Claim, tuple[str, ClusterName | None]] = dict(taken)
    for _, cluster, claim, name in claims:
        holder, owner = holders.get(claim, ("", None))
        if holder and owner not in losers:
            losers[cluster] = PermanentError(
                "FrontendPortInUse",
                f"Port {claim[2]}/{claim[1]} of frontend {claim[0].rpartition('/')[2]} is rule {holder}'s: "
                "choose another port or another frontend address.",
            )
        else:
            holders[claim] = name, cluster
    return losers


def _claim(rule: Json) -> Claim:
    properties = rule.get("properties") or {}
    reference = (properties.get("frontendIPConfiguration") or {}).get("id", "")
    return reference.casefold(), str(properties.get("protocol")).casefold(), properties.get("frontendPort", 0)


# -- changing the document


Changes = dict[ClusterName, tuple[str, ...]]


def _put_items(before: Json, chosen: Mapping[ClusterName, Items], moving: _Owners) -> tuple[Json, Changes]:
    """The document with the clusters' items as wanted, all else untouched; unused frontends stay for now."""
    changes: dict[ClusterName, list[str]] = {}
    properties = dict(before.get("properties") or {})
    for collection in COLLECTIONS:
        wanted = {
            item["name"].casefold(): (cluster, item)
            for cluster, items in chosen.items()
            for item in items.of(collection)
        }
        result = []
        for item in _items(before, collection):
            name = item["name"]
            owner = moving.get(prefix_of(name))
            cluster, want = wanted.pop(name.casefold(), (owner, None))
            if cluster is None or (want is None and collection == FRONTENDS):
                result.append(item)
                continue
            found = [f"{name}: {one}" for one in differences(want, item)] if want is not None else [f"{name} removed"]
            if want is not None:
                result.append(overlay(want, item) if found else item)
            if found:
                changes.setdefault(cluster, []).extend(found)
        for cluster, want in wanted.values():
            changes.setdefault(cluster, []).append(f"{want['name']} added")
            result.append(overlay(want, {}))
        properties[collection] = result
    return {**before, "properties": properties}, {cluster: tuple(told) for cluster, told in changes.items()}


def _drop_unused_frontends(
    document: Json, before: Json, chosen: Mapping[ClusterName, Items], moving: _Owners, changes: Changes
) -> None:
    """Remove frontends of ours that the plan's clusters had or used, and that nothing uses any more."""
    kept = {_reference(items.frontend) for items in chosen.values()} | _references(document)
    users = _users(before, moving)
    left = []
    for item in _items(document, FRONTENDS):
        name = item["name"]
        prefix, reference = prefix_of(name), _reference(name)
        had = {*users.get(reference, ()), *([moving[prefix]] if prefix in moving else [])}
        if had and prefix and reference not in kept:
            for cluster in had:
                changes[cluster] = (*changes.get(cluster, ()), f"{name} removed")
        else:
            left.append(item)
    document["properties"][FRONTENDS] = left


def _users(before: Json, moving: _Owners) -> dict[str, set[ClusterName]]:
    """Frontends, and whose rules were on them."""
    users: dict[str, set[ClusterName]] = {}
    for rule in _items(before, RULES):
        if cluster := moving.get(prefix_of(rule["name"])):
            users.setdefault(_ending(_claim(rule)[0]), set()).add(cluster)
    return users


def _references(document: Json) -> frozenset[str]:
    """The frontends that any rule or the like refers to."""
    items = [item for collection in (RULES, *OTHER_COLLECTIONS) for item in _items(document, collection)]
    return frozenset(_ending(text) for text in texts(items))


def _reference(name: str) -> str:
    return f"{FRONTENDS}/{name}".casefold()


def _ending(text: str) -> str:
    return "/".join(text.rsplit("/", 2)[-2:]).casefold()


def _empty(document: Json) -> bool:
    return not any(_items(document, collection) for collection in (*COLLECTIONS, *OTHER_COLLECTIONS))


def _items(document: Json, collection: str) -> list[Json]:
    return (document.get("properties") or {}).get(collection) or []
