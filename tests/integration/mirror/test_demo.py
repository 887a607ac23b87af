"""The mirror's demo, on the tests' own API server: its acts are a test of their own."""

import io
from pathlib import Path

from testbed.controlplane import ControlPlane
from testbed.demo.timeline import Timeline
from testbed.machines import Fabric
from testbed.mirror import mirror
from testbed.mirror_demo.story import Story
from testbed.run import Run


async def test_nothing_acknowledged_is_lost_in_the_demo(
    run: Run, fabric: Fabric, control_plane: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    told = io.StringIO()
    async with mirror(fabric, control_plane, namespace, tmp_path, leaseSeconds=1.0) as pair:
        story = Story(run, pair, Timeline(out=told))
        await story.play()
    print(told.getvalue())
    assert [row[0] for row in story.rows[1:]] == [
        "the mirror appears",
        "the primary's daemon is killed",
        "a planned switch",
        "the primary's machine dies",
    ]
    assert "all 0 acknowledged" not in told.getvalue()
