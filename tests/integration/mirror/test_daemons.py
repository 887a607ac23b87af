"""Two daemons and a real witness: roles, takeover, rejoin."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from testbed.controlplane import ControlPlane
from testbed.machines import Fabric
from testbed.mirror import Mirror, mirror


@pytest.fixture
async def pair(fabric: Fabric, control_plane: ControlPlane, namespace: str, tmp_path: Path) -> AsyncIterator[Mirror]:
    """A mirror with a short lease."""
    async with mirror(fabric, control_plane, namespace, tmp_path, leaseSeconds=1.5) as pair:
        yield pair


async def test_two_daemons_and_a_witness_become_a_mirror(pair: Mirror) -> None:
    (pair.a.directory / "before").write_bytes(b"there before the mirror")
    await pair.start()
    (pair.a.directory / "after").write_bytes(b"written through it")
    assert {path.name for path in pair.b.under.iterdir()} >= {"before", "after"}
    assert (pair.b.under / "before").read_bytes() == b"there before the mirror"
    assert (pair.b.under / "after").read_bytes() == b"written through it"
    record = await pair.record()
    assert record["primary"] == "a"
    assert {entry["name"] for entry in record["inSync"]} == {"a", "b"}
