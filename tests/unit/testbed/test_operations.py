"""The model of operations says what a plain directory does: without that it could judge no mirror."""

import random
from pathlib import Path

from testbed.mirror_load.model import WEIGHTS, Model, choose
from testbed.mirror_load.operations import perform
from testbed.trees import differences, tree


def test_the_model_is_what_a_plain_directory_does(tmp_path: Path) -> None:
    rng, model, done = random.Random(1), Model(), set()  # noqa: S311 - no secret
    for _ in range(1500):
        operation = choose(model, rng)
        perform(tmp_path, operation)
        model.apply(operation)
        done.add(operation[0])
    assert done == set(WEIGHTS)
    found = {path: seen._replace(uid=0, gid=0) for path, seen in tree(tmp_path).items()}
    # As it goes to the next life of a program.
    assert not differences(Model.load(model.dump()).expected(), found)


def test_what_is_not_there_is_noticed(tmp_path: Path) -> None:
    model = Model()
    for operation in (["create", "f0", 0o644], ["write", "f0", 10, 20, 1], ["setxattr", "f0", "user.n0", "v"]):
        perform(tmp_path, operation)
        model.apply(operation)
    (tmp_path / "f0").write_bytes(b"")
    (line,) = differences(model.expected(), tree(tmp_path))
    assert line.startswith("f0: ")
