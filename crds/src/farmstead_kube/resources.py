"""The kinds that Farmstead reads and writes, and where the API server keeps them."""

from dataclasses import dataclass

from farmstead_api import GROUP, VERSION


@dataclass(frozen=True, slots=True)
class Resource:
    """A kind, its version and its place in the API."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        """What `apiVersion` says in its objects."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, *, namespace: str | None = None, name: str = "", subresource: str = "") -> str:
        """Path of a collection, an object or a part of it; all namespaces where none is given."""
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        inside = f"namespaces/{namespace}" if self.namespaced and namespace else ""
        return "/".join(filter(None, (root, inside, self.plural, name, subresource)))


FARM_CLUSTERS = Resource(GROUP, VERSION, "farmclusters", "FarmCluster")
MEMBERS = Resource(GROUP, VERSION, "members", "Member")
OPERATIONS = Resource(GROUP, VERSION, "operations", "Operation")
FARM_NODES = Resource(GROUP, VERSION, "farmnodes", "FarmNode", namespaced=False)
LEASES = Resource("coordination.k8s.io", "v1", "leases", "Lease")
EVENTS = Resource("events.k8s.io", "v1", "events", "Event")
CONFIG_MAPS = Resource("", "v1", "configmaps", "ConfigMap")
CUSTOM_RESOURCE_DEFINITIONS = Resource(
    "apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", namespaced=False
)
