"""The launcher with real cgroups and real processes: results survive, limits hold, nothing runs twice or is left."""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from farmstead_agent.application import cgroups
from farmstead_agent.application.base import Command
from farmstead_agent.application.launcher import CgroupGroup, CgroupLauncher
from testbed.run import Run


class Place:
    """A group in a place of its own."""

    def __init__(self, root: Path, directory: Path) -> None:
        self.launcher = CgroupLauncher(str(root))
        self.path = root / "shop.web"
        self.directory = directory
        group = self.launcher.group("shop.web", directory)
        assert isinstance(group, CgroupGroup)
        self.group = group

    def command(self, id_: str, script: str, *, stays: bool = False, timeout: float = 10) -> Command:
        return Command(
            id=id_,
            name="script",
            arguments=("/bin/sh", "-c", script),
            environment={"PATH": os.environ["PATH"], "WORD": "hello"},
            directory=str(self.directory),
            timeout_seconds=timeout,
            stays=stays,
        )

    async def empty(self) -> None:
        """Wait until nothing of it lives."""
        async with asyncio.timeout(10):
            while cgroups.populated(self.path):
                await asyncio.sleep(0.01)


@pytest_asyncio.fixture
async def place(run: Run, tmp_path: Path) -> AsyncIterator[Place]:
    assert run.cgroup is not None
    made = Place(run.cgroup / f"launcher-{tmp_path.name}", tmp_path)
    try:
        yield made
    finally:
        cgroups.kill(made.path)
        await made.empty()
        made.launcher.close()
        cgroups.remove(made.path.parent)


async def test_a_command_runs_and_tells_how_it_ended(place: Place) -> None:
    good = await place.group.begin(place.command("1", 'echo "$WORD"; pwd'))
    assert (await good.wait()).ok
    bad = await place.group.begin(place.command("2", "echo oops >&2; exit 3"))
    result = await bad.wait()
    assert (result.ok, result.message) == (False, "it ended with exit status 3")
    missing = await place.group.begin(
        Command(id="3", name="script", arguments=("/no/such",), environment={}, directory="/", timeout_seconds=1)
    )
    assert (await missing.wait()).message == "it ended with exit status 127"
    output = (place.directory / "output/script.log").read_text()
    assert output.splitlines()[:3] == ["hello", str(place.directory), "oops"]
    assert "can't run /no/such" in output


async def test_a_limit_ends_a_script_with_all_it_has_started(place: Place) -> None:
    began = time.monotonic()
    step = await place.group.begin(place.command("1", "sleep 60 & sleep 60", timeout=0.5))
    result = await step.wait()
    assert not result.ok
    assert "exceeded its limit" in result.message
    assert time.monotonic() - began < 3
    await place.empty()


async def test_an_abort_is_quick(place: Place) -> None:
    step = await place.group.begin(place.command("1", "sleep 60"))
    step.abort()
    result = await step.wait()
    assert "broken off" in result.message


async def test_only_what_start_leaves_stays(place: Place) -> None:
    stop = await place.group.begin(place.command("1", "sleep 60 & exit 0"))
    assert (await stop.wait()).ok
    await place.empty()
    changes = asyncio.Event()
    end = place.group.watch(changes.set)
    start = await place.group.begin(place.command("2", "sleep 60 & exit 0", stays=True))
    assert (await start.wait()).ok
    assert place.group.alive()
    assert len(place.group.pids()) == 1
    async with asyncio.timeout(2):
        await changes.wait()
        changes.clear()
        place.group.kill()
        while place.group.alive():
            await changes.wait()
            changes.clear()
    end()


async def test_another_agent_finds_a_command_again(place: Place) -> None:
    assert await place.group.resume("1") is None
    await place.group.begin(place.command("1", "sleep 0.5; echo once >> log"))
    successor = CgroupLauncher(str(place.path.parent)).group("shop.web", place.directory)
    found = await successor.resume("1")
    assert found is not None
    assert (await found.wait()).ok
    again = await successor.resume("1")
    assert again is not None
    assert (await again.wait()).ok
    # Even begun twice under one id, by an agent that did not know, it runs once.
    twice = await successor.begin(place.command("1", "echo twice >> log"))
    assert (await twice.wait()).ok
    assert (place.directory / "log").read_text() == "once\n"
    successor.clean()
    assert await successor.resume("1") is None


async def test_a_supervisor_that_is_killed_leaves_a_failure(place: Place) -> None:
    step = await place.group.begin(place.command("1", "sleep 60"))
    cgroups.kill(place.path)
    result = await step.wait()
    assert (result.ok, "left no result" in result.message) == (False, True)


def test_where_no_cgroup_can_be_made_it_says_so(tmp_path: Path) -> None:
    problem = CgroupLauncher(str(tmp_path / "farmstead")).problem()
    assert problem is not None
    assert "is no cgroup2 directory" in problem
    problem = CgroupLauncher("/proc/farmstead").problem()
    assert problem is not None
    assert "can't make cgroup /proc/farmstead" in problem
