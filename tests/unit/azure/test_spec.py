"""The planner's truth table, and its property: what a plan makes, a second plan leaves alone."""

from __future__ import annotations

import copy
import random
from collections.abc import Collection, Sequence
from typing import Any

import pytest

from farmstead_api.common import Probe
from farmstead_api.farmcluster import Affinity, Frontend, Listener, Protocol
from farmstead_operator.azure.document import Json
from farmstead_operator.azure.errors import PermanentError
from farmstead_operator.azure.load_balancer.spec import MANAGED_BY_TAG, Plan, Wanted, plan
from farmstead_operator.azure.shares import BackendAddress, ClusterName, ClusterShare
from testbed.azure.defaults import normalise
from unit.azure.builders import INSTANCE, KEY, OURS, SUBNET, document, share

WEB = ClusterName("shop", "web")
FOREIGN_PROBE = {"name": "theirs", "id": f"{KEY.id}/probes/theirs", "properties": {"port": 22, "unknown": [1]}}
IP = KEY.public_ip_id("web-ip")


def decide(
    current: Json | None,
    *shares: ClusterShare,
    withdrawn: Collection[ClusterName] = (),
    keep: bool = False,
    public_ip_id: str | None = None,
) -> Plan:
    wanted = [Wanted(share=one, public_ip_id=public_ip_id) for one in shares]
    return plan(current, key=KEY, instance=INSTANCE, wanted=wanted, withdrawn=withdrawn, keep=keep)


def azure(body: Json | None, shuffle: random.Random | None = None) -> Json:
    """What Azure makes of a PUT: defaults, read-only fields, other case and order."""
    assert body is not None
    answer = document() | normalise("loadBalancers", body)
    answer["properties"]["provisioningState"] = "Succeeded"
    chance = shuffle or random.Random(0)  # noqa: S311 - no secret
    for items in answer["properties"].values():
        if isinstance(items, list):
            chance.shuffle(items)
            for item in items:
                item["etag"] = 'W/"2"'
                item["properties"]["provisioningState"] = "Succeeded"
    return answer


def of(body: Json | None, collection: str) -> dict[str, Json]:
    assert body is not None
    return {item["name"]: item["properties"] for item in body["properties"][collection]}


def with_share(*shares: ClusterShare, **changes: Any) -> Json:
    return azure(decide(None, *shares).body) | changes


#   current                       shares   withdrawn  keep    after
TABLE: dict[str, tuple[Json | None, Sequence[ClusterShare], Collection[ClusterName], bool, str]] = {
    "none, none":                 (None,                        [],        [WEB], False, "nothing"),
    "none, some":                 (None,                        [share()], [],    False, "put"),
    "holds the share":            (with_share(share()),         [share()], [],    False, "nothing"),
    "lacks the share":            (document(),                  [share()], [],    False, "put"),
    "ours alone, last one goes":  (with_share(share()),         [],        [WEB], False, "delete"),
    "ours, another one to come":  (with_share(share()),         [],        [WEB], True,  "put"),
    "ours and empty":             (document(tags=OURS),         [],        [WEB], False, "delete"),
    "ours with foreign items":    (document(tags=OURS, probes=[FOREIGN_PROBE]), [], [WEB], False, "nothing"),
    "foreign and empty":          (document(),                  [],        [WEB], False, "nothing"),
    "foreign, last one goes":     (with_share(share(), tags={}), [],       [WEB], False, "put"),
    "another operator's":         (with_share(share(), tags={MANAGED_BY_TAG: "other"}), [], [WEB], False, "put"),
}  # fmt: skip


@pytest.mark.parametrize("case", TABLE)
def test_truth_table(case: str) -> None:
    current, shares, withdrawn, keep, after = TABLE[case]
    before = copy.deepcopy(current)
    decided = decide(current, *shares, withdrawn=withdrawn, keep=keep)
    assert ("delete" if decided.delete else "put" if decided.body else "nothing") == after
    assert decided.nothing == (after == "nothing")
    assert current == before, "what was read is not changed"


