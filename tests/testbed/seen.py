"""What one name in a directory stands for, as a value: two copies of a tree are equal when these are."""

from typing import NamedTuple


class Seen(NamedTuple):
    """Not its times: a secondary may set them late. Not its link count: a mirror's own folder may hold more."""

    mode: int
    uid: int
    gid: int
    size: int
    """Of a file; 0 for all else."""
    content: str
    """Digest of a file, target of a symbolic link."""
    attributes: tuple[tuple[str, bytes], ...]
    """Extended attributes of users."""
    same_as: str
    """The smallest name, in order, of the same file."""
