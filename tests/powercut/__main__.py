"""A campaign of power cuts: `python -m powercut --rounds 30`, as root.

Prints a line a round and the sums; exit status 1 where anything acknowledged was missing, the copies differed, or a
daemon came back without its state.
"""

import argparse
import asyncio
import os
import random
import statistics
import sys

from powercut.cuts import Cut, Outcome, Rounds
from powercut.pair import Pair, machine_pair
from testbed.controlplane import ControlPlane
from testbed.machines import Fabric
from testbed.run import Run
from testbed.vm import guest_image

CRASH_HOLD_SECONDS = 10.0
"""Short: the machines that a test leaves off would be waited for."""


async def main(options: argparse.Namespace) -> int:
    """Half of the rounds with each acknowledgement class."""
    image = guest_image()
    print(f"guests: kernel {image.release}; {os.cpu_count()} cores here; seed {options.seed}", flush=True)
    outcomes: list[Outcome] = []
    with Run() as run:
        async with Fabric(run) as fabric, ControlPlane(run, address=fabric.gateway) as control_plane:
            for number, acknowledgement in enumerate(options.acknowledgement):
                rounds = len(range(number, options.rounds, len(options.acknowledgement)))
                async with machine_pair(
                    fabric=fabric,
                    control_plane=control_plane,
                    run=run,
                    image=image,
                    folder=run.folder / acknowledgement.lower(),
                    acknowledgement=acknowledgement,
                    leaseSeconds=options.lease,
                    stallSeconds=max(10.0, options.lease),
                    crashHoldSeconds=CRASH_HOLD_SECONDS,
                ) as pair:
                    try:
                        outcomes += await campaign(pair, acknowledgement, rounds, options)
                    except BaseException:
                        tell(pair)
                        raise
    return report(outcomes)


async def campaign(pair: Pair, acknowledgement: str, count: int, options: argparse.Namespace) -> list[Outcome]:
    """Rounds on one pair: each kind as often as the others, in random order."""
    choose = random.Random(f"{options.seed} {acknowledgement}")  # noqa: S311 - to be had again
    rounds = Rounds(pair, acknowledgement=acknowledgement, lease=options.lease, choose=choose)
    kinds = [options.kinds[number % len(options.kinds)] for number in range(count)]
    choose.shuffle(kinds)
    outcomes = []
    for number, kind in enumerate(kinds, 1):
        outcome = await rounds.one(kind)
        took = ", ".join(f"{what} {seconds:.1f} s" for what, seconds in outcome.seconds.items())
        did = f"{outcome.returned} returned, {outcome.syncs} syncs"
        verdict = "BROKEN" if outcome.broken else "ok"
        print(f"{acknowledgement} {number}/{count} {kind.value}: {did}; {took}; {verdict}", flush=True)
        for sentence in outcome.broken:
            print(f"  {sentence}", flush=True)
        if outcome.broken:
            tell(pair)
        outcomes.append(outcome)
    different = await rounds.equal_times()
    if different and outcomes:
        outcomes[-1].broken += different
        print("\n".join(["BROKEN: times stay different", *different]), flush=True)
    return outcomes


def tell(pair: Pair) -> None:
    """The machines' last words."""
    for member in pair.members:
        print(f"── {member.name}: {member.status}")
        for line in member.log[-40:]:
            print(f"   {line}")


def report(outcomes: list[Outcome]) -> int:
    """The sums; 1 where anything was broken."""
    for cut in Cut:
        mine = [outcome for outcome in outcomes if outcome.cut is cut]
        for what in dict.fromkeys(key for outcome in mine for key in outcome.seconds):
            seconds = sorted(outcome.seconds[what] for outcome in mine)
            print(
                f"{cut.value}: {what} after {statistics.median(seconds):.1f} s ({seconds[0]:.1f} to {seconds[-1]:.1f})"
            )
    returned, syncs = sum(outcome.returned for outcome in outcomes), sum(outcome.syncs for outcome in outcomes)
    broken = sum(1 for outcome in outcomes if outcome.broken)
    cuts = sum(outcome.power_cuts for outcome in outcomes)
    print(
        f"{len(outcomes)} rounds, {cuts} power cuts; {returned} operations and {syncs} syncs had returned before them"
    )
    print(f"{broken} rounds broken")
    return 1 if broken else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m powercut", description=__doc__)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument("--lease", type=float, default=3.0, help="leaseSeconds of the daemons")
    parser.add_argument(
        "--kinds", nargs="+", type=lambda name: Cut[name], default=list(Cut), help=", ".join(cut.name for cut in Cut)
    )
    parser.add_argument("--acknowledgement", nargs="+", default=["Memory", "Disk"], choices=["Memory", "Disk"])
    sys.exit(asyncio.run(main(parser.parse_args())))
