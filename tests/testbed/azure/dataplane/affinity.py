"""Which member a new flow goes to: a hash by rendezvous, so that few flows move when a member comes or goes.

Pure. Default hashes the 5-tuple, SourceIP the addresses, SourceIPProtocol the addresses and the protocol.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b


@dataclass(frozen=True, slots=True)
class Flow:
    """Who connects to what."""

    source: str
    source_port: int
    destination: str
    destination_port: int


def choose(flow: Flow, members: Sequence[str], mode: str) -> str | None:
    """The member for this flow; None where there is none."""
    if not members:
        return None
    if len(members) == 1:
        return members[0]
    text = _hashed(flow, mode)
    return max(members, key=lambda member: blake2b(f"{text}|{member}".encode(), digest_size=8).digest())


def _hashed(flow: Flow, mode: str) -> str:
    addresses = f"{flow.source}|{flow.destination}"
    if mode == "SourceIP":
        return addresses
    if mode == "SourceIPProtocol":
        return f"{addresses}|tcp"
    return f"{addresses}|tcp|{flow.source_port}|{flow.destination_port}"
