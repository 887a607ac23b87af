"""A whole mirror: two `farmstead-mirrorfs` daemons, each in a network namespace of its own, and a real witness record.

Mounts are shared with us, so a test reads and writes each machine's directory as its programs would. Not an
application and not an agent: a test that wants takeovers without the delay for a missing agent opens the control
socket as one (`Node.agent`).
"""

import asyncio
import hashlib
import json
import signal
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from testbed.certificates import Authority
from testbed.child import Child
from testbed.controlplane import ControlPlane
from testbed.machines import Fabric, Namespace
from testbed.machines.commands import execute
from testbed.rust import rust_program
from testbed.witness import ACCOUNT, allow_witness, install_witness_kind, witness_record

PORT = 7801
METRICS_PORT = 7802
WITNESS = "mirror"
PATIENCE_SECONDS = 40.0
MIRROR, LINEAGE = "00000000-0000-0000-0000-0000000000f1", "00000000-0000-0000-0000-0000000000d1"
UIDS = {"a": "00000000-0000-0000-0000-00000000000a", "b": "00000000-0000-0000-0000-00000000000b"}

Status = dict[str, Any]


class Node:
    """One machine of a mirror: its namespace, its directory, its daemon."""

    def __init__(self, name: str, host: Namespace, folder: Path, program: Path) -> None:
        self.name = name
        self.host = host
        self.folder = folder
        self.directory = folder / "data"
        self.state = folder / "state"
        self.config = folder / "mirror.json"
        self._program = program
        self._daemon: Child | None = None
        self._agent: asyncio.StreamWriter | None = None
        self.directory.mkdir(parents=True)

    @property
    def under(self) -> Path:
        """Its copy, below whatever is mounted over the directory."""
        return self.state / "under-0"

    @property
    def daemon(self) -> Child:
        """The running daemon."""
        assert self._daemon is not None, f"{self.name}'s daemon was not started"
        return self._daemon

    def start(self) -> None:
        """Start the daemon."""
        self._daemon = self.host.spawn(self._program, self.config)

    async def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Kill the daemon and wait for its end."""
        self.daemon.signal(number)
        await self.daemon.wait()

    async def stop(self) -> int:
        """Stop it in good order; gives its exit status."""
        self.daemon.signal(signal.SIGTERM)
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await self.daemon.wait()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                with suppress(FileNotFoundError, ConnectionRefusedError):
                    return await asyncio.open_unix_connection(self.state / "control.sock", limit=1 << 20)
                if self._daemon is not None and not self._daemon.running:
                    raise RuntimeError(f"{self.name}'s daemon has ended:\n{self._daemon.tail()}")
                await asyncio.sleep(0.02)

    async def ask(self, verb: str, **fields: object) -> dict[str, Any]:
        """One request to the control socket, and its answer."""
        reader, writer = await self._connect()
        try:
            return await _exchange(reader, writer, {"version": 1, "do": verb, **fields})
        finally:
            await _close(writer)

    async def status(self) -> Status:
        """What the daemon says of itself."""
        status: Status = (await self.ask("status"))["status"]
        return status

    async def status_now(self, *, patience: float = 0.2) -> Status | None:
        """What it says of itself, if it says it at once."""
        try:
            async with asyncio.timeout(patience):
                reader, writer = await asyncio.open_unix_connection(self.state / "control.sock", limit=1 << 20)
                try:
                    return dict((await _exchange(reader, writer, {"version": 1, "do": "status"}))["status"])
                finally:
                    writer.close()
        except (OSError, TimeoutError, ValueError):
            return None

    async def watch(self) -> AsyncGenerator[Status]:
        """What the daemon says of itself, now and after every change, until it is gone."""
        reader, writer = await self._connect()
        try:
            writer.write(b'{"version": 1, "do": "watch"}\n')
            with suppress(ConnectionError):
                while line := await reader.readline():
                    yield json.loads(line)["status"]
        finally:
            await _close(writer)

    async def agent(self) -> None:
        """Be its agent from now on: it takes over without the delay for a machine that can't start applications."""
        await self._leave()
        reader, self._agent = await self._connect()
        await _exchange(reader, self._agent, {"version": 1, "do": "agent"})

    async def _leave(self) -> None:
        if self._agent is not None:
            await _close(self._agent)
            self._agent = None

    async def until(self, *roles: str, patience: float = PATIENCE_SECONDS, **wanted: object) -> Status:
        """Wait until it is in one of these roles (any, if none is named), and its status has these values."""

        def fits(status: Status) -> bool:
            in_role = not roles or status["role"] in roles
            return in_role and all(status[name] == value for name, value in wanted.items())

        return await self.until_that(fits, f"{' or '.join(roles)} {wanted}", patience=patience)

    async def until_that(
        self, fits: Callable[[Status], bool], what: str, *, patience: float = PATIENCE_SECONDS
    ) -> Status:
        """Wait until its status is what `fits` wants; `what` says that to people."""
        last: Status = {}
        with suppress(TimeoutError):
            async with asyncio.timeout(patience):
                while True:
                    async with aclosing(self.watch()) as states:
                        async for last in states:
                            if fits(last):
                                return last
        tail = self.daemon.tail() if self._daemon else ""
        raise AssertionError(f"{self.name} is {last.get('role')} and not {what}: {last}\n{tail}")

    async def metrics(self) -> dict[str, float]:
        """What its daemon has counted since its start, by name (with labels), without the common prefix."""
        reader, writer = await asyncio.open_connection(self.host.address, METRICS_PORT)
        try:
            writer.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
            answer = await reader.read()
        finally:
            await _close(writer)
        head, _, body = answer.decode().partition("\r\n\r\n")
        assert head.startswith("HTTP/1.1 200 "), head
        samples = (line.rpartition(" ") for line in body.splitlines() if not line.startswith("#"))
        return {name.removeprefix("farmstead_mirrorfs_"): float(value) for name, _, value in samples}

    def log(self) -> list[dict[str, Any]]:
        """All that its daemons have logged."""
        log = self.host.folder / f"{self._program.name}.log"
        lines = log.read_text().splitlines(keepends=True) if log.exists() else []
        # The last one may be half written yet. What is no JSON is a panic, or two lines mixed: that shall be noticed.
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def roles(self) -> list[str]:
        """The roles it has had, by its log."""
        return [line["role"] for line in self.log() if line["message"] == "role"]

    def said(self, message: str, **fields: str) -> bool:
        """Whether its log says so, in fields that begin so."""
        lines = (line for line in self.log() if line["message"] == message)
        return any(all(str(line[name]).startswith(value) for name, value in fields.items()) for line in lines)

    async def end(self) -> None:
        """End the daemon and what it mounted."""
        await self._leave()
        if self._daemon is not None:
            await self._daemon.stop()
        for mount in [self.directory, self.under]:
            while f" {mount} " in await execute("cat", "/proc/self/mounts"):
                await execute("umount", "--lazy", "--force", str(mount))


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()


