"""What the probe answers, by path: a table in memory that members change the moment their readiness does."""

from http import HTTPStatus

from farmstead_agent.member.facts import Look
from farmstead_agent.metrics import Metrics
from farmstead_agent.probe.responder import Answer
from farmstead_api.names import probe_path

UNKNOWN = Answer(status=HTTPStatus.SERVICE_UNAVAILABLE, body=b"NoSuchMember: nothing of this name runs here\n")


class Answers:
    """The table."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._answers: dict[str, Answer] = {}

    def show(self, namespace: str, cluster: str, look: Look) -> None:
        """Answer for this member from now on as it looks."""
        status = HTTPStatus.OK if look.serving else HTTPStatus.SERVICE_UNAVAILABLE
        body = f"{look.state}/{look.readiness} {look.reason}: {look.message}\n".encode()
        self._answers[probe_path(namespace, cluster)] = Answer(status=status, body=body)

    def forget(self, namespace: str, cluster: str) -> None:
        """The member is no more."""
        self._answers.pop(probe_path(namespace, cluster), None)

    def answer(self, path: str) -> Answer:
        """The answer for a path; 503 for what is not known, since nothing serves there."""
        found = self._answers.get(path, UNKNOWN)
        self._metrics.probes.labels(str(found.status.value)).inc()
        return found
