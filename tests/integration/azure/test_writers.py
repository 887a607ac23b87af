"""The main job: create, change nothing, change, share, withdraw."""

from __future__ import annotations

from integration.azure.rig import Site


async def test_a_cluster_alone_is_one_put_and_soon(site: Site) -> None:
    share = site.share()
    await site.declare(share)
    await site.in_place(share)
    state = site.state(share)
    assert state.load_balancer_id == site.key().id
    assert state.frontend_address.startswith("10.0.0.")
    assert [entry.method for entry in site.puts()] == ["PUT"]
