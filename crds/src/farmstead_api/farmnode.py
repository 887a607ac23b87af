"""View of FarmNode: one machine, its addresses and what its agent says of it."""

from farmstead_api.conditions import Condition
from farmstead_api.meta import ObjectMeta, View

ANY_NAMESPACE = "*"


class NodeAddress(View, frozen=True):
    """An address of the machine in a named network; `default` is the one clients' traffic comes in on."""

    name: str
    address: str


class FarmNodeSpec(View, frozen=True):
    """What a person or the enrolment says of the machine."""

    addresses: tuple[NodeAddress, ...]
    zone: str = ""
    allowed_namespaces: tuple[str, ...] = ()
    """Namespaces whose clusters may use this machine; `*` for all; default none."""


class FarmNodeStatus(View, frozen=True):
    """What the machine's agent says; written by that agent alone."""

    observed_generation: int = 0
    conditions: tuple[Condition, ...] = ()
    boot_id: str = ""
    agent_version: str = ""
    kernel_version: str = ""
    operating_system: str = ""
    capabilities: tuple[str, ...] = ()
    """What this agent can run and check, such as application/scripts, check/http, launcher/cgroup."""
    probe_port: int = 0


class FarmNode(View, frozen=True):
    """A machine."""

    metadata: ObjectMeta
    spec: FarmNodeSpec
    status: FarmNodeStatus = FarmNodeStatus()

    @property
    def address(self) -> str:
        """The address called `default`, else the first."""
        named = {entry.name: entry.address for entry in self.spec.addresses}
        return named.get("default") or next(iter(named.values()), "")

    def allows(self, namespace: str) -> bool:
        """Whether clusters of this namespace may use the machine."""
        return bool({namespace, ANY_NAMESPACE} & set(self.spec.allowed_namespaces))
