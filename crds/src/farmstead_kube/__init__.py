"""The one adapter to Kubernetes, shared by operator and agent; nothing else imports `kubernetes`.

Small on purpose: verbs on raw JSON, a watch that survives, one error tree, leases and events. What objects mean is
`farmstead_api`'s; what to do about an error is the caller's.
"""

from farmstead_kube.client import Client, Json, Listing, Selection, connect
from farmstead_kube.connection import Credentials
from farmstead_kube.errors import Conflict, KubeError, NotFound, Permanent, Transient
from farmstead_kube.events import EventKind, EventRecorder, Note, Regarding
from farmstead_kube.leases import micro_time, renew_lease
from farmstead_kube.resources import (
    CONFIG_MAPS,
    CUSTOM_RESOURCE_DEFINITIONS,
    EVENTS,
    FARM_CLUSTERS,
    FARM_NODES,
    LEASES,
    MEMBERS,
    OPERATIONS,
    Resource,
)
from farmstead_kube.watch import EventType, Watch, WatchEvent

__all__ = [
    "CONFIG_MAPS",
    "CUSTOM_RESOURCE_DEFINITIONS",
    "EVENTS",
    "FARM_CLUSTERS",
    "FARM_NODES",
    "LEASES",
    "MEMBERS",
    "OPERATIONS",
    "Client",
    "Conflict",
    "Credentials",
    "EventKind",
    "EventRecorder",
    "EventType",
    "Json",
    "KubeError",
    "Listing",
    "NotFound",
    "Note",
    "Permanent",
    "Regarding",
    "Resource",
    "Selection",
    "Transient",
    "Watch",
    "WatchEvent",
    "connect",
    "micro_time",
    "renew_lease",
]
