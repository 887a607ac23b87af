"""`make demo-mirrorfs`: a directory on two machines, a program that writes to it with fsync, and nothing that it loses.

    python -m testbed.mirror_demo

Everything it shows is read from the daemons' logs, the witness record and the program's own ledger.
"""
