"""Import the helpers of benchmarks/ for the scripts in this folder, and keep their results in files."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))

import numpy as np
from comparison import RIVALS as RIVALS
from comparison import absence as absence
from comparison import command as command
from comparison import environment as environment
from comparison import say as say
from report import arguments as arguments
from report import publish as publish
from report import table as table

from wing_jax.evaluation.comparison import bootstrap_interval
from wing_jax.report.origin import commit, machine


class Results:
    """A file of results by change and seed, each with its command, commit and machine."""

    def __init__(self, path: Path, command: str):
        self._path, self._command = path, command
        self._results = self._read()

    def _read(self) -> dict:
        return json.loads(self._path.read_text()) if self._path.exists() else {}

    def __contains__(self, key: tuple[str, int]) -> bool:
        return str(key[1]) in self._results.get(key[0], {})

    def __getitem__(self, key: tuple[str, int]) -> float:
        return self._results[key[0]][str(key[1])]["nme"]

    def __setitem__(self, key: tuple[str, int], nme: float) -> None:
        origin = {"command": self._command, "commit": commit(), "machine": machine()}
        self._results = self._read()  # another process may have added results
        self._results.setdefault(key[0], {})[str(key[1])] = {"nme": round(nme, 4), **origin}
        self._path.write_text(json.dumps(self._results, indent=1) + "\n")

    def of_faces(self, key: tuple[str, int]) -> Path:
        """Return the path of the results of each face, for paired comparisons."""
        return self._path.with_name(f"{self._path.stem}-{key[0]}-{key[1]}.npy")


def paired_difference(nmes: Sequence[np.ndarray], others: Sequence[np.ndarray], photos: Sequence[str]) -> str:
    """Return the mean difference face by face, as far as both have seeds, and its 95 % interval."""
    pairs = zip(nmes, others, strict=False)
    each = np.mean([values - compared for values, compared in pairs], axis=0)
    low, high = bootstrap_interval(each, np.asarray(photos), seed=0)
    return f"{each.mean():+.3f} ({low:+.3f} to {high:+.3f})"
