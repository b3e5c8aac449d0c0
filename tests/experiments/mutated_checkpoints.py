"""Restores a checkpoint after one change of its files after the other; a program, as it may crash.

Changes are first those of damage, then those crafted by who also writes down new checksums.
"""

import json
import random
import sys
from collections import Counter
from pathlib import Path

import jax
import numpy as np

from memorax.experiments.files.checksums import write_sums
from memorax.experiments.run.checkpoints import Checkpoints
from memorax.experiments.run.folder import RunFolder
from tests.experiments.mutations import mutate_bytes
from tests.experiments.states import make_state, save_all, values

FILE_CHANGES = "change", "change", "change", "empty", "delete", "swap", "add"


def change(path, files, draw):
    """Change a file and return what undoes that."""
    file, other = draw.sample(files, 2)
    contents = {path: path.read_bytes() for path in (file, other)}
    added = path / "default" / "d" / "added"
    match draw.choice(FILE_CHANGES):
        case "change":
            file.write_bytes(mutate_bytes(contents[file], draw))
        case "empty":
            file.write_bytes(b"")
        case "delete":
            file.unlink()
        case "swap":
            file.write_bytes(contents[other])
        case "add":
            added.write_bytes(draw.randbytes(16))

    def undo():
        added.unlink(missing_ok=True)
        for changed, content in contents.items():
            changed.write_bytes(content)

    return undo


def restore_all(folder, count, crafted):
    """Return how often restoring ended in which way."""
    folder = RunFolder(folder)
    save_all(folder, [1.0])
    like, expected = make_state(), values(make_state(1))
    path = folder.path / "checkpoints" / "gru" / "1"
    files = sorted(file for file in path.rglob("*") if file.is_file())
    outcomes = Counter()
    for case in range(count):
        undo = change(path, files, random.Random(case))
        if crafted:
            write_sums(path)
        try:
            checkpoints = Checkpoints(folder, "gru")
            restored = checkpoints.restore(like)
            checkpoints.close()
        except ValueError as error:
            damaged = str(error).startswith(f"checkpoint {path} is damaged (")
            outcomes["refused" if damaged else "does not fit"] += 1
        else:
            loaded = values(restored[1])
            assert jax.tree.structure(loaded) == jax.tree.structure(expected)
            same = jax.tree.map(np.array_equal, loaded, expected)
            outcomes["same" if all(jax.tree.leaves(same)) else "other"] += 1
        undo()
        if crafted:
            write_sums(path)
    return outcomes


def main(folder, count):
    kinds = {"damaged": False, "crafted": True}
    outcomes = {kind: restore_all(folder / kind, count, crafted) for kind, crafted in kinds.items()}
    print(json.dumps(outcomes))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
