"""kopf's part, and the only importer of kopf: FarmClusters as people write them, and their finalizer.

Handlers store what they saw and wake a loop; none decides or waits. The one exception in kind is the deletion: its
handler asks whether the loop is done, and has itself called again until it is, however long that takes.
"""

from farmstead_operator.handlers.run import Seen, run_kopf

__all__ = ["Seen", "run_kopf"]
