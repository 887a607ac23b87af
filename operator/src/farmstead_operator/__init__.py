"""The operator: what the set of machines, members and load balancers should be."""
