"""The endpoint that load balancers ask: answers from memory, at once."""
