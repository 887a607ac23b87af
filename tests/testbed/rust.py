"""Programs of the Rust workspace, built as they are shipped; what the cache has of them is not built again."""

import asyncio
import os
from pathlib import Path

from testbed.cache import cache_folder

WORKSPACE = Path(__file__).parents[2] / "nodeagent" / "mirrorfs"


async def rust_program(package: str, program: str) -> Path:
    """Build a package; gives the path of one of its programs."""
    target = Path(os.environ.get("CARGO_TARGET_DIR", cache_folder() / "cargo-target"))
    command = ["cargo", "build", "--quiet", "--locked", "--release", "-p", package]
    environment = os.environ | {"CARGO_HOME": str(cache_folder() / "cargo"), "CARGO_TARGET_DIR": str(target)}
    process = await asyncio.create_subprocess_exec(*command, cwd=WORKSPACE, env=environment)
    if await process.wait():
        raise RuntimeError(f"{package} does not build: see above")
    return target / "release" / program
