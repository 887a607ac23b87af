"""Clients of an application: a steady HTTP load without retries, and an honest account of what became of it.

Two kinds of clients, as they are in the world: those that open a connection for each request, and those that keep
one and send on it until told to close. Not a benchmark: the pace is set, what counts is which requests fail, when,
and how long nobody was served.
"""
