"""The adapter to Kubernetes that operator and agent share: the only importer of kubernetes."""
