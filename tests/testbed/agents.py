"""Agents on the testbed's machines: the machine's file, the service, and Members written as the operator would.

For tests of the agent alone. Nothing here knows what an agent decides.
"""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import yaml

from farmstead_api import Member, dump, parse
from farmstead_api.member import FINALIZER
from farmstead_api.names import member_name
from farmstead_kube import FARM_NODES, MEMBERS, Client, EventType, Selection, Watch, connect
from testbed.controlplane import ControlPlane
from testbed.installation import install_farmstead
from testbed.machines import Machine

ROOT = Path(__file__).parents[2]
PROBE_PORT = 9010
METRICS_PORT = 9011
LEASE_NAMESPACE = "farmstead-system"
CONFIG = "/etc/farmstead/agent.toml"
STATE = "/var/lib/farmstead"
SOCKET = "/run/farmstead/agent.sock"


async def prepare(control_plane: ControlPlane) -> None:
    """Install the API and the rights that agents have in production."""
    await install_farmstead(control_plane.kubectl)


def install(machine: Machine, control_plane: ControlPlane, *, node: str | None = None, **changes: Any) -> None:
    """Put an agent on a machine that is switched off: its file, and the service with the probe's socket."""
    kubeconfig = machine.path("/etc/farmstead/kubeconfig")
    who = f"farmstead:node:{node or machine.name}"
    kubeconfig.write_text(control_plane.kubeconfig_for(user=who, groups=["farmstead:nodes"]).read_text())
    settings = {
        "node": node or machine.name,
        "kubeconfig": "/etc/farmstead/kubeconfig",
        "state_directory": STATE,
        "control_socket": SOCKET,
        "probe": {"port": PROBE_PORT},
        "metrics": {"port": METRICS_PORT},
        **changes,
    }
    machine.path(CONFIG).write_text(toml(settings))
    machine.set_service(
        sys.executable,
        "-m",
        "farmstead_agent",
        "--config",
        CONFIG,
        listen=[("0.0.0.0", PROBE_PORT)],
        env={"PYTHONUNBUFFERED": "1", "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"},
    )


def toml(settings: Mapping[str, Any]) -> str:
    """Settings as TOML: plain values first, then tables."""
    plain = "".join(f"{key} = {json.dumps(value)}\n" for key, value in settings.items() if not isinstance(value, dict))
    tables = {key: value for key, value in settings.items() if isinstance(value, dict)}
    return plain + "".join(f"\n[{name}]\n{toml(table)}" for name, table in tables.items())


def nginx_scripts() -> dict[str, Any]:
    """The sample's application, as the operator renders it: the ConfigMap's text carried in the Member."""
    config_map = yaml.safe_load((ROOT / "manifests/samples/nginx/nginx-scripts.yaml").read_text())
    return {"scripts": {"files": [{"name": name, "text": text} for name, text in config_map["data"].items()]}}


class Operator:
    """Stands in for the operator: writes Members, reads their statuses."""

    def __init__(self, client: Client, namespace: str) -> None:
        self.client = client
        self.namespace = namespace

    async def add_node(self, name: str, address: str) -> None:
        """Enrol a machine."""
        spec = {"addresses": [{"name": "default", "address": address}], "allowedNamespaces": ["*"]}
        await self.client.apply(FARM_NODES, {"metadata": {"name": name}, "spec": spec})

    async def apply(self, cluster: str, node: str, spec: Mapping[str, Any]) -> Member:
        """Write a Member; `spec` is in the API's own form, less what every Member has."""
        rendered = {
            "clusterRef": {"kind": "FarmCluster", "name": cluster},
            "nodeName": node,
            "revision": "0",
            "applicationRevision": "a1",
            **spec,
        }
        rendered["revision"] = f"{abs(hash(json.dumps(rendered, sort_keys=True))):x}"[:16]
        meta = {
            "name": member_name(cluster, node),
            "namespace": self.namespace,
            "finalizers": [FINALIZER],
        }
        return parse(Member, await self.client.apply(MEMBERS, {"metadata": meta, "spec": rendered}))

    async def member(self, cluster: str, node: str) -> Member:
        """The Member as it is."""
        body = await self.client.get(MEMBERS, member_name(cluster, node), namespace=self.namespace)
        return parse(Member, body)

    async def release(self, cluster: str, node: str) -> None:
        """Take the finalizer off, as the operator does when the agent has reported Removed."""
        patch = {"metadata": {"finalizers": None}}
        await self.client.patch(MEMBERS, member_name(cluster, node), patch, namespace=self.namespace)

    async def forget(self, cluster: str, node: str) -> None:
        """Let the Member vanish: nothing holds it, so no deletionTimestamp is ever seen."""
        await self.release(cluster, node)
        await self.client.delete(MEMBERS, member_name(cluster, node), namespace=self.namespace)

    async def until(self, cluster: str, node: str, holds: Callable[[Member], bool], *, within: float = 20.0) -> Member:
        """Watch a Member until something holds of it; TimeoutError says how it was."""
        selection = Selection(
            MEMBERS, namespace=self.namespace, field_selector=f"metadata.name={member_name(cluster, node)}"
        )
        last: Member | None = None
        try:
            async with asyncio.timeout(within):
                async for event in Watch(self.client, selection):
                    if event.type in {EventType.ADDED, EventType.MODIFIED}:
                        last = parse(Member, event.object)
                        if holds(last):
                            return last
        except TimeoutError as error:
            shown = msgspec.json.format(msgspec.json.encode(dump(last.status))).decode() if last else "no Member"
            raise TimeoutError(f"{cluster} on {node} after {within} s: {shown}") from error
        raise AssertionError("a watch never ends")


@asynccontextmanager
async def operating(control_plane: ControlPlane, namespace: str) -> AsyncIterator[Operator]:
    """An operator's stand-in for one namespace."""
    client = await connect(kubeconfig=control_plane.admin_kubeconfig, field_manager="farmstead-operator")
    try:
        yield Operator(client, namespace)
    finally:
        await client.close()
