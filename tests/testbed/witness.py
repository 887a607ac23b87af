"""A mirror's witness in the API server: its kind, its first record, and the account that may write it."""

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
    await kubectl("-n", namespace, "create", "serviceaccount", ACCOUNT)
    verbs = ["--verb=get,update", "--resource=mirrorwitnesses.farmstead.dev"]
    await kubectl("-n", namespace, "create", "role", ACCOUNT, *verbs)
    bound = f"--serviceaccount={namespace}:{ACCOUNT}"
    await kubectl("-n", namespace, "create", "rolebinding", ACCOUNT, f"--role={ACCOUNT}", bound)
