"""The agent's side of the API server: it watches its Members and writes what it knows; members live without it."""
