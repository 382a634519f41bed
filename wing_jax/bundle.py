"""A trained model on disk: `model.json` (readable) and `weights.npz` (plain arrays; nothing is unpickled)."""

import io
import json
import os
from pathlib import Path

import flax.traverse_util
import numpy as np

from wing_jax import files, zoo
from wing_jax.errors import InputError
from wing_jax.text import reason

FORMAT = 1


def write_bundle(path: str | Path, manifest: dict, arrays: dict, *, half: bool = False) -> Path:
    """Write `manifest` (JSON-able) and `arrays` (nested dicts of arrays) into folder `path`, whole or not at all; with
    `half`, float32 arrays as float16, compressed."""
    path = Path(path)
    path.mkdir(parents=True, exist_ok=True)
    flat = {name: np.asarray(value) for name, value in flax.traverse_util.flatten_dict(arrays, sep="/").items()}
    unfinished = path / "weights.npz.tmp"
    with unfinished.open("wb") as file:
        if half:
            small = {name: a.astype(np.float16) if a.dtype == np.float32 else a for name, a in flat.items()}
            np.savez_compressed(file, allow_pickle=False, **small)
        else:
            np.savez(file, allow_pickle=False, **flat)
    os.replace(unfinished, path / "weights.npz")
    unfinished = path / "model.json.tmp"
    unfinished.write_text(json.dumps({"format": FORMAT, **manifest}, indent=2) + "\n")
    os.replace(unfinished, path / "model.json")
    return path


def read_bundle(path: str | Path) -> tuple[dict, dict]:
    """(manifest, nested arrays) of the bundle in `path` or in `path/model`, or else of the model in the box that is
    called `path`. Arrays kept as float16 come as float32.

    Raises:
      InputError: there is none, a file is broken, or it is of a newer format.
    """
    places = [Path(path), Path(path) / "model"] + [zoo.FOLDER / name for name in zoo.models() if name == str(path)]
    path = next((place for place in places if (place / "model.json").is_file()), places[0])
    inside = Path(os.path.realpath(path))
    for name in ("model.json", "weights.npz"):
        files.refuse_way_out(path / name, inside)
    try:
        manifest = json.loads(files.read_text(path / "model.json"))
    except OSError as error:
        raise InputError(
            f"{path}: no model here (no model.json): give the folder that `wing-jax train` named, or the name of a "
            f"model in the box ({', '.join(zoo.models())})"
        ) from error
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
