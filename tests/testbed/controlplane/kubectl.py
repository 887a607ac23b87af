"""kubectl, run to its end: one way for our control plane and for somebody's own cluster."""

import asyncio
from collections.abc import Mapping
from pathlib import Path


class CommandError(Exception):
    """kubectl failed: what was asked, and what it said."""


async def run_kubectl(
    program: Path, *arguments: str, kubeconfig: Path, env: Mapping[str, str], stdin: str | None = None
) -> str:
    """Run `program` with `kubeconfig`; gives its output, or CommandError."""
    kubectl = await asyncio.create_subprocess_exec(
        program,
        f"--kubeconfig={kubeconfig}",
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=env,
    )
    try:
        output, errors = await kubectl.communicate((stdin or "").encode())
    finally:
        if kubectl.returncode is None:
            kubectl.kill()
    if kubectl.returncode:
        raise CommandError(f"kubectl {' '.join(arguments)}: {errors.decode().strip()}")
    return output.decode()
