"""`make bench-mirrorfs`: the same work in a plain directory, in a mirror and in GlusterFS, rounds interleaved.

All of them lie on one file system of one machine, both copies of each, and speak over loopback: it says what a mirror
costs here, and no more. `__main__` knows the directories, `works` what is done there; `memory` is a measurement of its
own.
"""
