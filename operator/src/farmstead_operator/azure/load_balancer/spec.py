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

import copy
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from farmstead_operator.azure.document import Json, differences, overlay, texts
from farmstead_operator.azure.errors import PermanentError
from farmstead_operator.azure.load_balancer.items import (
    COLLECTIONS,
    FRONTENDS,
    OTHER_COLLECTIONS,
    RULES,
    Items,
    build,
    frontend,
    same_address,
)
from farmstead_operator.azure.names import ANY_PREFIX, same, starts
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
    document = copy.deepcopy(before)
    changes: dict[ClusterName, tuple[str, ...]] = {}
    for cluster, items in [*chosen.items(), *((cluster, Items()) for cluster in withdrawn)]:
        if told := tuple(_put_items(document, cluster, items)):
            changes[cluster] = told
    _drop_unused_frontends(document, before, chosen, withdrawn, changes)
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
        clash = _clash(before, chosen, withdrawn)
        if clash is None:
            return chosen, refused
        cluster, problem = clash
        refused[cluster] = problem


def _resolve(before: Json, key: LoadBalancerKey, wanted: Sequence[Wanted]) -> dict[ClusterName, Items]:
    known = list(_items(before, FRONTENDS))
    chosen: dict[ClusterName, Items] = {}
    for one in wanted:
        own = frontend(one.share, public_ip_id=one.public_ip_id)
        there = next((item for item in known if same_address(own, item)), own)
        mine = same(there["name"], own["name"])
        if there is own:
            known.append(own)
        chosen[one.share.cluster] = build(key, one.share, frontend_item=own if mine else there, own_frontend=mine)
    return chosen


Claim = tuple[str, str, int]
"""Frontend id, protocol and port: one rule's alone."""


def _clash(
    before: Json, chosen: Mapping[ClusterName, Items], withdrawn: Collection[ClusterName]
) -> tuple[ClusterName, PermanentError] | None:
    """A share that wants a port which another rule has; who has it already stays."""
    held = {_claim(rule): str(rule["name"]) for rule in _items(before, RULES)}
    moving = [*chosen, *withdrawn]
    taken = {claim: name for claim, name in held.items() if not any(starts(name, one.prefix) for one in moving)}
    claims = [
        (not starts(held.get(_claim(rule), ""), cluster.prefix), cluster, _claim(rule), str(rule["name"]))
        for cluster, items in chosen.items()
        for rule in items.rules
    ]
    for _, cluster, claim, name in sorted(claims):
        if claim in taken:
            return cluster, PermanentError(
                "FrontendPortInUse",
                f"Port {claim[2]}/{claim[1]} of frontend {claim[0].rpartition('/')[2]} is rule {taken[claim]}'s: "
                "choose another port or another frontend address.",
            )
        taken[claim] = name
    return None


def _claim(rule: Json) -> Claim:
    properties = rule.get("properties") or {}
    reference = (properties.get("frontendIPConfiguration") or {}).get("id", "")
    return reference.casefold(), str(properties.get("protocol")).casefold(), properties.get("frontendPort", 0)


# -- changing the document


def _put_items(document: Json, cluster: ClusterName, items: Items) -> Iterator[str]:
    """Make the cluster's items as wanted, all others untouched; frontends that it no longer wants stay for now."""
    for collection in COLLECTIONS:
        wanted = {item["name"].casefold(): item for item in items.of(collection)}
        result = []
        for item in _items(document, collection):
            want = wanted.pop(item["name"].casefold(), None)
            if want is not None:
                found = list(differences(want, item))
                yield from (f"{item['name']}: {difference}" for difference in found)
                result.append(overlay(want, item) if found else item)
            elif collection != FRONTENDS and starts(item["name"], cluster.prefix):
                yield f"{item['name']} removed"
            else:
                result.append(item)
        for want in wanted.values():
            yield f"{want['name']} added"
            result.append(overlay(want, {}))
        document["properties"][collection] = result


def _drop_unused_frontends(
    document: Json,
    before: Json,
    chosen: Mapping[ClusterName, Items],
    withdrawn: Collection[ClusterName],
    changes: dict[ClusterName, tuple[str, ...]],
) -> None:
    """Remove frontends of ours that the plan's clusters had or used, and that nothing uses any more."""
    touched = [*chosen, *withdrawn]
    wanted = {items.frontend.casefold() for items in chosen.values()}
    used = _references(document)
    left = []
    for item in _items(document, FRONTENDS):
        name = item["name"]
        users = [cluster for cluster in touched if starts(name, cluster.prefix) or _used(before, cluster, name)]
        kept = name.casefold() in wanted or _reference(name) in used
        if users and starts(name, ANY_PREFIX) and not kept:
            for cluster in users:
                changes[cluster] = (*changes.get(cluster, ()), f"{name} removed")
        else:
            left.append(item)
    document["properties"][FRONTENDS] = left


def _used(before: Json, cluster: ClusterName, frontend_name: str) -> bool:
    rules = [rule for rule in _items(before, RULES) if starts(rule["name"], cluster.prefix)]
    return any(_reference(frontend_name) == _ending(text) for rule in rules for text in texts(rule))


def _references(document: Json) -> frozenset[str]:
    """The frontends that any rule or the like refers to."""
    users = [item for collection in (RULES, *OTHER_COLLECTIONS) for item in _items(document, collection)]
    return frozenset(_ending(text) for text in texts(users))


def _reference(name: str) -> str:
    return f"{FRONTENDS}/{name}".casefold()


def _ending(text: str) -> str:
    return "/".join(text.rsplit("/", 2)[-2:]).casefold()


def _empty(document: Json) -> bool:
    return not any(_items(document, collection) for collection in (*COLLECTIONS, *OTHER_COLLECTIONS))


def _items(document: Json, collection: str) -> list[Json]:
    return (document.get("properties") or {}).get(collection) or []