async def _exchange(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: Mapping[str, object]
) -> dict[str, Any]:
    writer.write(json.dumps(request).encode() + b"\n")
    async with asyncio.timeout(PATIENCE_SECONDS):
        answer: dict[str, Any] = json.loads(await reader.readline())
    return answer


class Mirror:
    """Two nodes, `a` first the source, and their record."""

    def __init__(self, a: Node, b: Node, control_plane: ControlPlane, namespace: str) -> None:
        self.a = a
        self.b = b
        self.nodes = {"a": a, "b": b}
        self._control_plane = control_plane
        self.namespace = namespace

    async def start(self) -> None:
        """Both daemons up, both with an agent, `b` made equal: PRIM and SECOND."""
        for node in (self.a, self.b):
            node.start()
            await node.agent()
        await self.paired()

    async def paired(self) -> tuple[Node, Node]:
        """Wait until one is PRIM and the other SECOND; gives them in this order."""
        first = next(iter(await first_of(self.a.until("PRIM"), self.b.until("PRIM"))))
        primary, second = (self.a, self.b) if first == 0 else (self.b, self.a)
        await second.until("SECOND")
        await primary.until("PRIM", mounted=True)
        return primary, second

    async def record(self) -> dict[str, Any]:
        """The witness record's spec."""
        kubectl = self._control_plane.kubectl
        text = await kubectl("-n", self.namespace, "get", "mirrorwitness", WITNESS, "-o", "json")
        spec: dict[str, Any] = json.loads(text)["spec"]
        return spec


