"""Which machines belong to a cluster: by name or by selector, and allowed to.

    named, FarmNode there, allowed      -> wanted
    named, no such FarmNode             -> absent: a Member that is there stays as it is
    chosen, namespace not allowed       -> forbidden: a Member that is there leaves
    not chosen (any more)               -> leaves, one after the other
    selected before, FarmNode is gone   -> the person's word that the machine is gone: its Member goes without a stop

A selector that matches nothing at all takes no member away: that is what a lost label or a pruned folder looks like.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from farmstead_api import FarmNode
from farmstead_api.farmcluster import LabelSelector, Members, SelectorRequirement


@dataclass(frozen=True, slots=True, kw_only=True)
class Membership:
    """Machines by what the spec says of them; each in order of name."""

    wanted: tuple[FarmNode, ...]
    absent: tuple[str, ...]
    forbidden: tuple[str, ...]
    matches_nothing: bool
    """A selector without a single FarmNode, allowed or not."""


def membership(members: Members, nodes: Mapping[str, FarmNode], *, namespace: str) -> Membership:
    """Sort the machines."""
    chosen = _chosen(members, nodes)
    there = [nodes[name] for name in chosen if name in nodes]
    return Membership(
        wanted=tuple(node for node in there if node.allows(namespace)),
        absent=tuple(name for name in chosen if name not in nodes),
        forbidden=tuple(node.metadata.name for node in there if not node.allows(namespace)),
        matches_nothing=members.selector is not None and not chosen,
    )


def _chosen(members: Members, nodes: Mapping[str, FarmNode]) -> Iterable[str]:
    if members.selector is None:
        return sorted(members.names)
    selector = members.selector
    return sorted(name for name, node in nodes.items() if matches(selector, node.metadata.labels))


def matches(selector: LabelSelector, labels: Mapping[str, str]) -> bool:
    """Whether labels fit a selector; an empty one fits nothing."""
    if not selector.match_labels and not selector.match_expressions:
        return False
    equal = all(labels.get(key) == value for key, value in selector.match_labels.items())
    return equal and all(_fits(requirement, labels) for requirement in selector.match_expressions)


def _fits(requirement: SelectorRequirement, labels: Mapping[str, str]) -> bool:
    value = labels.get(requirement.key)
    match requirement.operator:
        case "In":
            return value in requirement.values
        case "NotIn":
            return value not in requirement.values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
    return False
