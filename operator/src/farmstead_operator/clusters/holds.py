"""Which members a person holds, stopped or drained, against what the cluster wants.

The hold lives in the Member itself (`spec.override`), beside the desired state it was made against: a change of the
cluster's `desiredState` ends it. A Member that has vanished and is drawn again gets the hold that the cluster's own
status last showed: gone is not a reason to start what somebody has stopped.
"""

from farmstead_api import FarmCluster
from farmstead_api.member import HeldState, Override
from farmstead_operator.clusters.observed import Observed


def current_hold(observed: Observed, cluster: FarmCluster, node: str) -> Override | None:
    """The hold that is in force on a machine before this pass changes anything."""
    member = observed.members.get(node)
    if member is not None:
        same = member.spec.desired_state is cluster.spec.desired_state
        return member.spec.override if same else None
    shown = {entry.name: entry.held for entry in cluster.status.members}.get(node, "")
    unchanged = cluster.status.observed_generation == cluster.metadata.generation
    return Override(state=HeldState(shown)) if shown and unchanged else None