def test_ours_is_tagged_from_the_start() -> None:
    body = decide(None, share()).body
    assert body is not None
    assert body["tags"] == OURS
    assert body["sku"] == {"name": "Standard", "tier": "Regional"}


def test_foreign_items_and_unknown_fields_stay() -> None:
    current = document(probes=[FOREIGN_PROBE]) | {"managedBy": "them"}
    current["properties"]["brandNew"] = {"x": 1}
    body = decide(current, share()).body
    assert body is not None
    assert body["managedBy"] == "them"
    assert body["properties"]["brandNew"] == {"x": 1}
    assert body["properties"]["probes"][0] == FOREIGN_PROBE
    assert body["etag"] == current["etag"]


def test_fields_of_ours_that_we_do_not_set_stay() -> None:
    current = with_share(share())
    current["properties"]["loadBalancingRules"][0]["properties"]["enableConnectionTracking"] = True
    assert decide(current, share()).nothing
    changed = decide(current, share(listeners=(Listener(name="http", port=81),))).body
    assert of(changed, "loadBalancingRules")["farmstead.shop.web.http"]["enableConnectionTracking"] is True


@pytest.mark.parametrize(
    ("collection", "field", "value", "told"),
    [
        ("probes", "requestPath", "/else", "requestPath: /else instead of /probe/shop/web"),
        ("probes", "requestPath", "/PROBE/shop/web", "instead of /probe/shop/web"),
        ("probes", "intervalInSeconds", 15, "intervalInSeconds: 15 instead of 5"),
        ("loadBalancingRules", "disableOutboundSnat", False, "disableOutboundSnat: False instead of True"),
        ("loadBalancingRules", "backendPort", 81, "backendPort: 81 instead of 80"),
        ("backendAddressPools", "loadBalancerBackendAddresses", [], "vm1 missing"),
        ("frontendIPConfigurations", "publicIPAddress", {"id": IP}, "instead of nothing"),
    ],
)
def test_drift_is_seen_and_told(collection: str, field: str, value: Any, told: str) -> None:
    current = with_share(share())
    current["properties"][collection][0]["properties"][field] = value
    decided = decide(current, share())
    assert told in "; ".join(decided.changes[WEB])
    assert decide(azure(decided.body), share()).nothing


def test_a_failed_load_balancer_is_written_again() -> None:
    current = with_share(share())
    current["properties"]["provisioningState"] = "Failed"
    assert decide(current, share()).body is not None


@pytest.mark.parametrize(
    ("current", "wanted", "reason"),
    [
        (document(sku="Basic"), share(), "LoadBalancerNotStandard"),
        (None, share(location=""), "LocationMissing"),
    ],
)
def test_what_can_not_be(current: Json | None, wanted: ClusterShare, reason: str) -> None:
    with pytest.raises(PermanentError) as refused:
        decide(current, wanted)
    assert refused.value.reason == reason


def test_clusters_with_one_public_address_share_its_frontend() -> None:
    web, api = share("web"), share("api", listeners=(Listener(name="http", port=81),))
    both = azure(decide(None, web, api, public_ip_id=IP).body)
    [frontend] = of(both, "frontendIPConfigurations")
    assert frontend.startswith("farmstead.shop.api.")
    assert decide(both, web, api, public_ip_id=IP).nothing
    left = azure(decide(both, web, withdrawn=[api.cluster], public_ip_id=IP).body)
    assert list(of(left, "frontendIPConfigurations")) == [frontend], "the other one's rules are on it"
    last = decide(left, withdrawn=[web.cluster], keep=True).body
    assert of(last, "frontendIPConfigurations") == {}


