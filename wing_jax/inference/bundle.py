"""Trained models on disk: `model.json` (readable) and `weights.npz` (plain arrays; nothing is unpickled)."""

import dataclasses
import io
import json
import os
from pathlib import Path
from typing import Any

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np

from wing_jax import pretrained
from wing_jax.errors import InputError
from wing_jax.runtime import files
from wing_jax.text import quoted, reason

FORMAT = 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class BundleLocation:
    """The location of a model that a user named."""

    folder: Path  # contains model.json
    pretrained_name: str = (
        ""  # the name of the pretrained model, which is never written to; empty: a folder of the user
    )
    shadows: str = ""  # the pretrained model of the same name, over which this folder takes precedence

    @property
    def outputs(self) -> Path:
        """The default folder for files derived from the model.

        It is the model's folder, or `runs/packaged/NAME` for a pretrained model.
        """
        return Path("runs/packaged") / self.pretrained_name if self.pretrained_name else self.folder


def find_bundle(path: str | Path) -> BundleLocation:
    """Find the model called `path`.

    Tried in this order: the folder `path`, its subfolder `model` (so that the folder of a training run works, too), the
    parent folder of a file `model.json`, the pretrained model of that name (`wing_jax.pretrained`).

    Raises:
      InputError: no model is found.
    """
    name = str(path) if str(path) in pretrained.models() else ""
    parents = (Path(path).parent,) if Path(path).name == "model.json" else ()
    for folder in (Path(path), Path(path) / "model", *parents):
        if (folder / "model.json").is_file():
            return BundleLocation(folder=folder, shadows=name)
    if name:
        return BundleLocation(folder=pretrained.FOLDER / name, pretrained_name=name)
    raise InputError(
        f"{path}: no model here (no model.json): pass the folder that `wing-jax train` printed, or the name of a "
        f"pretrained model ({', '.join(pretrained.models())})"
    )


def flatten(tree: Any) -> dict[str, Any]:
    """Return the arrays of any pytree by name: the keys, attributes and indices of the path to each, joined by "/".

    Raises:
      InputError: two arrays would have the same name.

    >>> flatten({"params": {"Dense_0": [1.0, 2.0]}})
    {'params/Dense_0/0': 1.0, 'params/Dense_0/1': 2.0}
    """
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    flat: dict[str, Any] = {}
    for path, leaf in leaves:
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        if name in flat:
            raise InputError(f"two arrays of the model are called {quoted(name)}: rename one, without a slash")
        flat[name] = leaf
    return flat


def write_bundle(path: str | Path, manifest: dict, arrays: Any, *, half: bool = False) -> Path:
    """Write `manifest` (JSON-serializable) and `arrays` (a pytree) into the folder `path`.

    Each file is written atomically. With `half`, float32 arrays are rounded to float16. Arrays whose numbers float16
    represents exactly are always stored as float16, so that a copy of a rounded model is as small as the model.

    Raises:
      InputError: a leaf of `arrays` is not an array of numbers.
    """
    path = Path(path)
    flat = {name: _to_numpy(name, value) for name, value in flatten(arrays).items()}
    path.mkdir(parents=True, exist_ok=True)
    unfinished = path / "weights.npz.tmp"
    with unfinished.open("wb") as file:
        stored = {name: _halve(array, rounded=half) for name, array in flat.items()}
        short = sum(array.nbytes for array in stored.values() if array.dtype == np.float16)
        save = np.savez_compressed if 2 * short > sum(array.nbytes for array in stored.values()) else np.savez
        save(file, allow_pickle=False, **stored)
    os.replace(unfinished, path / "weights.npz")
    unfinished = path / "model.json.tmp"
    unfinished.write_text(json.dumps({"format": FORMAT, **manifest}, indent=2) + "\n", encoding="utf-8")
    os.replace(unfinished, path / "model.json")
    return path


def read_bundle(path: str | Path) -> tuple[dict, dict]:
    """Read the bundle that `find_bundle` finds for `path`: (manifest, nested arrays).

    Arrays stored as float16 are returned as float32.

    Raises:
      InputError: there is no bundle, a file is corrupted, or the format is not supported.
    """
    path = find_bundle(path).folder
    root = Path(os.path.realpath(path))
    for name in ("model.json", "weights.npz"):
        files.reject_outside_link(path / name, root)
    try:
        manifest = json.loads(files.read_text(path / "model.json"))
    except OSError as error:
        raise InputError(f"{path / 'model.json'}: cannot be read ({reason(error)}): copy the bundle again") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path / 'model.json'}: not valid JSON ({reason(error)}): copy the bundle again") from error
    if not isinstance(manifest, dict) or manifest.pop("format", None) != FORMAT:
        raise InputError(
            f"{path / 'model.json'}: not in bundle format {FORMAT}: use the version of wing_jax that wrote it"
        )
    try:
        content = io.BytesIO(files.read_bytes(path / "weights.npz"))
        files.check_archive_size(content)
        with np.load(content, allow_pickle=False) as stored:
            flat = {name: stored[name] for name in stored.files}
            flat = {name: a.astype(np.float32) if a.dtype == np.float16 else a for name, a in flat.items()}
    except files.BROKEN_ARCHIVE as error:
        raise InputError(
            f"{path / 'weights.npz'}: corrupted or missing ({reason(error)}): copy the bundle again"
        ) from error
    return manifest, flax.traverse_util.unflatten_dict(flat, sep="/")


def _halve(array: np.ndarray, *, rounded: bool) -> np.ndarray:
    """Return a float32 array as float16, if that is exact or it may be `rounded`; other arrays unchanged."""
    if array.dtype != np.float32:
        return array
    with np.errstate(over="ignore"):
        short = array.astype(np.float16)
    return short if rounded or np.array_equal(short, array, equal_nan=True) else array


def _to_numpy(name: str, value: Any) -> np.ndarray:
    """Convert `value` to an array that `np.savez` stores without pickling; bfloat16 and the like become float32."""
    try:
        dtype = getattr(value, "dtype", None)
        if dtype is not None and jnp.issubdtype(dtype, jnp.floating) and dtype.kind != "f":
            return np.asarray(value, np.float32)
        array = np.asarray(value)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"{quoted(name)} of the model is {quoted(value)}, not an array that can be saved: make it a numeric "
            f"array, or remove it from the variables"
        ) from error
    if array.dtype.kind not in "biufc":
        raise InputError(
            f"{quoted(name)} of the model is an array of {array.dtype}, which cannot be saved: convert it to a "
            f"numeric dtype"
        )
    return array
