"""What the operator counts, for Prometheus. One registry a process; members are counted when somebody asks."""

from collections import Counter as Tally
from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from farmstead_api import FarmCluster

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class _Members(Collector):
    """Members by state and readiness, from the clusters' statuses."""

    def __init__(self, clusters: Callable[[], Iterable[FarmCluster]]) -> None:
        self._clusters = clusters

    def collect(self) -> Iterable[Metric]:
        members = GaugeMetricFamily("farmstead_members", "Members by state.", labels=["state", "readiness"])
        conditions = GaugeMetricFamily(
            "farmstead_clusters", "Clusters by condition and its status.", labels=["condition", "status"]
        )
        states: Tally[tuple[str, str]] = Tally()
        statuses: Tally[tuple[str, str]] = Tally()
        for cluster in self._clusters():
            states.update((entry.state, entry.readiness) for entry in cluster.status.members)
            statuses.update((entry.type, entry.status.value) for entry in cluster.status.conditions)
        for labels, count in states.items():
            members.add_metric(labels, count)
        for labels, count in statuses.items():
            conditions.add_metric(labels, count)
        return [members, conditions]


class Metrics:
    """All metrics of one operator."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._passes = Counter(
            "farmstead_reconciles_total", "Passes over a cluster.", ["result"], registry=self.registry
        )
        self._seconds = Histogram(
            "farmstead_reconcile_seconds", "Duration of a pass.", buckets=BUCKETS, registry=self.registry
        )
        self._writes = Counter(
            "farmstead_writes_total", "Writes to the API server.", ["kind", "verb"], registry=self.registry
        )
        self._arm = Counter(
            "farmstead_azure_calls_total",
            "Answers of Azure Resource Manager by verb and code; code 0: no answer came.",
            ["method", "code"],
            registry=self.registry,
        )
        self._throttled = Counter(
            "farmstead_azure_throttled_total",
            "Answers 429 of Azure for the number of requests alone.",
            registry=self.registry,
        )
        self.leader = Gauge("farmstead_leader", "1 while this replica leads.", registry=self.registry)
        self._dead_watches = Counter(
            "farmstead_dead_watches_total", "Watches found not to show what is there.", ["kind"], registry=self.registry
        )

    def count_members(self, clusters: Callable[[], Iterable[FarmCluster]]) -> None:
        """Count members of these clusters at every scrape."""
        self.registry.register(_Members(clusters))

    def reconciled(self, *, result: str, seconds: float) -> None:
        """A pass has ended."""
        self._passes.labels(result).inc()
        self._seconds.observe(seconds)

    def wrote(self, *, kind: str, verb: str) -> None:
        """A write to the API server."""
        self._writes.labels(kind, verb).inc()

    def arm_call(self, *, method: str, status: int, throttled: bool) -> None:
        """An answer of Azure."""
        self._arm.labels(method, str(status)).inc()
        if throttled:
            self._throttled.inc()

    def dead_watch(self, kind: str) -> None:
        """A watch has been found dead."""
        self._dead_watches.labels(kind).inc()

    def text(self) -> bytes:
        """In Prometheus' text format."""
        return generate_latest(self.registry)
