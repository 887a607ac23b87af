"""A running control plane: etcd and kube-apiserver with RBAC, own certificates, kubeconfigs for anybody.

What a cluster has, less what needs machines: no scheduler, no controller-manager, no kubelet. So a deleted
namespace stays Terminating, nothing is garbage-collected, and aggregated roles (`view`, `edit`) are empty.
It can do what tests of an operator ask for: go away and come back, and put etcd back to an earlier time.
"""

import asyncio
import contextlib
import json
import random
import shutil
import signal
import socket
import ssl
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

import aiohttp

from testbed.certificates import Authority, signing_pair
from testbed.child import Child, tail
from testbed.controlplane.build import programs
from testbed.controlplane.kubectl import run_kubectl
from testbed.run import Run

READY_SECONDS = 60.0
POLL_SECONDS = 0.05
START_ATTEMPTS = 3
IN_USE = "address already in use"


class ControlPlaneError(Exception):
    """etcd or kube-apiserver did not start; the message has the end of its log."""


class ControlPlane:
    """A control plane of its own, from `async with` to its end, or from `start()` to `stop()`.

    `address` is where the API server listens: loopback, or a fabric's bridge where machines must reach it.
    It starts anew on the same port and with the same certificates after `stop_apiserver()`.
    """

    def __init__(self, run: Run, *, address: str = "127.0.0.1") -> None:
        self._run = run
        self._folder = run.folder / "controlplane"
        self._folder.mkdir()
        self._address = address
        self._authority = Authority("farmstead-testbed")
        self._etcd: Child | None = None
        self._apiserver: Child | None = None
        self._etcd_port = self._port = 0

    # -- its life

    async def start(self) -> None:
        """Start it and wait until it is ready: about 4 s, or minutes where the programs must be built."""
        self.programs = await asyncio.to_thread(programs)
        self._write_credentials()
        await self._start_on_free_ports()

    async def stop(self) -> None:
        """End it. Its files stay until the run is closed."""
        await self.stop_apiserver()
        await self._stop_etcd()

    async def __aenter__(self) -> "ControlPlane":
        try:
            await self.start()
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def stop_apiserver(self) -> None:
        """Let the API server vanish at once: SIGKILL, connections reset, then refused."""
        if self._apiserver is not None:
            await self._apiserver.stop()

    async def start_apiserver(self) -> None:
        """Start the API server again, where it was, and wait until it is ready."""
        flags = self._apiserver_flags()
        self._apiserver = self._child("kube-apiserver", flags)
        trust = ssl.create_default_context(cafile=str(self._ca_file))
        trust.load_cert_chain(*self._admin_files)
        await self._ready(self._apiserver, f"{self.url}/readyz", trust)

    # -- time travel

    def snapshot_etcd(self) -> Path:
        """Keep what etcd holds now; gives the snapshot, for `restore_etcd`."""
        snapshot = self._folder / f"snapshot-{len(list(self._folder.glob('snapshot-*')))}"
        assert self._etcd is not None
        # Stopped between two instructions, its files are what a crash would leave, and etcd survives a crash.
        self._etcd.signal(signal.SIGSTOP)
        try:
            shutil.copytree(self._etcd_data, snapshot)
        finally:
            self._etcd.signal(signal.SIGCONT)
        return snapshot

    async def restore_etcd(self, snapshot: Path) -> None:
        """Put etcd back to `snapshot`: everything since is undone, resource versions included."""
        await self.stop()
        shutil.rmtree(self._etcd_data)
        shutil.copytree(snapshot, self._etcd_data)
        await self._start_etcd()
        await self.start_apiserver()

    # -- its users

    @property
    def url(self) -> str:
        """The API server's address."""
        return f"https://{self._address}:{self._port}"

    @property
    def authorities(self) -> bytes:
        """Who vouches for the API server, in PEM."""
        return self._authority.certificate

    @property
    def admin_kubeconfig(self) -> Path:
        """A kubeconfig of a member of system:masters."""
        return self.kubeconfig_for(user="admin", groups=["system:masters"])

    def kubeconfig_for(self, *, user: str, groups: Sequence[str] = ()) -> Path:
        """A kubeconfig by which `user`, member of `groups`, is known.

        It names files: from embedded ones the client makes temporary files, which stay behind where it is killed.
        """
        name = "-".join([user, *groups]).replace(":", "_").replace("/", "_")
        path = self._folder / "kubeconfigs" / name
        if path.exists():
            return path
        path.parent.mkdir(exist_ok=True)
        pair = self._authority.client(user=user, groups=groups)
        certificate, key = pair.write(path.parent, name)
        trust = {"server": self.url, "certificate-authority": str(self._ca_file)}
        credentials = {"client-certificate": str(certificate), "client-key": str(key)}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "testbed", "cluster": trust}],
            "users": [{"name": user, "user": credentials}],
            "contexts": [{"name": "testbed", "context": {"cluster": "testbed", "user": user}}],
            "current-context": "testbed",
        }
        path.touch(mode=0o600)
        path.write_text(json.dumps(config, indent=1))
        return path

    async def kubectl(self, *arguments: str, stdin: str | None = None, kubeconfig: Path | None = None) -> str:
        """Run our kubectl as the administrator, or with `kubeconfig`; gives its output, or CommandError."""
        return await run_kubectl(
            self.programs / "kubectl",
            *arguments,
            kubeconfig=kubeconfig or self.admin_kubeconfig,
            env=self._environment,
            stdin=stdin,
        )

    @property
    def pids(self) -> Mapping[str, int]:
        """The processes that run, by program."""
        running = {"etcd": self._etcd, "kube-apiserver": self._apiserver}
        return {name: child.pid for name, child in running.items() if child is not None}

    def logs(self) -> Mapping[str, str]:
        """The end of each program's log, for people."""
        return {log.stem: tail(log) for log in sorted(self._folder.glob("*.log"))}

    # -- how

    @property
    def _etcd_data(self) -> Path:
        return self._folder / "etcd"

    @property
    def _environment(self) -> dict[str, str]:
        # Nothing of ours: etcd takes options from ETCD_*, kubectl from ~/.kube.
        return {"HOME": str(self._folder), "PATH": "/usr/bin:/bin"}

    def _child(self, program: str, flags: list[str]) -> Child:
        argv = [str(self.programs / program), *flags]
        log = self._folder / f"{program}.log"
        return Child(argv, log=log, env=self._environment, cgroup=self._run.cgroup)

    def _write_credentials(self) -> None:
        self._ca_file = self._folder / "ca.crt"
        self._ca_file.write_bytes(self._authority.certificate)
        addresses = sorted({"127.0.0.1", self._address})
        names = ["kubernetes", "kubernetes.default.svc", "localhost"]
        self._serving = self._authority.server(addresses=addresses, names=names).write(self._folder, "apiserver")
        self._signing = signing_pair().write(self._folder, "service-accounts")
        admin = self._authority.client(user="admin", groups=["system:masters"])
        self._admin_files = admin.write(self._folder, "admin")

    async def _start_on_free_ports(self) -> None:
        """A port that is free now may be taken a moment later: choose again then, and only then."""
        for attempt in range(1, START_ATTEMPTS + 1):
            self._etcd_port, self._port = free_port("127.0.0.1"), free_port(self._address)
            try:
                await self._start_etcd()
                await self.start_apiserver()
            except ControlPlaneError as error:
                await self.stop()
                if IN_USE not in str(error) or attempt == START_ATTEMPTS:
                    raise
                for log in self._folder.glob("*.log"):
                    log.unlink()
            else:
                return

    async def _start_etcd(self) -> None:
        clients = f"http://127.0.0.1:{self._etcd_port}"
        flags = {
            "data-dir": self._etcd_data,
            "listen-client-urls": clients,
            "advertise-client-urls": clients,
            # Port 0: nobody ever connects to the only member as a peer.
            "listen-peer-urls": "http://127.0.0.1:0",
            "unsafe-no-fsync": "true",
            "log-level": "warn",
        }
        self._etcd = self._child("etcd", _flags(flags))
        await self._ready(self._etcd, f"{clients}/readyz", None)

    async def _stop_etcd(self) -> None:
        if self._etcd is not None:
            await self._etcd.stop()

    def _apiserver_flags(self) -> list[str]:
        certificate, key = self._serving
        public, private = self._signing
        return _flags(
            {
                "etcd-servers": f"http://127.0.0.1:{self._etcd_port}",
                "bind-address": self._address,
                "advertise-address": self._address,
                "secure-port": self._port,
                "tls-cert-file": certificate,
                "tls-private-key-file": key,
                "client-ca-file": self._ca_file,
                "anonymous-auth": "false",
                "authorization-mode": "Node,RBAC",
                "service-account-issuer": "https://kubernetes.default.svc",
                "service-account-key-file": public,
                "service-account-signing-key-file": private,
                "service-cluster-ip-range": "10.96.0.0/16",
                # It publishes the address for pods, and there are none.
                "endpoint-reconciler-type": "none",
            }
        )

    async def _ready(self, child: Child, url: str, trust: ssl.SSLContext | None) -> None:
        """Wait until `url` answers 200. There is no event to wait for, so ask, and see if it still runs."""
        try:
            async with asyncio.timeout(READY_SECONDS), aiohttp.ClientSession() as session:
                while not await _answers(session, url, trust):
                    if not child.running:
                        raise ControlPlaneError(f"{child.name} ended at once. Its last words:\n{child.tail()}")
                    await asyncio.sleep(POLL_SECONDS)
        except TimeoutError:
            raise ControlPlaneError(
                f"{child.name} was not ready after {READY_SECONDS:.0f} s. Its last words:\n{child.tail()}"
            ) from None


async def _answers(session: aiohttp.ClientSession, url: str, trust: ssl.SSLContext | None) -> bool:
    try:
        async with session.get(url, ssl=trust or True) as answer:
            return answer.status == 200
    except aiohttp.ClientError:
        return False


def _flags(flags: Mapping[str, object]) -> list[str]:
    return [f"--{name}={value}" for name, value in flags.items()]


def free_port(address: str) -> int:
    """A port that nobody listens at, outside the range that clients' own ports come from."""
    for port in random.sample(range(20000, 30000), 100):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind((address, port))
            return port
    raise ControlPlaneError(f"no free port at {address}: 100 of 20000-29999 were tried")
