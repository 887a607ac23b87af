"""Machines and their network on one real machine: namespaces, a bridge, cables that can be cut."""

from testbed.machines.commands import MachineError, require_privileges
from testbed.machines.fabric import Fabric
from testbed.machines.host import Host
from testbed.machines.machine import Machine
from testbed.machines.namespace import Namespace

__all__ = ["Fabric", "Host", "Machine", "MachineError", "Namespace", "require_privileges"]
