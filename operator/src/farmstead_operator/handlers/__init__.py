"""kopf's entry points: the only importer of kopf; each wakes a loop and decides nothing."""
