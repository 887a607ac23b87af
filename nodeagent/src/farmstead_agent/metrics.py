"""The agent's Prometheus metrics: one registry, made once, handed to whoever counts something."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SCRIPT_BUCKETS = (0.1, 0.3, 1, 3, 10, 30, 100, 300)


class Metrics:
    """All counters and gauges."""

    def __init__(self) -> None:
        registry = CollectorRegistry()
        self.registry = registry
        self.members = Gauge(
            "farmstead_agent_member_state",
            "1 for the state and readiness that a member has",
            ["member", "state", "readiness"],
            registry=registry,
        )
        self.checks = Counter(
            "farmstead_agent_checks", "Checks asked, by result", ["member", "check", "result"], registry=registry
        )
        self.actions = Counter(
            "farmstead_agent_actions", "Acts begun, by what was done", ["member", "action"], registry=registry
        )
        self.scripts = Histogram(
            "farmstead_agent_script_seconds",
            "Duration of scripts",
            ["member", "script"],
            buckets=SCRIPT_BUCKETS,
            registry=registry,
        )
        self.probes = Counter(
            "farmstead_agent_probe_answers", "Answers to load balancers' probes", ["status"], registry=registry
        )
        self.watching = Gauge(
            "farmstead_agent_watch_healthy", "1 while the API server keeps Members up to date", registry=registry
        )
        self.gone = Gauge(
            "farmstead_agent_members_unconfirmed",
            "Members that run though the API does not hold them as applied",
            registry=registry,
        )
        self.writes = Counter(
            "farmstead_agent_api_writes", "Writes to the API server, by result", ["what", "result"], registry=registry
        )

    def text(self) -> bytes:
        """All of it in Prometheus' text format."""
        return generate_latest(self.registry)
