"""`make bench-mirrorfs`: a plain directory and a mirror, same work, same machine, rounds interleaved.

Primary and secondary are real processes over loopback with TLS and checksums on; both copies and the plain directory
lie on one file system, so the mirror's share of it is paid twice. Medians and spread; prints a table for
docs/benchmarks/mirrorfs.md. Needs root, fio (Debian package) and openssl. It says what a mirror costs here, and
no more: there is no network below it, and whatever else the machine does is in the figures.
"""

import argparse
import hashlib
import json
import os
import platform
import shutil
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

WORKSPACE = Path(__file__).parents[2] / "nodeagent/mirrorfs"
RELEASE = Path(os.environ.get("CARGO_TARGET_DIR", WORKSPACE / "target")) / "release"
STARTUP_SECONDS = 30.0

FIO_WORKS = {
    "4K random write, QD1 (op/s)": ["--rw=randwrite", "--bs=4k"],
    "4K random write + fdatasync (op/s)": ["--rw=randwrite", "--bs=4k", "--fdatasync=1"],
    "4K random write, 16 jobs (op/s)": ["--rw=randwrite", "--bs=4k", "--numjobs=16", "--group_reporting"],
    "1 MiB sequential overwrite (MiB/s)": ["--rw=write", "--bs=1m"],
    "4K random read, cached (op/s)": ["--rw=randread", "--bs=4k"],
}
SMALL_FILES = {"create": "4 KiB file create (/s)", "stat": "stat (/s)", "unlink": "unlink (/s)"}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How much work: seconds of each fio run, size of its file in MiB, number of small files, rounds."""

    seconds: int
    size: int
    files: int
    rounds: int


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


@contextmanager
def requests_over_io_uring() -> Iterator[bool]:
    """Lets FUSE servers ask for io_uring meanwhile, where the kernel has it: a switch that is off by default."""
    switch = Path("/sys/module/fuse/parameters/enable_uring")
    if not switch.exists():
        yield False
        return
    before = switch.read_text()
    switch.write_text("Y")
    try:
        yield True
    finally:
        switch.write_text(before)


@contextmanager
def mirror(base: Path) -> Iterator[Path]:
    """A running mirror below `base`; yields its mounted directory."""
    pins = {side: make_key(base, side) for side in UIDS}
    members = {side: {"name": side, "uid": uid, "address": f"127.0.0.1:{free_port()}"} for side, uid in UIDS.items()}
    children: list[subprocess.Popen[bytes]] = []
    for side in UIDS:
        (base / side).mkdir()
    with witness(base) as witness_part:
        try:
            for side, peer in (("b", "a"), ("a", "b")):
                config = {
                    "mirror": "00112233-4455-6677-8899-aabbccddeeff",
                    "member": members[side],
                    "peer": members[peer],
                    "directories": [{"path": str(base / side)}],
                    "state": str(base / f"state-{side}"),
                    "threads": 16,
                    "tls": {
                        "certificate": str(base / f"{side}.crt"),
                        "key": str(base / f"{side}.key"),
                        "peerPins": [pins[peer]],
                    },
                    "witness": witness_part,
                }
                children.append(start(base, side, config))
            wait_for(base, "a", "PRIM")
            wait_for(base, "b", "SECOND")
            yield base / "a"
            # All of it was a mirror's work, not that of one that had lost its peer on the way.
            wait_for(base, "a", "PRIM")
        finally:
            for child in children:
                child.terminate()
                child.wait(timeout=90)
            # Whatever a daemon that failed left behind: the folder below it must not be removed through it.
            for left in (base / "a", base / "state-a/under-0", base / "state-b/under-0"):
                if f" {left} " in Path("/proc/self/mounts").read_text():
                    subprocess.run(["umount", "--lazy", left], check=True)


def fio(folder: Path, arguments: list[str], settings: Settings) -> float:
    """Operations a second of one fio run, MiB a second where its blocks are 1 MiB."""
    shape = [f"--size={settings.size}m", f"--runtime={settings.seconds}", "--time_based", "--ioengine=psync"]
    # A file for each of several jobs: the kernel lets one writer at a time into a file. Threads, because fio gives each
    # process a scheduling group of its own, and some groups then wait for seconds.
    many = any(argument.startswith("--numjobs") for argument in arguments)
    place = [f"--directory={folder}", "--thread"] if many else [f"--filename={folder / 'data'}"]
    shape[0] = f"--size={settings.size // 16}m" if many else shape[0]
    common = ["--name=bench", "--output-format=json", "--randrepeat=0"]
    job = json.loads(run("fio", *place, *common, *shape, *arguments))["jobs"][0]
    side = job["read"] if "--rw=randread" in arguments else job["write"]
    return float(side["iops"])


def small_files(folder: Path, settings: Settings) -> dict[str, float]:
    """Rates of creating, stating and removing files of 4 KiB."""
    below = folder / "small"
    below.mkdir()
    try:
        rates: dict[str, float] = json.loads(run(RELEASE / "examples/small_files", below, str(settings.files)))
    finally:
        shutil.rmtree(below)
    return rates


def measure(
    folders: dict[str, Path], settings: Settings, note: Callable[[str], None]
) -> dict[str, dict[str, list[float]]]:
    """All works in all folders, interleaved: results by work and folder."""
    results: dict[str, dict[str, list[float]]] = {}

    def add(work: str, name: str, value: float) -> None:
        results.setdefault(work, {}).setdefault(name, []).append(value)

    for folder in folders.values():
        run("fio", f"--filename={folder / 'data'}", "--name=lay", "--rw=write", "--bs=1m", f"--size={settings.size}m")
        os.sync()
    for number in range(settings.rounds):
        for work, arguments in FIO_WORKS.items():
            for name, folder in folders.items():
                add(work, name, fio(folder, arguments, settings))
        for name, folder in folders.items():
            for kind, rate in small_files(folder, settings).items():
                add(SMALL_FILES[kind], name, rate)
        note(f"round {number + 1} of {settings.rounds} done")
    return results


def table(results: dict[str, dict[str, list[float]]]) -> str:
    """A Markdown table: medians, spread, and the mirror's share of the plain directory."""
    lines = ["| work | plain directory | mirror | of plain |", "|---|---|---|---|"]
    for work, sides in results.items():
        cells = []
        for values in sides.values():
            middle = statistics.median(values)
            cells.append(f"{middle:,.0f} ({min(values):,.0f}-{max(values):,.0f})")
        plain, mirrored = (statistics.median(values) for values in sides.values())
        lines.append(f"| {work} | {cells[0]} | {cells[1]} | {mirrored / plain:.0%} |")
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--size", type=int, default=1024, help="MiB of the file that fio writes")
    parser.add_argument("--files", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--base", default="/var/tmp", help="a folder on the file system to measure")
    arguments = parser.parse_args()
    settings = Settings(seconds=arguments.seconds, size=arguments.size, files=arguments.files, rounds=arguments.rounds)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 30
    with tempfile.TemporaryDirectory(prefix="mirrorfs-bench-", dir=arguments.base) as name:
        base = Path(name)
        plain = base / "plain"
        plain.mkdir()
        with requests_over_io_uring() as over, mirror(base) as mounted:
            print(f"io_uring offered to FUSE: {'yes' if over else 'no'}", flush=True)
            results = measure({"plain": plain, "mirror": mounted}, settings, lambda text: print(text, flush=True))
            print(f"\n{os.cpu_count()} processors, {memory} GiB, kernel {platform.release()}, {settings}\n")
            print(table(results), flush=True)


if __name__ == "__main__":
    main()
