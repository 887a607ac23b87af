"""The control plane's programs, the real ones: etcd, kube-apiserver and kubectl, built from their Go modules.

`python -m testbed.controlplane` prints the folder that holds them. They are built once per version of the
recipe beside this file (go.mod, go.sum, main.go) and of Go, and kept in the cache. `$KUBEBUILDER_ASSETS`,
where set, names a folder with ready ones and is taken instead. Not a release build: no debugging data.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from testbed.cache import cache_folder, locked
from testbed.controlplane.toolchain import Go, find_go

PROGRAMS = ("etcd", "kube-apiserver", "kubectl")
RECIPE = Path(__file__).parent
SOURCES = ("go.mod", "go.sum", "main.go")
PROGRESS_SECONDS = 20.0


class BuildError(Exception):
    """The control plane's programs could not be had; the message says what to do."""


def programs(*, say: Callable[[str], None] | None = None) -> Path:
    """The folder that holds the programs, built first if need be; `say` is told what takes time."""
    say = say or _say
    assets = os.environ.get("KUBEBUILDER_ASSETS")
    if assets:
        return _ready_made(Path(assets))
    go = find_go(at_least=_go_line(), say=say)
    folder = cache_folder() / "controlplane" / _key(go)
    if (folder / "bin").exists():
        return folder / "bin"
    with locked(folder.with_suffix(".lock"), say):
        if not (folder / "bin").exists():
            _build(go, folder, say)
    return folder / "bin"


def _ready_made(folder: Path) -> Path:
    missing = [name for name in PROGRAMS if not (folder / name).exists()]
    if missing:
        raise BuildError(
            f"KUBEBUILDER_ASSETS={folder} lacks {', '.join(missing)}: put them there, "
            "or unset KUBEBUILDER_ASSETS to have them built"
        )
    return folder


def _build(go: Go, folder: Path, say: Callable[[str], None]) -> None:
    """Build into a folder beside, and rename it when it is complete: what is in the cache is whole."""
    versions = f"etcd {_required('go.etcd.io/etcd/server/v3')}, kube-apiserver and kubectl {_kubernetes()}"
    say(f"building {versions} with Go {go.version}: once, usually 5 to 8 minutes on 2 cores")
    started = time.monotonic()
    unfinished = folder.with_suffix(".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    (unfinished / "bin").mkdir(parents=True)
    binary = unfinished / "bin" / "controlplane"
    # Whoever asked for the build may be killed; it must not go on by itself then.
    command = ["setpriv", "--pdeathsig", "TERM", "--", str(go.program), *_arguments(), "-o", str(binary), "."]
    _compile(command, go.environment(), say, started)
    for name in PROGRAMS:
        (unfinished / "bin" / name).symlink_to(binary.name)
    shutil.rmtree(folder, ignore_errors=True)
    unfinished.rename(folder)
    say(f"built in {time.monotonic() - started:.0f} s")


def _compile(command: list[str], environment: dict[str, str], say: Callable[[str], None], started: float) -> None:
    compiled, complaints, told = 0, [], started
    with subprocess.Popen(
        command, cwd=RECIPE, env=environment, stderr=subprocess.PIPE, text=True, errors="replace"
    ) as compiler:
        assert compiler.stderr is not None
        for line in compiler.stderr:
            # `-v` names a package a line as it is compiled; all else is about what went wrong.
            if re.fullmatch(r"[\w./-]+\n", line):
                compiled += 1
            elif not line.startswith("go: downloading"):
                complaints.append(line)
            if time.monotonic() - told > PROGRESS_SECONDS:
                told = time.monotonic()
                say(f"  {told - started:.0f} s: {compiled} packages compiled")
    if compiler.returncode:
        raise BuildError(
            f"could not build the control plane (in {RECIPE}): `{' '.join(command)}` failed:\n"
            f"{''.join(complaints[-20:])}Go fetches modules from $GOPROXY: is it reachable? "
            f"A folder with ready {', '.join(PROGRAMS)} can be named in KUBEBUILDER_ASSETS instead."
        )


def _arguments() -> list[str]:
    version = _kubernetes()
    major, minor, _ = version.removeprefix("v").split(".")
    stamped = {"gitVersion": version, "gitMajor": major, "gitMinor": minor}
    stamps = " ".join(f"-X k8s.io/component-base/version.{name}={value}" for name, value in stamped.items())
    # Without debugging data it compiles faster.
    return ["build", "-v", "-trimpath", "-gcflags=all=-dwarf=false", f"-ldflags=-s -w {stamps}"]


def _key(go: Go) -> str:
    """What a build depends on, in 16 characters."""
    digest = hashlib.sha256()
    for part in [go.version, *_arguments(), *((RECIPE / name).read_text() for name in SOURCES)]:
        digest.update(part.encode() + b"\0")
    return digest.hexdigest()[:16]


def _go_line() -> str:
    match = re.search(r"^go (\S+)$", (RECIPE / "go.mod").read_text(), re.MULTILINE)
    assert match
    return match[1]


def _kubernetes() -> str:
    return _required("k8s.io/kubernetes")


def _required(module: str) -> str:
    match = re.search(rf"^\s*{re.escape(module)} (v\S+)$", (RECIPE / "go.mod").read_text(), re.MULTILINE)
    assert match, f"{RECIPE / 'go.mod'} does not require {module}"
    return match[1]


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
