"""`python -m testbed.load --target HOST:PORT ...`: run clients until SIGTERM or the limit, one JSON object a line.

Lines: `{"failure": ...}` as they happen, `{"by_machine": ...}` every second, `{"served": ...}` last.
Times are CLOCK_MONOTONIC, which all processes of a machine share.
"""

import argparse
import asyncio
import json
import signal
import time
from typing import Any

from testbed.load.account import Account
from testbed.load.http import Connection, ExchangeError


class Clients:
    """The clients of one run, and their account."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self._host, _, port = arguments.target.rpartition(":")
        self._port = int(port)
        self._paths = arguments.path
        self._pause = arguments.pause
        self._timeout = arguments.timeout
        self._account = Account(started=time.monotonic())
        self._stopping = asyncio.Event()

    async def run(self, *, new: int, keep: int, limit: float) -> None:
        """Run `new` clients with a connection a request and `keep` that keep theirs, until told to stop."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._stopping.set)
        loop.call_later(limit, self._stopping.set)
        async with asyncio.TaskGroup() as group:
            for number in range(new + keep):
                group.create_task(self._client(number, keep=number >= new))
            ticker = group.create_task(self._ticks())
            await self._stopping.wait()
            ticker.cancel()
        write(self._account.total())

    async def _client(self, number: int, *, keep: bool) -> None:
        """One client: asks, pauses, asks again; what it started before the stop it finishes."""
        name = f"{'keep-alive' if keep else 'new'}-{number}"
        connection: Connection | None = None
        machine = "?"
        opened = 0.0
        turn = number
        await self._pause_for(self._pause * number / 16)  # not all in one instant
        while not self._stopping.is_set():
            path = self._paths[turn % len(self._paths)]
            turn += 1
            began = time.monotonic()
            try:
                async with asyncio.timeout(self._timeout):
                    if connection is None or connection.closed_by_peer:
                        machine, opened = "?", time.monotonic()
                        connection = await Connection.open(self._host, self._port)
                    answer = await connection.get(path, host=self._host, keep=keep)
            except (ExchangeError, TimeoutError) as error:
                now = time.monotonic()
                why = str(error) or f"no answer in {self._timeout:g} s"
                line = self._account.failure(
                    now=now, seconds=now - began, opened=opened, client=name, machine=machine, why=why
                )
                write(line)
                connection = self._drop(connection)
            else:
                now = time.monotonic()
                machine = answer.served_by
                self._account.answered(now=now, seconds=now - began, machine=machine)
                if answer.close:
                    connection = self._drop(connection)
            await self._pause_for(self._pause)
        self._drop(connection)

    @staticmethod
    def _drop(connection: Connection | None) -> None:
        if connection is not None:
            connection.close()

    async def _pause_for(self, seconds: float) -> None:
        """Wait, or return at once when told to stop."""
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            pass

    async def _ticks(self) -> None:
        while True:
            await asyncio.sleep(1)
            write(self._account.tick(now=time.monotonic()))


def write(line: dict[str, Any]) -> None:
    """Write one line, at once."""
    print(json.dumps(line), flush=True)


def main() -> None:
    """Parse the arguments and run."""
    parser = argparse.ArgumentParser(prog="testbed.load", description=__doc__)
    parser.add_argument("--target", required=True, metavar="HOST:PORT")
    parser.add_argument("--path", action="append", required=True, help="asked for in turn; repeat for several")
    parser.add_argument("--new", type=int, default=4, help="clients that connect for each request")
    parser.add_argument("--keep", type=int, default=4, help="clients that keep their connection")
    parser.add_argument("--pause", type=float, default=0.05, metavar="SECONDS", help="between two requests of a client")
    parser.add_argument(
        "--timeout", type=float, default=15, metavar="SECONDS", help="of a request, connecting included"
    )
    parser.add_argument("--limit", type=float, default=600, metavar="SECONDS", help="when to end by itself")
    arguments = parser.parse_args()
    asyncio.run(Clients(arguments).run(new=arguments.new, keep=arguments.keep, limit=arguments.limit))


if __name__ == "__main__":
    main()
