"""What an administrator applies once: the kinds, then rights and guards. In one way, by everybody who needs it.

Server-side always: a second `kubectl apply` of the other sort would meet the first one's ownership of fields.
"""

from collections.abc import Awaitable, Callable
from pathlib import Path

ROOT = Path(__file__).parents[2]
CRDS = ROOT / "crds"
RIGHTS = ROOT / "manifests/testbed"
"""Without the operator's Deployment: here it is a process."""


async def install_kinds(kubectl: Callable[..., Awaitable[str]]) -> None:
    """Apply the kinds, and wait until they are served."""
    await kubectl("apply", "--server-side", "-f", str(CRDS))
    await kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")


async def install_farmstead(kubectl: Callable[..., Awaitable[str]]) -> None:
    """Apply the kinds, the namespace farmstead-system, rights and guards."""
    await install_kinds(kubectl)
    await kubectl("apply", "--server-side", "-k", str(RIGHTS))


async def uninstall_farmstead(kubectl: Callable[..., Awaitable[str]]) -> None:
    """Take it all away; the namespace goes when the cluster's controllers get to it."""
    await kubectl("delete", "-k", str(RIGHTS), "--ignore-not-found", "--wait=false")
    await kubectl("delete", "-f", str(CRDS), "--ignore-not-found", "--timeout=60s")
