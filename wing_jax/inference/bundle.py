"""A trained model on disk: `model.json` (readable) and `weights.npz` (plain arrays; nothing is unpickled)."""

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
class Place:
    """Where the model lies that a user named."""

    folder: Path  # which holds its model.json
    packaged: str = ""  # its name, where it is a model of the package, which is never written to
    hides: str = ""  # the model of the package that has the same name as this folder, and is not the one meant

    @property
    def outputs(self) -> Path:
        """The folder for what is made of the model where no other is asked for: its own, or, for a model of the
        package, `runs/packaged/NAME`."""
        return Path("runs/packaged") / self.packaged if self.packaged else self.folder


def find_bundle(path: str | Path) -> Place:
    """The place of the model called `path`: that folder, its subfolder `model` (so that a run's folder serves as well),
    the folder of that `model.json`, or else the model of the package (`wing_jax.pretrained`) of that name.

    Raises:
      InputError: there is none.
    """
    name = str(path) if str(path) in pretrained.models() else ""
    beside = (Path(path).parent,) if Path(path).name == "model.json" else ()
    for folder in (Path(path), Path(path) / "model", *beside):
        if (folder / "model.json").is_file():
            return Place(folder=folder, hides=name)
    if name:
        return Place(folder=pretrained.FOLDER / name, packaged=name)
    raise InputError(
        f"{path}: no model here (no model.json): give the folder that `wing-jax train` named, or the name of a "
        f"model in the box ({', '.join(pretrained.models())})"
    )


def flatten(tree: Any) -> dict[str, Any]:
    """The arrays of any pytree by name: the keys, attributes and positions on the way to each, with "/" between.

    Raises:
      InputError: two would have one name.

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
    """Write `manifest` (JSON-able) and `arrays` (a pytree) into folder `path`, whole or not at all; with `half`,
    float32 arrays as float16, compressed.

    Raises:
      InputError: a leaf of `arrays` is no array of numbers.
    """
    path = Path(path)
    flat = {name: _storable(name, value) for name, value in flatten(arrays).items()}
    path.mkdir(parents=True, exist_ok=True)
    unfinished = path / "weights.npz.tmp"
    with unfinished.open("wb") as file:
        if half:
            small = {name: a.astype(np.float16) if a.dtype == np.float32 else a for name, a in flat.items()}
            np.savez_compressed(file, allow_pickle=False, **small)
        else:
            np.savez(file, allow_pickle=False, **flat)
    os.replace(unfinished, path / "weights.npz")
    unfinished = path / "model.json.tmp"
    unfinished.write_text(json.dumps({"format": FORMAT, **manifest}, indent=2) + "\n", encoding="utf-8")
    os.replace(unfinished, path / "model.json")
    return path


def read_bundle(path: str | Path) -> tuple[dict, dict]:
    """(manifest, nested arrays) of the bundle at the place of `path` (`find_bundle`). Arrays kept as float16 come as
    float32.

    Raises:
      InputError: there is none, a file is broken, or it is of a newer format.
    """
    path = find_bundle(path).folder
    inside = Path(os.path.realpath(path))
    for name in ("model.json", "weights.npz"):
        files.refuse_way_out(path / name, inside)
    try:
        manifest = json.loads(files.read_text(path / "model.json"))
    except OSError as error:
        raise InputError(f"{path / 'model.json'}: cannot be read ({reason(error)}): copy the bundle again") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path / 'model.json'}: not valid JSON ({reason(error)}): copy the bundle again") from error
    if not isinstance(manifest, dict) or manifest.pop("format", None) != FORMAT:
        raise InputError(f"{path / 'model.json'}: not of bundle format {FORMAT}: use the wing_jax that wrote it")
    try:
        content = io.BytesIO(files.read_bytes(path / "weights.npz"))
        files.refuse_bomb(content)
        with np.load(content, allow_pickle=False) as stored:
            flat = {name: stored[name] for name in stored.files}
            flat = {name: a.astype(np.float32) if a.dtype == np.float16 else a for name, a in flat.items()}
    except files.BROKEN_ARCHIVE as error:
        raise InputError(
            f"{path / 'weights.npz'}: broken or missing ({reason(error)}): copy the bundle again"
        ) from error
    return manifest, flax.traverse_util.unflatten_dict(flat, sep="/")


def _storable(name: str, value: Any) -> np.ndarray:
    """`value` as `np.savez` keeps it without pickling: bfloat16 and its like, which it does not know, as float32."""
    try:
        dtype = getattr(value, "dtype", None)
        if dtype is not None and jnp.issubdtype(dtype, jnp.floating) and dtype.kind != "f":
            return np.asarray(value, np.float32)
        array = np.asarray(value)
    except (TypeError, ValueError) as error:
        raise InputError(f"{quoted(name)} of the model is {quoted(value)}, no array that can be kept") from error
    if array.dtype.kind not in "biufc":
        raise InputError(f"{quoted(name)} of the model is an array of {array.dtype}, which cannot be kept")
    return array
