"""The system's own tools (ip, nft, nsenter), run to their end. Not for what runs on: that is a `Child`."""

import asyncio
import os
import shutil
from collections.abc import Mapping

TOOLS = {"ip": "iproute2", "nft": "nftables", "nsenter": "util-linux", "unshare": "util-linux"}


class MachineError(Exception):
    """A machine or its network could not be made or changed; the message says what to do."""


async def execute(*argv: str, stdin: str = "", env: Mapping[str, str] | None = None) -> str:
    """Run `argv` to its end; gives its output, or MachineError with what it said."""
    process = await asyncio.create_subprocess_exec(
        *argv,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=env,
    )
    try:
        output, errors = await process.communicate(stdin.encode())
    finally:
        if process.returncode is None:
            process.kill()
    if process.returncode:
        said = "\n".join(text for text in (output.decode().strip(), errors.decode().strip()) if text)
        raise MachineError(f"`{' '.join(argv)}` ended with {process.returncode}: {said}")
    return output.decode()


def require_privileges() -> None:
    """MachineError unless we are root and have the tools: with the line to run."""
    if os.geteuid():
        raise MachineError("machines are made of Linux namespaces, which takes root: run `sudo make test`")
    missing = sorted({package for tool, package in TOOLS.items() if shutil.which(tool) is None})
    if missing:
        raise MachineError(f"missing tools: run `apt-get install -y {' '.join(missing)}`")