async def first_of(*waits: Any) -> set[int]:
    """Wait until one of these is over, and give up the others; gives the numbers of those that are over."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    await asyncio.gather(*pending, return_exceptions=True)
    for task in done:
        task.result()
    return {tasks.index(task) for task in done}


def pin(certificate: bytes) -> str:
    key = x509.load_pem_x509_certificate(certificate).public_key()
    encoded = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(encoded).hexdigest()


def daemon_configuration(
    name: str,
    *,
    addresses: Mapping[str, str],
    directory: Path,
    state: Path,
    tls: Mapping[str, object],
    witness: Mapping[str, str],
    **settings: object,
) -> str:
    """The configuration file of the member `name`; `settings` are the daemon's (see config.rs)."""
    members = {
        each: {"name": each, "uid": UIDS[each], "address": f"{address}:{PORT}"} for each, address in addresses.items()
    }
    (other,) = members.keys() - {name}
    return json.dumps(
        {
            "mirror": MIRROR,
            "member": members[name],
            "peer": members[other],
            "directories": [{"path": str(directory)}],
            "state": str(state),
            "tls": tls,
            "witness": witness,
            **settings,
        }
    )


async def prepare_witness(control_plane: ControlPlane, namespace: str, folder: Path) -> dict[str, str]:
    """The record in generation 0, an account that may write it; gives the configuration's part."""
    kubectl = control_plane.kubectl
    await install_witness_kind(kubectl)
    record = witness_record(WITNESS, members=UIDS, primary="a", lineage=LINEAGE)
    await kubectl("-n", namespace, "apply", "-f", "-", stdin=json.dumps(record))
    await allow_witness(kubectl, namespace)
    authorities, token = folder / "witness-ca.pem", folder / "witness-token"
    authorities.write_bytes(control_plane.authorities)
    token.touch(mode=0o600)
    token.write_text(await kubectl("-n", namespace, "create", "token", ACCOUNT))
    return {
        "server": control_plane.url,
        "authorities": str(authorities),
        "token": str(token),
        "namespace": namespace,
        "name": WITNESS,
    }


@asynccontextmanager
async def mirror(
    fabric: Fabric,
    control_plane: ControlPlane,
    namespace: str,
    folder: Path,
    **settings: object,
) -> AsyncIterator[Mirror]:
    """A mirror that is not started yet; `settings` are the daemons' (see config.rs), of `witness` a part will do."""
    program = await rust_program("farmstead-mirrorfs", "farmstead-mirrorfs")
    hosts = {name: await fabric.namespace(f"mirror-{name}-{namespace}") for name in UIDS}
    nodes = {name: Node(name, host, folder / name, program) for name, host in hosts.items()}
    witness = await prepare_witness(control_plane, namespace, folder)
    other_witness = settings.pop("witness", {})
    assert isinstance(other_witness, dict)
    authority = Authority("mirror")
    pairs = {name: authority.server(addresses=[host.address], names=[name]) for name, host in hosts.items()}
    addresses = {name: host.address for name, host in hosts.items()}
    for name, other in (("a", "b"), ("b", "a")):
        node = nodes[name]
        certificate, key = pairs[name].write(node.folder, "node")
        tls = {"certificate": str(certificate), "key": str(key), "peerPins": [pin(pairs[other].certificate)]}
        node.config.write_text(
            daemon_configuration(
                name,
                addresses=addresses,
                directory=node.directory,
                state=node.state,
                tls=tls,
                witness=witness | other_witness,
                metrics=f"{node.host.address}:{METRICS_PORT}",
                **settings,
            )
        )
    try:
        yield Mirror(nodes["a"], nodes["b"], control_plane, namespace)
    except BaseException:
        for node in nodes.values():
            print(f"── {node.name}'s log\n" + "\n".join(json.dumps(line) for line in node.log()[-60:]))
        raise
    finally:
        for node in nodes.values():
            await node.end()
        for host in hosts.values():
            await fabric.remove(host)
