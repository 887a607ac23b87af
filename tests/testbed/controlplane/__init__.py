"""The real control plane, for tests and the demo: etcd and kube-apiserver, built once, started in seconds."""

from testbed.controlplane.build import BuildError, programs
from testbed.controlplane.existing import ExistingCluster
from testbed.controlplane.kubectl import CommandError
from testbed.controlplane.server import ControlPlane, ControlPlaneError

__all__ = ["BuildError", "CommandError", "ControlPlane", "ControlPlaneError", "ExistingCluster", "programs"]
