"""`python -m testbed.mirror_demo`: build two machines and a witness, play the story, leave nothing."""

import argparse
import asyncio
import signal
import sys

from testbed.controlplane import CommandError, ControlPlane, ControlPlaneError
from testbed.demo.timeline import Timeline
from testbed.machines import Fabric
from testbed.mirror import mirror
from testbed.mirror_demo.story import Story
from testbed.run import Run

NAMESPACE = "shop"


async def play() -> None:
    """Everything, from an empty machine to an empty machine."""
    timeline = Timeline()
    this = asyncio.current_task()
    assert this is not None
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, this.cancel)
    timeline.chapter("Two machines and a witness")
    timeline.say("demo", "starting: etcd, kube-apiserver (the witness), machines a and b, each in its own network")
    with Run() as run:
        async with Fabric(run) as fabric, ControlPlane(run, address=fabric.gateway) as control_plane:
            await control_plane.kubectl("create", "namespace", NAMESPACE)
            async with mirror(fabric, control_plane, NAMESPACE, run.folder / "mirror") as pair:
                timeline.say(
                    "demo", f"all of it is there; a's address is {pair.a.host.address}, b's {pair.b.host.address}"
                )
                await Story(run, pair, timeline).play()
            timeline.chapter("Taking it all down")
    timeline.say("demo", "nothing is left: no process, no mount, no network namespace, no file outside the cache")


def main() -> None:
    """Run, and end with 1 when the story fails."""
    argparse.ArgumentParser(prog="python -m testbed.mirror_demo", description=__doc__).parse_args()
    try:
        asyncio.run(play())
    except (AssertionError, CommandError, ControlPlaneError, TimeoutError) as error:
        sys.exit(f"demo: {error}")
    except asyncio.CancelledError:
        sys.exit("demo: interrupted")


if __name__ == "__main__":
    main()
