"""A mirror for the bench: two daemons over loopback with TLS, checksums, difference log and a stand-in witness."""

import hashlib
import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

WORKSPACE = Path(__file__).parents[3] / "nodeagent/mirrorfs"
RELEASE = Path(os.environ.get("CARGO_TARGET_DIR", WORKSPACE / "target")) / "release"
STARTUP_SECONDS = 30.0


def run(*command: str | Path) -> str:
    """Output of a program that must succeed."""
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def make_key(base: Path, side: str) -> str:
    """Certificate and key of one side; returns the pin of its public key."""
    key, certificate = base / f"{side}.key", base / f"{side}.crt"
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    run("openssl", "req", "-x509", *curve, "-keyout", key, "-out", certificate, "-subj", f"/CN={side}")
    command = ["openssl", "pkey", "-in", str(key), "-pubout", "-outform", "DER"]
    return hashlib.sha256(subprocess.run(command, check=True, capture_output=True).stdout).hexdigest()


UIDS = {"a": "00000000-0000-0000-0000-00000000000a", "b": "00000000-0000-0000-0000-00000000000b"}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def witness(base: Path) -> Iterator[dict[str, str]]:
    """A stand-in for the API server, which is not what is measured; yields the configuration's part about it."""
    record = {
        "kind": "MirrorWitness",
        "metadata": {"name": "mirror", "uid": "00000000-0000-0000-0000-0000000000e1"},
        "spec": {
            "members": [{"name": name, "nodeUID": uid} for name, uid in UIDS.items()],
            "generation": 0,
            "primary": "a",
            "inSync": [],
            "lineage": "00000000-0000-0000-0000-0000000000d1",
            "nonce": "operator",
        },
    }
    (base / "record.json").write_text(json.dumps(record))
    command = [RELEASE / "examples/witness", base]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        server = child.stdout.readline().strip()
        files = {"authorities": str(base / "witness-ca.pem"), "token": str(base / "witness-token")}
        yield {"server": server, **files, "namespace": "bench", "name": "mirror"}
        child.communicate()


def start(base: Path, side: str, config: dict[str, Any]) -> subprocess.Popen[bytes]:
    """Starts one daemon."""
    path = base / f"{side}.json"
    path.write_text(json.dumps(config))
    with (base / f"{side}.log").open("wb") as output:
        return subprocess.Popen([RELEASE / "farmstead-mirrorfs", path], stderr=output)


def wait_for(base: Path, side: str, role: str) -> None:
    """Waits until a daemon is in a role, and mounted where that serves."""
    deadline = time.monotonic() + STARTUP_SECONDS
    status: dict[str, Any] = {}
    while time.monotonic() < deadline:
        command = [str(RELEASE / "farmstead-mirrorfs"), str(base / f"{side}.json"), "status"]
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
        status = json.loads(answer.stdout)["status"] if answer.returncode == 0 else {}
        if status.get("role") == role and status["mounted"] == (role == "PRIM"):
            return
        time.sleep(0.05)
    raise RuntimeError(f"{side} is not {role}: {status}\n{(base / f'{side}.log').read_text()}")


@dataclass(frozen=True, kw_only=True)
class Mirror:
    """A running mirror: where it is mounted, where its copies can be reached, its processes, where its metrics are."""

    folder: Path
    copies: tuple[Path, Path]
    pids: dict[str, int]
    metrics: dict[str, str]
    log: Path

    @property
    def way(self) -> str:
        """How the requests come: `Ring` (io_uring) or `Device`."""
        mounted = next(line for line in self.log.read_text().splitlines() if '"mounted"' in line)
        return str(json.loads(mounted)["requests"])

    def counters(self, side: str) -> dict[str, float]:
        """The metrics of one daemon that have no labels."""
        connection = HTTPConnection(self.metrics[side], timeout=STARTUP_SECONDS)
        connection.request("GET", "/metrics")
        lines = connection.getresponse().read().decode().splitlines()
        connection.close()
        pairs = [line.split() for line in lines if not line.startswith("#") and "{" not in line]
        return {name.removeprefix("farmstead_mirrorfs_"): float(value) for name, value in pairs}


def configuration(base: Path, members: dict[str, Any], side: str, peer: str, pin: str) -> dict[str, Any]:
    return {
        "mirror": "00112233-4455-6677-8899-aabbccddeeff",
        "member": members[side],
        "peer": members[peer],
        "directories": [{"path": str(base / side)}],
        "state": str(base / f"state-{side}"),
        "threads": 16,
        "tls": {"certificate": str(base / f"{side}.crt"), "key": str(base / f"{side}.key"), "peerPins": [pin]},
        "metrics": f"127.0.0.1:{free_port()}",
    }


@dataclass(frozen=True, kw_only=True)
class Rig:
    """Two members that can be started, as often as one likes."""

    base: Path
    configs: dict[str, dict[str, Any]]

    @contextmanager
    def run(self) -> Iterator[Mirror]:
        """Both daemons at work, in sync from the beginning to the end."""
        base, children = self.base, dict[str, subprocess.Popen[bytes]]()
        try:
            for side in ("b", "a"):
                children[side] = start(base, side, self.configs[side])
            wait_for(base, "a", "PRIM")
            wait_for(base, "b", "SECOND")
            yield Mirror(
                folder=base / "a",
                copies=(base / "state-a/under-0", base / "b"),
                pids={side: child.pid for side, child in children.items()},
                metrics={side: config["metrics"] for side, config in self.configs.items()},
                log=base / "a.log",
            )
            # All of it was a mirror's work, not that of one that had lost its peer on the way.
            wait_for(base, "a", "PRIM")
        finally:
            end(base, children)


@contextmanager
def rig(base: Path, acknowledgement: str = "Memory") -> Iterator[Rig]:
    """Keys, configurations and a witness for a mirror below `base`, which must not be there yet."""
    base.mkdir()
    pins = {side: make_key(base, side) for side in UIDS}
    members = {side: {"name": side, "uid": uid, "address": f"127.0.0.1:{free_port()}"} for side, uid in UIDS.items()}
    configs = {}
    with witness(base) as witness_part:
        for side, peer in (("b", "a"), ("a", "b")):
            (base / side).mkdir()
            config = configuration(base, members, side, peer, pins[peer])
            configs[side] = config | {"witness": witness_part, "acknowledgement": acknowledgement}
        yield Rig(base=base, configs=configs)


@contextmanager
def mirror(base: Path, acknowledgement: str = "Memory") -> Iterator[Mirror]:
    """A running mirror below `base`, which must not be there yet."""
    with rig(base, acknowledgement) as made, made.run() as running:
        yield running


def end(base: Path, children: dict[str, subprocess.Popen[bytes]]) -> None:
    """Ends both daemons, and whatever one that failed left behind: the folder below must not be removed through it."""
    for child in children.values():
        child.terminate()
        child.wait(timeout=90)
    for left in (base / "a", base / "state-a/under-0", base / "state-b/under-0"):
        if f" {left} " in Path("/proc/self/mounts").read_text():
            subprocess.run(["umount", "--lazy", left], check=True)
