"""Names that operator, agent and people compose and read: objects, labels, probe paths, Azure items."""

import hashlib
import re

CLUSTER_LABEL = "farmstead.dev/cluster"
NODE_LABEL = "farmstead.dev/node"
OPERATOR_FIELD_MANAGER = "farmstead-operator"
AGENT_FIELD_MANAGER = "farmstead-agent"
AZURE_NAME_LIMIT = 80


def member_name(cluster: str, node: str) -> str:
    """Name of the Member of `cluster` on `node`; unambiguous since a cluster's name holds no dot."""
    return f"{cluster}.{node}"


def node_lease_name(node: str) -> str:
    """Name of the Lease that a machine's agent renews."""
    return node


def probe_path(namespace: str, cluster: str) -> str:
    """Path on the probe's port that answers for one member."""
    return f"/probe/{namespace}/{cluster}"


def load_balancer_name(namespace: str, cluster: str) -> str:
    """Name of the load balancer of a cluster that names none."""
    return azure_name("farmstead", namespace, cluster)


def azure_item_prefix(namespace: str, cluster: str) -> str:
    """Start of the name of every item of this cluster on a load balancer; ends in a dot, which no part holds."""
    return f"farmstead.{namespace}.{cluster}."


def azure_name(*parts: str) -> str:
    """`parts` joined by hyphens, at most 80 characters: what is longer is cut and told apart by a hash."""
    name = "-".join(parts)
    if len(name) <= AZURE_NAME_LIMIT:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"{re.sub(r'[^A-Za-z0-9]+$', '', name[: AZURE_NAME_LIMIT - 9])}-{digest}"
