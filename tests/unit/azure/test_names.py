"""Names: within Azure's limit, and never another cluster's."""

from __future__ import annotations

import itertools

import pytest

from farmstead_operator.azure.names import frontend_item, item_name, item_prefix, prefix_of
from farmstead_operator.azure.shares import LoadBalancerKey

LONG = "n" * 63


@pytest.mark.parametrize("cluster", ["web", "c" * 30, "c" * 50])
@pytest.mark.parametrize("namespace", ["shop", LONG])
@pytest.mark.parametrize("item", ["pool", frontend_item("/sub/x"), "l" * 15, "l" * 63])
def test_item_names_fit(namespace: str, cluster: str, item: str) -> None:
    prefix = item_prefix(namespace, cluster)
    name = item_name(prefix, item)
    assert len(name) <= 80
    assert name.startswith(prefix)
    assert prefix_of(name.upper()) == prefix
    assert name[-1].isalnum()


def test_no_prefix_starts_another() -> None:
    names = ["web", "web-1", "a", "b" * 40, "b" * 41, "c" * 63, LONG]
    prefixes = [item_prefix(namespace, cluster) for namespace, cluster in itertools.product(names, names)]
    for one, other in itertools.permutations(prefixes, 2):
        assert not one.startswith(other)


@pytest.mark.parametrize(
    "name", ["", "theirs", "farmstead", "farmstead.", "farmstead.shop.web", "kubernetes.a.b.c", "x.farmstead.a.b.c"]
)
def test_what_is_nobody_s(name: str) -> None:
    assert prefix_of(name) == ""


def test_long_items_are_told_apart() -> None:
    prefix = item_prefix("shop", "web")
    assert item_name(prefix, "x" * 90 + "1") != item_name(prefix, "x" * 90 + "2")


def test_a_key_comes_back_from_its_id() -> None:
    key = LoadBalancerKey("sub", "group", "lb")
    assert LoadBalancerKey.parse(key.id) == key
    assert LoadBalancerKey.parse(key.id.upper()).identity == key.identity


@pytest.mark.parametrize("text", ["", "/subscriptions/x", "/subscriptions/a/resourceGroups/b/providers/M/vms/c"])
def test_what_is_no_id(text: str) -> None:
    with pytest.raises(ValueError, match="not the id"):
        LoadBalancerKey.parse(text)
