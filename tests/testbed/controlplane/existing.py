"""Somebody's own cluster in the place of ours: the same words as `ControlPlane`, on a kubeconfig that was given.

Our users (the operator, each machine's agent) are impersonated: `kubectl proxy --as` on the fabric's bridge, one
a user, which also carries machines to an API server that their network does not reach. So the rights in manifests/
are tried there too. What the installation made is taken away at the end; a cluster that has Farmstead's kinds already
is refused before anything is touched. It can't be stopped, nor put back in time.
"""

import asyncio
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from testbed.child import Child
from testbed.controlplane.build import programs
from testbed.controlplane.kubectl import run_kubectl
from testbed.controlplane.server import ControlPlaneError, free_port
from testbed.run import Run


class ExistingCluster:
    """A cluster that was there before us, from `async with` to its end."""

    def __init__(self, run: Run, *, kubeconfig: Path, address: str) -> None:
        """Use the current context of `kubeconfig`; the proxies listen at `address`."""
        self._folder = run.folder / "cluster"
        self._folder.mkdir(exist_ok=True)
        self._run = run
        self._address = address
        self._proxies: dict[str, Child] = {}
        self.admin_kubeconfig = kubeconfig
        self.programs: Path
        self.url = ""

    async def __aenter__(self) -> "ExistingCluster":
        found = shutil.which("kubectl")
        self.programs = Path(found).parent if found else await asyncio.to_thread(programs)
        view = await self.kubectl("config", "view", "--minify", "--output=json")
        self.url = json.loads(view)["clusters"][0]["cluster"]["server"]
        if await self.kubectl("get", "crd", "farmclusters.farmstead.dev", "--ignore-not-found", "--output=name"):
            raise ControlPlaneError(
                f"the cluster at {self.url} has Farmstead's kinds already: the demo would meet what runs there, and "
                "it removes the kinds at its end. Give a cluster without them, or none"
            )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for proxy in self._proxies.values():
            await proxy.stop()

    def kubeconfig_for(self, *, user: str, groups: Sequence[str] = ()) -> Path:
        """A kubeconfig by which `user`, member of `groups`, is known; it needs no credentials of its own."""
        name = user.replace(":", "_")
        path = self._folder / f"{name}.json"
        if name not in self._proxies:
            port = free_port(self._address)
            self._proxies[name] = self._proxy(name, user=user, groups=groups, port=port)
            path.write_text(json.dumps(_kubeconfig(f"http://{self._address}:{port}")))
        return path

    async def kubectl(self, *arguments: str, stdin: str | None = None, kubeconfig: Path | None = None) -> str:
        """Run kubectl as whoever the given kubeconfig is, or with `kubeconfig`; gives its output, or CommandError."""
        return await run_kubectl(
            self.programs / "kubectl",
            *arguments,
            kubeconfig=kubeconfig or self.admin_kubeconfig,
            env=os.environ,  # plugins that log in to a cloud need their own
            stdin=stdin,
        )

    def logs(self) -> Mapping[str, str]:
        """The end of each proxy's log, for people."""
        return {f"proxy of {name}": proxy.tail() for name, proxy in self._proxies.items()}

    def _proxy(self, name: str, *, user: str, groups: Sequence[str], port: int) -> Child:
        identity = [f"--as={user}", *(f"--as-group={group}" for group in groups)]
        options = [f"--kubeconfig={self.admin_kubeconfig}", f"--address={self._address}", f"--port={port}"]
        argv = [str(self.programs / "kubectl"), "proxy", *options, *identity, "--accept-hosts=.*"]
        return Child(argv, log=self._folder / f"{name}.log", env=os.environ, cgroup=self._run.cgroup)


def _kubeconfig(server: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "proxy", "cluster": {"server": server}}],
        "users": [{"name": "proxy", "user": {}}],
        "contexts": [{"name": "proxy", "context": {"cluster": "proxy", "user": "proxy"}}],
        "current-context": "proxy",
    }
