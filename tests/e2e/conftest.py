"""What end-to-end tests get by name: one data centre for all of them, with the sample farm that serves.

A test leaves the farm as it found it, or the next one fails before it begins.
"""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Generator, Iterator

import pytest
import pytest_asyncio

from farmstead_kube import connect
from testbed.controlplane import programs
from testbed.datacentre import DataCentre
from testbed.datacentre.chronicle import Chronicle
from testbed.datacentre.farm import Farm
from testbed.datacentre.figures import PROPERTY, Figures, table
from testbed.leftovers import assert_nothing_left
from testbed.machines import require_privileges
from testbed.run import Run


@pytest.fixture(scope="session")
def data_centre_run() -> Iterator[Run]:
    """A run of its own, and the proof that it leaves nothing behind."""
    require_privileges()
    programs()
    with Run() as run:
        yield run
    assert_nothing_left(run.id)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def centre(data_centre_run: Run) -> AsyncIterator[DataCentre]:
    """The data centre."""
    async with DataCentre(data_centre_run) as centre:
        yield centre


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def sample_farm(centre: DataCentre) -> AsyncIterator[Farm]:
    """The sample farm, applied."""
    client = await connect(kubeconfig=centre.cluster.admin_kubeconfig, field_manager="farmstead-e2e")
    chronicle = Chronicle(client, tell=lambda who, what: print(f"{time.monotonic():.2f} {who} {what}"))
    watching = asyncio.create_task(chronicle.run())
    farm = Farm(centre, chronicle)
    try:
        await farm.apply()
        yield farm
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        await client.close()


@pytest_asyncio.fixture(loop_scope="session")
async def farm(sample_farm: Farm) -> Farm:
    """The sample farm, well."""
    await sample_farm.settled()
    return sample_farm


@pytest.fixture
def figures(request: pytest.FixtureRequest) -> Figures:
    """Where a test puts what it has measured; it is shown at the end."""
    return Figures(request.node.user_properties)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The figures."""
    reports = [*terminalreporter.getreports("passed"), *terminalreporter.getreports("failed")]
    called = [report for report in reports if report.when == "call"]
    rows = [value for report in called for name, value in report.user_properties if name == PROPERTY]
    if rows:
        terminalreporter.section(f"what clients noticed ({os.cpu_count()} cores, load {os.getloadavg()[0]:.1f})")
        for line in table(rows):
            terminalreporter.write_line(line)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the logs of all parts beside a failure."""
    report = yield
    farm = getattr(item, "funcargs", {}).get("sample_farm")
    if report.failed and isinstance(farm, Farm):
        report.sections += [(f"{name}'s log", log) for name, log in farm.centre.logs().items()]
    return report
