"""Does the probe tell the truth? Asks the probe and the application side by side, many times a second, from outside.

    python -m testbed.load.truth --probe HOST:PORT/PATH --application HOST:PORT/PATH

Each question is a connection of its own. At SIGTERM all answers are written, one JSON list a line:
[what, began, ended, outcome]; times are CLOCK_MONOTONIC, the outcome is a status or the error's text.
What they mean is told by `Verdict`, which is pure.
"""

import argparse
import asyncio
import json
import signal
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from testbed.load.http import parse_head

PAUSE_SECONDS = 0.01
PATIENCE_SECONDS = 10.0
GOOD = "200"


class Answer(NamedTuple):
    """One question and what came of it."""

    what: str
    """probe or application."""
    began: float
    ended: float
    outcome: str

    @property
    def good(self) -> bool:
        """Whether it was a whole answer with status 200."""
        return self.outcome == GOOD


@dataclass(frozen=True, kw_only=True)
class Outage:
    """A time in which the application did not answer."""

    dead: float
    """When a question first failed for certain."""
    alive: float
    """When the first question was asked that was answered again; infinity where none was."""
    served: float
    """When that was answered."""


class Verdict:
    """What the answers of one run say. Times in seconds."""

    def __init__(self, answers: Iterable[Answer]) -> None:
        ordered = sorted(answers, key=lambda answer: answer.began)
        self.probe = [answer for answer in ordered if answer.what == "probe"]
        self.application = [answer for answer in ordered if answer.what == "application"]

    @property
    def outages(self) -> list[Outage]:
        """Each time in which the application did not answer."""
        found: list[Outage] = []
        dead: float | None = None
        for answer in self.application:
            if answer.good and dead is not None:
                found.append(Outage(dead=dead, alive=answer.began, served=answer.ended))
                dead = None
            elif not answer.good and dead is None:
                dead = answer.ended
        if dead is not None:
            found.append(Outage(dead=dead, alive=float("inf"), served=float("inf")))
        return found

    @property
    def longest_lie(self) -> float:
        """For how long the probe went on saying 200 of an application that was dead."""
        return max(
            (
                answer.began - outage.dead
                for outage in self.outages
                for answer in self.probe
                if answer.good and outage.dead <= answer.began and answer.ended <= outage.alive
            ),
            default=0.0,
        )

    @property
    def refused(self) -> list[Answer]:
        """Questions that the probe did not answer at all."""
        return [answer for answer in self.probe if not answer.outcome.isdigit()]

    @property
    def slowest(self) -> float:
        """The longest that the probe took to answer."""
        return max((answer.ended - answer.began for answer in self.probe), default=0.0)


async def ask(host: str, port: int, path: str) -> str:
    """One question; gives the status, or what went wrong."""
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
                status, headers = parse_head((await reader.readuntil(b"\r\n\r\n")).decode("latin-1"))
                await reader.readexactly(int(headers["content-length"]))
            finally:
                writer.close()
    except asyncio.IncompleteReadError:
        return "closed before the whole answer came"
    except TimeoutError:
        return f"no answer in {PATIENCE_SECONDS:g} s"
    except OSError as error:
        return error.strerror or str(error)
    return str(status)


async def question(what: str, target: str, answers: list[Answer], stopping: asyncio.Event) -> None:
    """Ask until told to stop; the last question is waited for, since a late answer is what this is here to see."""
    address, _, path = target.partition("/")
    host, _, port = address.rpartition(":")
    while not stopping.is_set():
        began = time.monotonic()
        outcome = await ask(host, int(port), f"/{path}")
        answers.append(Answer(what, began, time.monotonic(), outcome))
        await asyncio.sleep(PAUSE_SECONDS)


async def run(targets: Sequence[tuple[str, str]]) -> list[Answer]:
    """Ask all of them until SIGTERM."""
    answers: list[Answer] = []
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    async with asyncio.TaskGroup() as group:
        for what, target in targets:
            group.create_task(question(what, target, answers, stopping))
        print(flush=True)  # now they are asked
    return answers


def main() -> None:
    """Parse the arguments, ask, write."""
    parser = argparse.ArgumentParser(prog="testbed.load.truth", description=__doc__)
    for what in ("probe", "application"):
        parser.add_argument(f"--{what}", required=True, metavar="HOST:PORT/PATH")
    arguments = parser.parse_args()
    for answer in asyncio.run(run([("probe", arguments.probe), ("application", arguments.application)])):
        print(json.dumps(answer))


if __name__ == "__main__":
    main()
