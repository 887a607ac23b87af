"""Power cuts: two virtual machines hold a mirror, one or both lose their power, nothing acknowledged may be lost.

`python -m powercut` (`make power-cuts`) runs a campaign. Not part of `make test`: a cut takes about half a minute.
"""
