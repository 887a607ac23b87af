"""Frozen views of farmstead.dev/v1alpha1, shared by operator and agent: parsing and names, no I/O."""
