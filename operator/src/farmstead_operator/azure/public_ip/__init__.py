"""A public IP address: created where it does not exist, adopted where it does, deleted when it is ours and unused."""
