"""The control socket: a UNIX socket for root on which `farmstead` asks what goes on. One JSON line in, one out.

Not an admin surface for the network: what people want done goes through the API as an Operation. The one command
that acts, `shutdown-machine`, is for the machine's own shutdown.
"""

import asyncio
import contextlib
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

log = logging.getLogger("farmstead.control")
Command = Callable[[Mapping[str, Any]], Awaitable[Any]]
LIMIT = 64 * 1024


class Control:
    """Serves the socket."""

    def __init__(self, path: Path, commands: Mapping[str, Command]) -> None:
        self._path = path
        self._commands = commands

    async def run(self) -> None:
        """Serve; ends only by cancellation."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()
        server = await asyncio.start_unix_server(self._serve, path=self._path, limit=LIMIT)
        self._path.chmod(0o600)
        async with server:
            await server.serve_forever()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            answer = await self._answer(await reader.readline())
            writer.write(json.dumps(answer).encode() + b"\n")
            await writer.drain()
        except (ConnectionError, ValueError) as error:
            log.debug("a control client went away: %s", error)
        finally:
            writer.close()

    async def _answer(self, line: bytes) -> dict[str, Any]:
        try:
            request = json.loads(line)
            command = self._commands[request["command"]]
        except (ValueError, KeyError, TypeError):
            return {"error": f"no such command; there are: {', '.join(self._commands)}"}
        try:
            return {"result": await command(request)}
        except Exception as error:
            log.exception("control command %s failed", request["command"])
            return {"error": f"{type(error).__name__}: {error}"}
