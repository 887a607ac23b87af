"""The operator dies at any point of a call; the next one ends where the first would have."""

from __future__ import annotations

import random

import pytest

from farmstead_api.farmcluster import PendingOperation
from integration.azure.rig import Site


async def test_an_operation_is_resumed(site: Site) -> None:
    site.azure.set_delay(0.5)
    share = site.share()
    await site.declare(share)
    await site.until(lambda: site.state(share).pending_operation is not None, "the operation")
    pending = site.state(share).pending_operation
    assert pending is not None
    assert len(pending.token) < 2000, "the token holds no document"
    await site.restart()
    site.azure.log.clear()
    await site.writers.resume(site.key(), pending)
    await site.declare(share)
    await site.in_place(share)
    assert site.puts() == []
    assert site.azure.log.matching(path="/operations/")


async def test_a_deletion_is_resumed(site: Site) -> None:
    share = site.share()
    await site.declare(share)
    await site.in_place(share)
    site.azure.set_delay(0.5)
    await site.withdraw(share)
    await site.until(lambda: site.state(share).pending_operation is not None, "the operation")
    pending = site.state(share).pending_operation
    assert pending is not None
    await site.restart()
    site.azure.log.clear()
    await site.writers.resume(site.key(), pending)
    await site.withdraw(share)
    await site.gone(share)
    assert site.puts() == []


@pytest.mark.parametrize("token", ["", "nonsense", "bm9uc2Vuc2U=", "e30=", "eyJ2ZXJzaW9uIjogMX0="])
async def test_a_token_that_is_no_good_is_dropped(site: Site, token: str) -> None:
    share = site.share()
    await site.writers.resume(site.key(), PendingOperation(resource_id=site.key().id, token=token, started_at=""))
    await site.declare(share)
    await site.in_place(share)


async def test_a_lost_operation_is_waited_for(site: Site) -> None:
    """Killed before the token was in the status: reading says that Azure is at work, and nothing is written over it."""
    site.azure.set_delay(0.5)
    share = site.share()
    await site.declare(share)
    await site.until(lambda: site.state(share).pending_operation is not None, "the operation")
    await site.restart()
    site.azure.log.clear()
    await site.declare(share)
    await site.until(lambda: site.state(share).problem is not None, "a word")
    problem = site.state(share).problem
    assert problem is not None
    assert problem.reason == "OperationInProgress"
    await site.in_place(share)
    assert site.puts() == []


@pytest.mark.parametrize("seed", range(10))
async def test_killed_at_any_point_the_end_is_the_same(site: Site, seed: int) -> None:
    """The kill comes at the nth change of the state or request: with no time in it, each point can be hit."""
    chance = random.Random(seed)  # noqa: S311 - no secret
    site.azure.set_delay(0.02)
    shares = [site.public_share("web"), site.share("api"), site.public_share("db", "db-ip")]
    for _ in range(4):
        await site.declare(*shares)
        await site.asked(chance.randrange(1, 12), or_else=lambda: all(site.state(one).in_place for one in shares))
        pending = [site.state(one).pending_operation for one in shares]
        await site.restart()
        for one in pending:
            if one is not None and chance.random() < 0.5:
                await site.writers.resume(site.key(), one)
    await site.declare(*shares)
    await site.in_place(*shares)
    reached = site.azure.snapshot()
    await site.withdraw(*shares)
    await site.asked(chance.randrange(1, 12), or_else=lambda: all(site.state(one).gone for one in shares))
    await site.restart()
    await site.withdraw(*shares)
    await site.gone(*shares)
    assert site.model() is None
    assert site.public_ip_names() == []
    await site.declare(*shares)
    await site.in_place(*shares)
    assert without_addresses(site.azure.snapshot()) == without_addresses(reached)


def without_addresses(snapshot: object) -> object:
    """Azure gives addresses as it likes."""
    if isinstance(snapshot, dict):
        return {key: without_addresses(value) for key, value in snapshot.items() if key not in _GIVEN}
    return [without_addresses(one) for one in snapshot] if isinstance(snapshot, list) else snapshot


_GIVEN = frozenset({"ipAddress", "privateIPAddress"})
