"""Follows both daemons' logs while they run and tells what matters of them, as it comes."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from testbed.mirror import Mirror

LOOK_SECONDS = 0.02

ROLES = {
    "Wait": "WAIT: asks the peer and the witness",
    "Second": "SECOND: holds every acknowledged operation, ready to take over",
    "Prim": "PRIM: every operation is on both machines before it is answered",
    "Alone": "ALONE: the witness says that this copy alone counts",
    "Join": "JOIN: from now on answers need both",
    "Taking": "TAKING: the primary is silent and its lease is over",
    "Frozen": "FROZEN: serves nothing until the peer or the witness is heard",
    "Stop": "STOP",
}


class Chronicle:
    """Tells (source, text) for each line of a daemon's log that people would want to read."""

    def __init__(self, pair: Mirror, *, tell: Callable[[str, str], None]) -> None:
        self._pair = pair
        self._tell = tell

    async def run(self) -> None:
        """Follow until cancelled."""
        told = dict.fromkeys(self._pair.nodes, 0)
        last = dict.fromkeys(self._pair.nodes, "")
        while True:
            for name, node in self._pair.nodes.items():
                lines = node.log()
                for line in lines[told[name] :]:
                    text = words(line)
                    if text is not None and text != last[name]:
                        last[name] = text
                        self._tell(name, text)
                told[name] = len(lines)
            await asyncio.sleep(LOOK_SECONDS)


def words(line: Mapping[str, Any]) -> str | None:
    """A line of a daemon's log for people; None for what they would not miss."""
    match line["message"]:
        case "role":
            resync = ", makes the peer's copy equal" if line["resync"] == "true" else ""
            return f"{ROLES[line['role']]}{resync} (generation {line['generation']})"
        case "witness written":
            return f"witness: generation {line['generation']} is {line['result'].lower()}, {line['milliseconds']} ms"
        case "mounted":
            return "the directory is mounted"
        case "notice":
            return str(line["notice"])
    return None
