"""`make demo`: a data centre on one machine, a farm on it, clients who must not notice what goes wrong.

    python -m testbed.demo [--keep]

Everything it shows is read from the API server, from Azure's emulator or from the clients; nothing is told from
memory. It is the same data centre that tests/e2e uses.
"""
