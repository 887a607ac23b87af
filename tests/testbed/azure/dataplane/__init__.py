"""The data plane of the emulated load balancers: probes their members and forwards TCP to the healthy ones.

What it does is worked out purely (`view`, `selection`, `affinity`); sockets are in `probing` and
`forwarding`; `plane` keeps both in step with the model. TCP rules alone: UDP and HA ports are accepted by ARM
and carry no traffic here.
"""

from testbed.azure.dataplane.plane import DataPlane, PlaneSettings

__all__ = ["DataPlane", "PlaneSettings"]
