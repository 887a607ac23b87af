"""The node agent: what one machine does about the members that run on it."""
