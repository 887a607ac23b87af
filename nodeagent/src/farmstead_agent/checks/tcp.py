"""The tcp check: a connection can be opened."""

import asyncio
import contextlib

from farmstead_agent.checks.base import Result
from farmstead_api.common import TcpCheck


class TcpAsker:
    """Connects and closes."""

    def __init__(self, check: TcpCheck) -> None:
        self._check = check

    async def ask(self) -> Result:
        """Try once."""
        where = f"{self._check.address}:{self._check.port}"
        try:
            _, writer = await asyncio.open_connection(self._check.address, self._check.port)
        except OSError as error:
            return Result(ok=False, message=f"{where}: {error.strerror or error}")
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        return Result(ok=True, message=f"{where} accepts connections")

    async def pause(self, seconds: float) -> None:
        """Until the next interval."""
        await asyncio.sleep(seconds)
