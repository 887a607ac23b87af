"""A load balancer: its raw document, what clusters want in it, and the one task that writes it."""
