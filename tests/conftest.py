"""What tests get by name: a run of the testbed, one real control plane a session, a namespace of their own.

A part that can't be had fails the test that asked for it, with what to do: nothing is skipped silently.
"""

import os
import secrets
from collections.abc import AsyncIterator, Generator, Iterator

import pytest
import pytest_asyncio

from farmstead_kube import connect
from testbed.controlplane import BuildError, ControlPlane, programs
from testbed.installation import install_farmstead
from testbed.machines import Fabric, require_privileges
from testbed.namespaces import empty_namespace
from testbed.run import Run


@pytest.fixture(scope="session")
def run() -> Iterator[Run]:
    """The session's run: its folder holds everything, and goes at the end."""
    with Run() as run:
        yield run


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def fabric_if_root(run: Run) -> AsyncIterator[Fabric | None]:
    """The session's network, or None where we may not make one: the API server does without."""
    if os.geteuid():
        yield None
    else:
        async with Fabric(run) as fabric:
            yield fabric


@pytest.fixture(scope="session")
def fabric(fabric_if_root: Fabric | None) -> Fabric:
    """The session's network. Make machines and namespaces in it, and end them in the test."""
    require_privileges()
    assert fabric_if_root is not None
    return fabric_if_root


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def control_plane(run: Run, fabric_if_root: Fabric | None) -> AsyncIterator[ControlPlane]:
    """A real API server for the whole session, in reach of machines. A test that stops it starts it again."""
    address = fabric_if_root.gateway if fabric_if_root else "127.0.0.1"
    async with ControlPlane(run, address=address) as control_plane:
        yield control_plane


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def installed(control_plane: ControlPlane) -> ControlPlane:
    """The API server with our kinds, rights and guards."""
    await install_farmstead(control_plane.kubectl)
    return control_plane


@pytest_asyncio.fixture
async def namespace(control_plane: ControlPlane) -> AsyncIterator[str]:
    """A fresh namespace, emptied at the end, so that tests that share the API server don't meet."""
    name = f"test-{secrets.token_hex(4)}"
    await control_plane.kubectl("create", "namespace", name)
    yield name
    client = await connect(kubeconfig=control_plane.admin_kubeconfig, field_manager="test")
    try:
        await empty_namespace(client, name)
    finally:
        await client.close()


def pytest_collection_finish(session: pytest.Session) -> None:
    """Build the control plane before the tests, not in the first one's time, and with its progress visible."""
    wanted = any("control_plane" in getattr(item, "fixturenames", ()) for item in session.items)
    if wanted and not session.config.option.collectonly:
        try:
            programs()
        except BuildError as error:
            pytest.exit(str(error), returncode=1)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the logs of the control plane and of machines beside the failure of a test that used them."""
    report = yield
    if report.failed:
        used = getattr(item, "funcargs", {})
        for part in (used.get("control_plane"), used.get("fabric_if_root")):
            if isinstance(part, ControlPlane | Fabric):
                report.sections += [(f"{name}'s log", log) for name, log in part.logs().items()]
    return report
