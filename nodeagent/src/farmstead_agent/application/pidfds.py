"""Wait for the end of processes that are not children of this one, without polling and without mistaking them.

A pidfd names a process for good: when the number is used again, the descriptor still means the old one.
"""

import asyncio
import os
from collections.abc import Iterable


def opened(pids: Iterable[int]) -> dict[int, int]:
    """A pidfd for each process that still lives: {descriptor: pid}."""
    found = {}
    for pid in pids:
        try:
            found[os.pidfd_open(pid)] = pid
        except ProcessLookupError:
            continue
    return found


async def ended(descriptors: Iterable[int], *, within: float | None = None) -> bool:
    """Wait until any of these processes has ended, at most `within` seconds; whether one has."""
    loop = asyncio.get_running_loop()
    done = asyncio.Event()
    waiting = list(descriptors)
    for descriptor in waiting:
        loop.add_reader(descriptor, done.set)
    try:
        async with asyncio.timeout(within):
            await done.wait()
    except TimeoutError:
        return False
    else:
        return True
    finally:
        for descriptor in waiting:
            loop.remove_reader(descriptor)


def close(descriptors: Iterable[int]) -> None:
    """Close pidfds."""
    for descriptor in descriptors:
        os.close(descriptor)
