"""A whole data centre on one machine: API server, Azure, operator, machines with agents. For the demo and tests/e2e."""

from testbed.datacentre.datacentre import NAMESPACE, DataCentre, Plan

__all__ = ["NAMESPACE", "DataCentre", "Plan"]
