"""Several `operations` programs in one directory, each in a folder of its own, and the judgement of what they did.

A program has at most one operation under way. Whatever was acknowledged must be there, and of the one operation whose
answer never came what `outcomes` says or nothing: so a folder may look one of a few ways, and no other.
"""

import asyncio
import json
import sys
from collections import Counter
from pathlib import Path

from testbed.child import Child
from testbed.mirror_load.model import Model, Operation, outcomes
from testbed.run import REMOVAL_SECONDS
from testbed.trees import differences, tree


class Worker:
    """One program, and what its folder must look like."""

    def __init__(self, name: str, folder: Path, seed: int) -> None:
        self.name = name
        self.acknowledged: Counter[str] = Counter()
        self._folder = folder
        self._seed = seed
        self._lives = 0
        self._model = Model()
        self._open: Operation | None = None
        self._child: Child | None = None

    @property
    def ledger(self) -> Path:
        """The ledger of its present life."""
        return self._folder / f"{self.name}-{self._lives}.ledger"

    def start(self, directory: Path) -> None:
        """Go on in this directory, from what is known to be there."""
        assert self._open is None, "look at what became of the last operation first"
        self._lives += 1
        self.ledger.write_text(json.dumps(self._model.dump()) + "\n")
        words = [str(directory / self.name), str(self.ledger), str(self._seed + self._lives)]
        program = [sys.executable, "-m", "testbed.mirror_load.operations", *words]
        self._child = Child(program, log=self._folder / f"{self.name}.log")

    async def stop(self) -> bool:
        """End it after the operation in hand; gives whether every call was answered with success."""
        assert self._child is not None
        await self._child.stop(grace_seconds=REMOVAL_SECONDS)
        status = await self._child.wait()
        self._read()
        assert status in (0, 1), f"{self.name} ended with {status}:\n{self._child.tail()}"
        return status == 0

    @property
    def at_work(self) -> bool:
        """Whether it has had an answer since its start, or has ended."""
        return self._child is None or not self._child.running or "\n+\n" in self.ledger.read_text()

    def _read(self) -> None:
        lines = self.ledger.read_text().splitlines()[1:]
        self._open = None
        for line in lines:
            if line == "+":
                assert self._open is not None
                self._model.apply(self._open)
                self.acknowledged[self._open[0]] += 1
                self._open = None
            elif not line.startswith("!"):
                self._open = json.loads(line)
        self.ledger.unlink()

    def check(self, directory: Path) -> None:
        """Its folder in this copy is as it must be. Decides for good what became of the operation without an answer."""
        found = tree(directory / self.name)
        before = differences(self._model.expected(), found)
        for outcome in outcomes(self._model, self._open) if before and self._open is not None else []:
            after = Model.load(self._model.dump())
            after.apply(outcome)
            if not differences(after.expected(), found):
                self._model, before = after, []
                break
        if before:
            bytes_ = [self._how(path, directory) for path in found if path in self._model.names]
            told = "\n".join([*before, *filter(None, bytes_)])
            where = f"{directory / self.name}, with {self._open} under way"
            raise AssertionError(f"not as acknowledged (expected, found) in {where}:\n{told}")
        self._open = None

    def _how(self, path: str, directory: Path) -> str:
        """Which bytes of a file are not as they must be, for people."""
        inode = self._model[path]
        if not inode.is_file:
            return ""
        found = (directory / self.name / path).read_bytes()
        wrong = [at for at, (one, other) in enumerate(zip(inode.data, found, strict=False)) if one != other]
        return f"{path}: {len(wrong)} bytes differ, from {wrong[0]} to {wrong[-1]}" if wrong else ""

    @property
    def objects(self) -> int:
        """How many files, folders and links there are."""
        return len(self._model.inodes)

    @property
    def size(self) -> int:
        """Bytes in all its files."""
        return sum(len(inode.data) for inode in self._model.inodes.values())


class Crowd:
    """All of them."""

    def __init__(self, folder: Path, *, workers: int = 3, seed: int = 0) -> None:
        folder.mkdir(exist_ok=True)
        self.workers = [Worker(f"w{number}", folder, seed + 1_000_000 * number) for number in range(workers)]

    def make_folders(self, directory: Path) -> None:
        """Once, in the mounted directory."""
        for worker in self.workers:
            (directory / worker.name).mkdir()

    def start(self, directory: Path) -> None:
        """All go on in this directory."""
        for worker in self.workers:
            worker.start(directory)

    async def at_work(self) -> None:
        """Wait until each has had an answer since its start, or has met an error."""
        while not all(worker.at_work for worker in self.workers):
            await asyncio.sleep(0.01)

    async def stop(self) -> bool:
        """End all; gives whether none met an error."""
        return all(await asyncio.gather(*(worker.stop() for worker in self.workers)))

    def check(self, *copies: Path) -> None:
        """Every worker's folder in every copy; the first copy decides about operations without an answer."""
        for copy in copies:
            for worker in self.workers:
                worker.check(copy)

    @property
    def acknowledged(self) -> Counter[str]:
        """Operations by kind."""
        return sum((worker.acknowledged for worker in self.workers), Counter())

    def objects(self) -> int:
        """Files, folders and links of all."""
        return sum(worker.objects for worker in self.workers)

    def size(self) -> int:
        """Bytes in the files of all."""
        return sum(worker.size for worker in self.workers)
