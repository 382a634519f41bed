"""Each stage's network as a file, checked against JAX, and the numbers that lie between the stages."""

import dataclasses
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import UInt8

from wing_jax import geometry
from wing_jax.augment.warp import warp
from wing_jax.data.face_crops import MARGIN, crop_faces, resize_face_crops
from wing_jax.data.face_set import FaceSet
from wing_jax.errors import InputError
from wing_jax.export.formats import EXPORTS, Format, Network
from wing_jax.inference.localizer import Localizer, Stage
from wing_jax.models import cpu_kernel

TOLERANCE = 0.05  # pixels of the crop
LARGEST_CHECK = 32  # crops


@dataclasses.dataclass(frozen=True, kw_only=True)
class Exported:
    """One stage's file, and how far its points lie from JAX's at most, in pixels of the crop."""

    path: Path
    difference: float


def export(
    localizer: Localizer, kind: str | Format, folder: str | Path, crops: Sequence[UInt8[np.ndarray, "_ _ _ 3"]]
) -> list[Exported]:
    """Write each stage of `localizer` into `folder` in the format `kind` (a name of `EXPORTS`, or a `Format`), and
    `model.json` with what lies between the stages. `crops` holds for each stage crops to check it on: `crops_of` makes
    them.

    Networks take uint8 RGB crops `[batch, size, size, 3]`, called "crops", to float32 `[batch, points, 2]`, called
    "points": (x, y) in pixels of the crop, 0-based pixel centers. The mirror average is not exported.

    Raises:
      InputError: the format is unknown or its library is missing, an operation of the network is unknown to it, the
        folder cannot be written, or what was written answers otherwise than JAX by more than `TOLERANCE`.
    """
    form, folder = kind if isinstance(kind, Format) else EXPORTS[kind], Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: cannot write here ({error.strerror}): choose another --output") from error
    done = []
    for number, (stage, shown) in enumerate(zip(localizer.stages, crops, strict=True), 1):
        path, network = folder / f"stage{number}{form.ending}", _network(stage)
        if path.is_dir():
            shutil.rmtree(path)
        with cpu_kernel.switched("off"):
            form.write(network, stage.input_size, path)
            expected = np.asarray(jax.jit(network)(shown))
        done.append(Exported(path=path, difference=_difference(form.load(path)(shown), expected, path, form.runtime)))
    said = json.dumps(facts(localizer, [e.path.name for e in done]), indent=1)
    (folder / "model.json").write_text(said + "\n", encoding="utf-8")
    return done


def halve(localizer: Localizer, folder: str | Path, crops: Sequence[UInt8[np.ndarray, "_ _ _ 3"]]) -> list[Exported]:
    """Write `localizer` into `folder` as a bundle of this package in float16; `crops` as for `export`.

    Raises:
      InputError: the folder cannot be written, or a stage answers otherwise than in float32 by more than `TOLERANCE`.
    """
    try:
        written = localizer.save(folder, half=True)
    except OSError as error:
        raise InputError(f"{folder}: cannot write here ({error.strerror}): choose another --output") from error
    done = []
    for before, after, shown in zip(localizer.stages, Localizer.load(written).stages, crops, strict=True):
        expected, answered = (np.asarray(jax.jit(_network(stage))(shown)) for stage in (before, after))
        done.append(
            Exported(path=written / "weights.npz", difference=_difference(answered, expected, written, "float16"))
        )
    return done


def _difference(answered: np.ndarray, expected: np.ndarray, path: Path, runtime: str) -> float:
    difference = float(np.abs(answered - expected).max())
    if not difference <= TOLERANCE:
        raise InputError(
            f"{path}: {runtime} answers otherwise than JAX, by up to {difference:.3g} pixels: do not use it"
        )
    return difference


def facts(localizer: Localizer, files: list[str]) -> dict:
    """What a program that runs the exported stages must know; docs/how-to/export.md has one."""
    scheme = localizer.scheme
    return {
        "scheme": {"name": scheme.name, "points": list(scheme.names), "flip": scheme.flip.tolist()},
        "box_convention": localizer.box_convention,
        "boxes": localizer.metadata.to_table().get("shape_in_box"),
        "input": "uint8 RGB crops [batch, size, size, 3]",
        "output": "float32 points [batch, points, 2]: (x, y) in pixels of the crop, 0-based pixel centers",
        "face_crop_margin": MARGIN,
        "stages": [
            {
                "file": file,
                "input_size": stage.input_size,
                "face_crop_size": stage.face_crop_size,
                "margin": stage.margin,
                "center": list(stage.center),
            }
            for file, stage in zip(files, localizer.stages, strict=True)
        ],
        "template": localizer.template.tolist(),
    }


def crops_of(localizer: Localizer, faces: FaceSet) -> list[UInt8[np.ndarray, "_ _ _ 3"]]:
    """For each stage, its crops of `faces`: the first stage's around the boxes, the second's around the annotated
    shapes, which are close to what the first stage finds.

    Raises:
      InputError: a picture cannot be read.
    """
    faces = faces.take(np.arange(min(len(faces), LARGEST_CHECK)))
    made = []
    for number, stage in enumerate(localizer.stages):
        face_crops = resize_face_crops(
            crop_faces(faces, size=localizer.stages[-1].face_crop_size), size=stage.face_crop_size
        )
        if number == 0:
            transforms = geometry.crop_of_box(
                face_crops.boxes, size=stage.input_size, margin=stage.margin, center=stage.center
            )
        else:
            transforms = geometry.crop_of_shape(face_crops.points, localizer.template, size=stage.input_size)
        crops = warp(jnp.asarray(np.asarray(face_crops.images)), transforms, size=stage.input_size)
        made.append(np.round(np.asarray(crops)).astype(np.uint8))
    return made


def _network(stage: Stage) -> Network:
    variables = jax.tree.map(jnp.asarray, stage.variables)
    return lambda crops: jnp.asarray(stage.network.apply(variables, crops, train=False)[0])
