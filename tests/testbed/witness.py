"""A mirror's witness in the API server: its kind, its first record, and the account that may write it."""

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from testbed.installation import CRDS

Kubectl = Callable[..., Awaitable[str]]
ACCOUNT = "mirrorfs"


async def install_witness_kind(kubectl: Kubectl) -> None:
    """Apply the kind, and wait until it is served."""
    await kubectl("apply", "-f", str(CRDS / "mirrorwitness.yaml"))
    await kubectl("wait", "--for=condition=Established", "crd/mirrorwitnesses.farmstead.dev")


def witness_record(name: str, *, members: Mapping[str, str], primary: str, lineage: str) -> dict[str, Any]:
    """A record in generation 0, as the operator makes it; `members`: UIDs by name."""
    spec = {
        "members": [{"name": member, "nodeUID": uid} for member, uid in members.items()],
        "generation": 0,
        "primary": primary,
        "inSync": [],
        "lineage": lineage,
        "nonce": "operator",
    }
    return {
        "apiVersion": "farmstead.dev/v1alpha1",
        "kind": "MirrorWitness",
        "metadata": {"name": name},
        "spec": spec,
    }


async def allow_witness(kubectl: Kubectl, namespace: str) -> None:
    """An account that may read and write the namespace's records, and nothing else."""
    group = "rbac.authorization.k8s.io"
    rule = {"apiGroups": ["farmstead.dev"], "resources": ["mirrorwitnesses"], "verbs": ["get", "update"]}
    metadata = {"name": ACCOUNT, "namespace": namespace}
    items = [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata},
        {"apiVersion": f"{group}/v1", "kind": "Role", "metadata": metadata, "rules": [rule]},
        {
            "apiVersion": f"{group}/v1",
            "kind": "RoleBinding",
            "metadata": metadata,
            "roleRef": {"apiGroup": group, "kind": "Role", "name": ACCOUNT},
            "subjects": [{"kind": "ServiceAccount", "name": ACCOUNT, "namespace": namespace}],
        },
    ]
    # One call: each is a process of its own, and many tests make a witness.
    await kubectl("create", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))
