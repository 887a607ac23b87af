"""Resource ids of Azure Resource Manager: parsed once, compared without regard to case.

ARM keeps the spelling that the first PUT chose and finds a resource under every other spelling. So an id has
a text (for answers) and a key (for look-ups). This module knows the shape of paths alone, not what is stored
there.
"""

from __future__ import annotations

from dataclasses import dataclass

PROVIDER = "Microsoft.Network"

LOAD_BALANCERS = "loadBalancers"
PUBLIC_IPS = "publicIPAddresses"
VIRTUAL_NETWORKS = "virtualNetworks"

# Resource type -> its child collections, in the order in which Azure prints them.
CHILDREN: dict[str, tuple[str, ...]] = {
    LOAD_BALANCERS: (
        "frontendIPConfigurations",
        "backendAddressPools",
        "loadBalancingRules",
        "probes",
        "inboundNatRules",
        "outboundRules",
        "inboundNatPools",
    ),
    PUBLIC_IPS: (),
    VIRTUAL_NETWORKS: ("subnets",),
}
# What can be written on its own; the rest of a load balancer changes only with the whole of it.
WRITABLE_CHILDREN = frozenset({"backendAddressPools", "inboundNatRules", "subnets"})

_TYPES = {name.lower(): name for name in CHILDREN}
_CHILD_TYPES = {parent: {name.lower(): name for name in names} for parent, names in CHILDREN.items()}


@dataclass(frozen=True, slots=True)
class ResourceId:
    """One resource, or one child of it: spelling as given, type names as Azure spells them."""

    subscription: str
    group: str
    type: str
    name: str
    child_type: str = ""
    child: str = ""

    @property
    def text(self) -> str:
        """The id as Azure prints it."""
        tail = f"/{self.child_type}/{self.child}" if self.child_type else ""
        return (
            f"/subscriptions/{self.subscription}/resourceGroups/{self.group}"
            f"/providers/{PROVIDER}/{self.type}/{self.name}{tail}"
        )

    @property
    def key(self) -> str:
        """What two spellings of one id have in common."""
        return self.text.lower()

    @property
    def parent(self) -> ResourceId:
        """The top-level resource; itself where it is one."""
        return ResourceId(self.subscription, self.group, self.type, self.name)

    @property
    def full_type(self) -> str:
        tail = f"/{self.child_type}" if self.child_type else ""
        return f"{PROVIDER}/{self.type}{tail}"

    def with_child(self, child_type: str, name: str) -> ResourceId:
        return ResourceId(self.subscription, self.group, self.type, self.name, child_type, name)


def parse_id(text: str) -> ResourceId | None:
    """The id of a resource or child of a known type, else None."""
    parts = text.strip("/").split("/")
    if len(parts) not in (8, 10) or not all(parts):
        return None
    subscriptions, subscription, groups, group, providers, provider, kind, name = parts[:8]
    fixed = (subscriptions, groups, providers, provider)
    if tuple(part.lower() for part in fixed) != (
        "subscriptions",
        "resourcegroups",
        "providers",
        PROVIDER.lower(),
    ):
        return None
    resource_type = _TYPES.get(kind.lower())
    if resource_type is None:
        return None
    if len(parts) == 8:
        return ResourceId(subscription, group, resource_type, name)
    child_type = _CHILD_TYPES[resource_type].get(parts[8].lower())
    if child_type is None:
        return None
    return ResourceId(subscription, group, resource_type, name, child_type, parts[9])


def type_of(name: str) -> str | None:
    """Azure's spelling of a resource type, or None where the emulator has no such type."""
    return _TYPES.get(name.lower())


def child_type_of(resource_type: str, name: str) -> str | None:
    """Azure's spelling of a child collection, or None."""
    return _CHILD_TYPES[resource_type].get(name.lower())


def same_id(one: str, other: str) -> bool:
    return one.lower() == other.lower()