def test_a_foreign_frontend_is_used_and_left() -> None:
    theirs = {"name": "theirs", "properties": {"publicIPAddress": {"id": IP.upper()}}}
    current = document(frontendIPConfigurations=[theirs])
    with_ours = decide(current, share(), public_ip_id=IP)
    assert with_ours.frontends == {WEB: "theirs"}
    assert list(of(with_ours.body, "frontendIPConfigurations")) == ["theirs"]
    assert of(decide(azure(with_ours.body), withdrawn=[WEB]).body, "frontendIPConfigurations").keys() == {"theirs"}


def test_a_new_address_is_a_new_frontend() -> None:
    before = azure(decide(None, share(), public_ip_id=IP).body)
    after = decide(before, share(frontend=Frontend(subnet_id=SUBNET, private_ip_address="10.0.0.9"))).body
    [(name, properties)] = of(after, "frontendIPConfigurations").items()
    assert name not in of(before, "frontendIPConfigurations")
    assert "publicIPAddress" not in properties


def test_who_has_a_port_keeps_it() -> None:
    web, api = share("web"), share("api")
    current = azure(decide(None, web, public_ip_id=IP).body)
    decided = decide(current, web, api, public_ip_id=IP)
    assert decided.refused.keys() == {api.cluster}
    assert decided.refused[api.cluster].reason == "FrontendPortInUse"
    assert decided.nothing
    taken_over = decide(current, api, withdrawn=[web.cluster], public_ip_id=IP)
    assert taken_over.refused == {}


def test_two_may_change_places() -> None:
    def on(name: str, port: int) -> ClusterShare:
        return share(name, listeners=(Listener(name="http", port=port),))

    current = azure(decide(None, on("web", 80), on("api", 81), public_ip_id=IP).body)
    decided = decide(current, on("web", 81), on("api", 80), public_ip_id=IP)
    assert decided.refused == {}
    assert decide(azure(decided.body), on("web", 81), on("api", 80), public_ip_id=IP).nothing


def test_names_that_begin_alike_are_two_clusters() -> None:
    current = with_share(share("web"), share("web-2"))
    body = decide(current, share("web-2"), withdrawn=[WEB]).body
    assert list(of(body, "probes")) == ["farmstead.shop.web-2.probe"]


@pytest.mark.parametrize("seed", range(60))
def test_a_plan_carried_out_leaves_nothing_to_do(seed: int) -> None:
    """Whatever Azure does to order, defaults and read-only fields."""
    chance = random.Random(seed)  # noqa: S311 - no secret
    current: Json | None = None
    for _ in range(5):
        shares = [some_share(chance, name) for name in "abcd" if chance.random() < 0.7]
        withdrawn = [ClusterName("shop", name) for name in "abcd" if name not in {one.cluster.name for one in shares}]
        decided = decide(current, *shares, withdrawn=withdrawn)
        assert decided.refused == {}
        if decided.body is not None:
            current = azure(decided.body, chance)
        elif decided.delete:
            current = None
        assert decide(current, *shares, withdrawn=withdrawn).nothing
        owners = {name.split(".")[2] for name in of(current, "probes")} if current else set()
        assert owners == {one.cluster.name for one in shares}


def some_share(chance: random.Random, name: str) -> ClusterShare:
    static = f"10.0.0.{10 + ord(name)}" if chance.random() < 0.5 else None
    ports = chance.sample(range(1, 65536), chance.randrange(4))
    return share(
        name,
        frontend=Frontend(
            subnet_id=SUBNET, private_ip_address=static, zones=tuple(chance.sample("123", chance.randrange(3)))
        ),
        listeners=tuple(
            Listener(
                name=f"l{port}",
                port=port,
                protocol=chance.choice(list(Protocol)),
                affinity=chance.choice(list(Affinity)),
                idle_timeout_seconds=chance.choice([240, 600]),
            )
            for port in ports
        ),
        probe=Probe(
            port=9010 + chance.randrange(2), interval_seconds=chance.choice([5, 15]), threshold=chance.choice([1, 2])
        ),
        backends=tuple(BackendAddress(f"vm{one}", f"10.0.1.{one}") for one in chance.sample(range(4, 9), 3)),
    )
