"""What the agent keeps on disk: small JSON documents that are whole or absent, whatever dies when.

A document is written to a temporary file beside it, synced, renamed over the old one, and the directory is
synced. It carries the version of its format, so that a later agent knows what it reads and an older one refuses
rather than guesses. Syncing waits for the disk, so writers use `write` (a thread) from the event loop.
"""

import asyncio
import contextlib
import json
import os
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from farmstead_agent.errors import PermanentError

FORMAT = 1
T = TypeVar("T")


def write_now(path: Path, content: bytes, *, mode: int = 0o600) -> None:
    """Replace `path` by `content` durably: after return it is there, before it the old one is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    try:
        os.fchmod(descriptor, mode)
        with open(descriptor, "wb", closefd=False) as file:
            file.write(content)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    temporary.rename(path)
    _sync_directory(path.parent)


def remove_now(path: Path) -> None:
    """Remove a document durably; it may be absent."""
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
        _sync_directory(path.parent)


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def encode(document: Any) -> bytes:
    """A document with the version of its format."""
    return msgspec.json.encode({"format": FORMAT, "document": document})


async def write(path: Path, document: Any) -> None:
    """Write a document durably without holding up the event loop."""
    await asyncio.to_thread(write_now, path, encode(document))


def read(path: Path, kind: type[T]) -> T | None:
    """Read a document; None where there is none.

    Raises PermanentError when it was written by a newer agent or can't be understood: what is not understood is
    not overwritten by guesses.
    """
    try:
        envelope = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise PermanentError(f"{path}: can't be read: {error}", reason="StateUnreadable") from error
    version = envelope.get("format") if isinstance(envelope, dict) else None
    if version != FORMAT:
        raise PermanentError(
            f"{path}: has format {version!r}, this agent knows {FORMAT}; install the agent that wrote it",
            reason="StateUnreadable",
        )
    try:
        return msgspec.convert(envelope["document"], kind)
    except (msgspec.ValidationError, KeyError) as error:
        raise PermanentError(f"{path}: {error}", reason="StateUnreadable") from error
