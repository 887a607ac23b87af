"""GlusterFS 10, replica 2, for the bench: two bricks and two mounts, one of them without write-behind.

Everything is in a folder and a network namespace of its own (glusterd refuses loopback addresses as names of bricks),
and is ended by its place in that namespace.
"""

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench.mirrorfs.mirror import run

ADDRESS = "10.201.0.1"
VOLUME = "bench"
STARTUP_SECONDS = 60.0
DAEMON = """volume management
    type mgmt/glusterd
    option working-directory {base}/work
    option run-directory {base}/run
    option glusterd-sockfile {base}/glusterd.sock
    option transport-type socket
    option transport.socket.listen-port 24007
    option transport.socket.bind-address {address}
    option max-port 60999
end-volume
"""


@contextmanager
def namespace(name: str) -> Iterator[list[str]]:
    """A network namespace with an address; yields how to run something in it. All of its processes end with it."""
    run("ip", "netns", "add", name)
    try:
        run("ip", "-n", name, "link", "set", "lo", "up")
        run("ip", "-n", name, "address", "add", f"{ADDRESS}/32", "dev", "lo")
        yield ["nsenter", f"--net=/run/netns/{name}"]
    finally:
        deadline = time.monotonic() + 10
        while pids := run("ip", "netns", "pids", name).split():
            how = signal.SIGTERM if time.monotonic() < deadline else signal.SIGKILL
            for pid in pids:
                os.kill(int(pid), how)
            time.sleep(0.2)
        run("ip", "netns", "delete", name)


def until(what: str, *command: str | Path) -> None:
    """Runs a program until it succeeds: glusterd has no other sign of being ready."""
    deadline = time.monotonic() + STARTUP_SECONDS
    while (done := subprocess.run(command, capture_output=True, text=True, check=False)).returncode != 0:
        if time.monotonic() > deadline:
            raise RuntimeError(f"GlusterFS: {what}: {done.stdout}{done.stderr}")
        time.sleep(0.2)


def without_write_behind(volume_file: str) -> str:
    """The client's graph with the write-behind layer taken out."""
    layer = re.search(r"volume (\S+-write-behind)\n.*?subvolumes (\S+)\nend-volume\n", volume_file, re.DOTALL)
    if layer is None:
        raise RuntimeError("GlusterFS: the client's graph has no write-behind layer")
    return volume_file.replace(layer[0], "").replace(f"subvolumes {layer[1]}\n", f"subvolumes {layer[2]}\n")


@contextmanager
def gluster(base: Path) -> Iterator[tuple[Path, Path, tuple[Path, Path]]]:
    """A running volume below `base`; yields its mount, its mount without write-behind, and its bricks."""
    bricks = (base / "brick-1", base / "brick-2")
    mounts = (base / "mount", base / "mount-plain")
    for folder in (*bricks, *mounts, base / "work", base / "run"):
        folder.mkdir(parents=True)
    (base / "glusterd.vol").write_text(DAEMON.format(base=base, address=ADDRESS))
    log = base / "log"
    with ExitStack() as stack:
        inside = stack.enter_context(namespace(f"bench-gluster-{os.getpid()}"))
        output = stack.enter_context((base / "output").open("wb"))

        def start(*command: str | Path) -> None:
            child = stack.enter_context(subprocess.Popen([*inside, *command], stdout=output, stderr=output))
            stack.callback(child.terminate)

        start("glusterd", "-N", "-f", base / "glusterd.vol", "-l", log, "-p", base / "glusterd.pid")
        tell = [*inside, "gluster", "--mode=script", f"--glusterd-sock={base / 'glusterd.sock'}"]
        until("no answer of glusterd", *tell, "peer", "status")
        names = [f"{ADDRESS}:{brick}" for brick in bricks]
        until("create", *tell, "volume", "create", VOLUME, "replica", "2", *names, "force")
        until("start", *tell, "volume", "start", VOLUME)
        graph = next((base / "work/vols" / VOLUME).glob(f"trusted-{VOLUME}.tcp-fuse.vol"))
        (base / "plain.vol").write_text(without_write_behind(graph.read_text()))
        start("glusterfs", "-N", f"--volfile-server={ADDRESS}", f"--volfile-id={VOLUME}", "-l", log, mounts[0])
        start("glusterfs", "-N", "-f", base / "plain.vol", "-l", log, mounts[1])
        for mount in mounts:
            until(f"nothing mounted at {mount}", "mountpoint", "--quiet", mount)
            stack.callback(run, "umount", "--lazy", mount)
        yield *mounts, bricks
