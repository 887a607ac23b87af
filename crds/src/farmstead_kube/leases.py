"""Leases as heartbeats: a machine's agent renews its own, the operator sees which have fallen silent.

Not here: leader election, which compares and swaps (`farmstead_operator/leadership.py`).
"""

from datetime import UTC, datetime

from farmstead_kube.client import Client
from farmstead_kube.errors import NotFound
from farmstead_kube.resources import LEASES


def micro_time(moment: datetime) -> str:
    """A time as `metav1.MicroTime` wants it."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


async def renew_lease(
    client: Client, *, name: str, namespace: str, holder: str, duration_seconds: int, now: datetime
) -> None:
    """Say in the Lease `name` that `holder` is alive now; create it where it is not there."""
    spec = {"holderIdentity": holder, "leaseDurationSeconds": duration_seconds, "renewTime": micro_time(now)}
    try:
        await client.patch(LEASES, name, {"spec": spec}, namespace=namespace)
    except NotFound:
        body = {
            "apiVersion": LEASES.api_version,
            "kind": LEASES.kind,
            "metadata": {"name": name, "namespace": namespace},
            "spec": spec,
        }
        await client.create(LEASES, body, namespace=namespace)
