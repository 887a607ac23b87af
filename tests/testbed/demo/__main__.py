"""`python -m testbed.demo [--keep] [--kubeconfig FILE]`: build the data centre, play the story, leave nothing."""

import argparse
import asyncio
import signal
import sys
from pathlib import Path

from testbed.controlplane import CommandError, ControlPlaneError
from testbed.datacentre import NAMESPACE, DataCentre
from testbed.demo.story import Story
from testbed.demo.timeline import Timeline
from testbed.run import Run


async def play(*, keep: bool, kubeconfig: Path | None) -> None:
    """Everything, from an empty machine to an empty machine."""
    timeline = Timeline()
    stopping = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    timeline.chapter("A data centre on this machine")
    cluster = f"the cluster of {kubeconfig}" if kubeconfig else "etcd, kube-apiserver"
    timeline.say("demo", f"starting: {cluster}, Azure (emulated), operator, three machines in three zones")
    with Run() as run:
        async with DataCentre(run, kubeconfig=kubeconfig) as centre:
            timeline.say("demo", f"all of it runs: API server {centre.cluster.url}, Azure {centre.azure.endpoint}")
            playing = asyncio.create_task(Story(centre, timeline).run(keep=keep))
            try:
                await _first(playing, stopping)
            except BaseException:
                for part, log in centre.logs().items():
                    print(f"\n── the end of {part}'s log\n{log}", file=sys.stderr)
                raise
            if keep and not stopping.is_set():
                _how_to_look_around(centre)
                await stopping.wait()
            timeline.chapter("Taking it all down")
    timeline.say("demo", "nothing is left: no process, no network namespace, no file outside the cache")


async def _first(playing: asyncio.Task[None], stopping: asyncio.Event) -> None:
    """Wait for the story's end, or for Ctrl-C."""
    stop = asyncio.create_task(stopping.wait())
    await asyncio.wait({playing, stop}, return_when=asyncio.FIRST_COMPLETED)
    stop.cancel()
    if not playing.done():
        playing.cancel()
    await asyncio.gather(playing, return_exceptions=stopping.is_set())


def _how_to_look_around(centre: DataCentre) -> None:
    kubectl = f"{centre.cluster.programs}/kubectl --kubeconfig={centre.cluster.admin_kubeconfig}"
    print(f"""
It goes on running until Ctrl-C. In another terminal:

  alias k='{kubectl} -n {NAMESPACE}'
  k get farmstead                      # clusters, members, operations
  k get farmnodes
  k describe farmcluster web
  k get members --watch
  k create -f manifests/samples/operation.yaml      # drain vm1
  curl -s {centre.azure.url}/emulator/backends -X POST -d '{{}}'      # what Azure sees of each backend
""")


def main() -> None:
    """Run, and end with 1 when the story fails."""
    parser = argparse.ArgumentParser(prog="python -m testbed.demo", description=__doc__)
    parser.add_argument("--keep", action="store_true", help="go on running afterwards, to look around")
    parser.add_argument("--kubeconfig", type=Path, help="use this cluster instead of an API server of our own")
    options = parser.parse_args()
    try:
        asyncio.run(play(keep=options.keep, kubeconfig=options.kubeconfig))
    except (AssertionError, CommandError, ControlPlaneError, TimeoutError) as error:
        sys.exit(f"demo: {error}")


if __name__ == "__main__":
    main()
