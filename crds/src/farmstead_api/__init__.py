"""Frozen views of farmstead.dev/v1alpha1, shared by operator and agent: parsing and names, no I/O.

The YAML in `crds/` is the single source of what the API server accepts; these classes are how the rest of the
code reads it. `tests/unit/api` holds the two together. A view is parsed once, at the edge, by `parse`; nobody
digs in dicts behind it. Defaults here equal the defaults in the YAML.
"""

from farmstead_api.conditions import Condition, ConditionStatus
from farmstead_api.farmcluster import FarmCluster
from farmstead_api.farmnode import FarmNode
from farmstead_api.member import Member
from farmstead_api.meta import ObjectMeta, ViewError, dump, parse
from farmstead_api.operation import Operation

GROUP = "farmstead.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"

__all__ = [
    "API_VERSION",
    "GROUP",
    "VERSION",
    "Condition",
    "ConditionStatus",
    "FarmCluster",
    "FarmNode",
    "Member",
    "ObjectMeta",
    "Operation",
    "ViewError",
    "dump",
    "parse",
]
