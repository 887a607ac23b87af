"""kill -9 of either daemon, again and again, under every kind of operation: what was acknowledged is there, on both.

Few kills in the ordinary tests, 200 with `make chaos-mirrorfs` (FARMSTEAD_MIRROR_KILLS).
"""

import os
from pathlib import Path

from testbed.controlplane import ControlPlane
from testbed.machines import Fabric
from testbed.mirror import mirror
from testbed.mirror_load.kills import Kills

KILLS = int(os.environ.get("FARMSTEAD_MIRROR_KILLS", "6"))
SEED = int(os.environ.get("FARMSTEAD_MIRROR_SEED", "1"))


async def test_what_was_acknowledged_survives_every_kill_on_both(
    fabric: Fabric, control_plane: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    async with mirror(fabric, control_plane, namespace, tmp_path, leaseSeconds=1.0) as pair:
        kills = Kills(pair, tmp_path / "ledgers", seed=SEED)
        await kills.prepare()
        while kills.count < KILLS:
            await kills.strike()
            print(kills.rounds[-1])
    print(kills)
