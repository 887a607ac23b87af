"""The exec check: a command's exit status. 0 is up; anything else, 124 and signals included, is down.

The command runs in a session of its own, and all of that is killed at the limit.
"""

import asyncio
import contextlib
import os
import signal

from farmstead_agent.application.scripts import PATH
from farmstead_agent.checks.base import Result
from farmstead_api.common import ExecCheck

OUTPUT_LIMIT = 4096
MESSAGE_LIMIT = 200


class ExecAsker:
    """Runs the command once."""

    def __init__(self, check: ExecCheck) -> None:
        self._check = check

    async def ask(self) -> Result:
        """Run it; cancelled, it is killed with all it has started."""
        command = self._check.command[0]
        try:
            process = await asyncio.create_subprocess_exec(
                *self._check.command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                env={"PATH": PATH, "LANG": "C.UTF-8"},
                cwd="/",
                start_new_session=True,
            )
        except OSError as error:
            return Result(ok=False, message=f"{command}: can't be run: {error.strerror}")
        try:
            output = await head(process)
            status = await process.wait()
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        said = output.decode(errors="replace").strip().replace("\n", " ")[:MESSAGE_LIMIT]
        if status == 0:
            return Result(ok=True, message=said)
        how = f"ended by {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
        return Result(ok=False, message=f"{command}: {how}{': ' if said else ''}{said}")

    async def pause(self, seconds: float) -> None:
        """Until the next interval."""
        await asyncio.sleep(seconds)


async def head(process: asyncio.subprocess.Process) -> bytes:
    """The beginning of the output; the rest is read and dropped, so that the command never waits for a reader."""
    assert process.stdout is not None  # noqa: S101 - asked for above
    kept = b""
    while chunk := await process.stdout.read(OUTPUT_LIMIT):
        kept = (kept + chunk)[:OUTPUT_LIMIT]
    return kept


class ForbiddenAsker:
    """An exec check on a machine whose file forbids them."""

    async def ask(self) -> Result:
        """Never asks."""
        return Result(ok=False, message="this machine runs no exec checks (allow.exec_checks in its file)")

    async def pause(self, seconds: float) -> None:
        """Until the next interval."""
        await asyncio.sleep(seconds)
