"""Write the network of each stage to a file, check it against JAX, and write the settings for running the stages."""

import dataclasses
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, UInt8

from wing_jax import geometry
from wing_jax.augment.warp import warp
from wing_jax.data.face_crops import MARGIN, crop_faces, resize_face_crops
from wing_jax.data.face_set import FaceSet
from wing_jax.errors import InputError
from wing_jax.export.formats import EXPORTS, Format, Network
from wing_jax.inference.localizer import Localizer, Stage
from wing_jax.models import cpu_kernel
from wing_jax.text import quoted

TOLERANCE = 0.05  # pixels of the crop
LARGEST_CHECK = 32  # crops


@dataclasses.dataclass(frozen=True, kw_only=True)
class Exported:
    """The file of a stage, and the largest difference of its points from those of JAX, in pixels of the crop."""

    path: Path
    difference: float


def export(
    localizer: Localizer,
    kind: str | Format,
    folder: str | Path,
    crops: Sequence[UInt8[np.ndarray, "_ _ _ 3"]],
    *,
    covariance: bool = False,
) -> list[Exported]:
    """Write each stage of `localizer` to `folder` in the format `kind` (a name of `EXPORTS`, or a `Format`).

    Also writes `model.json` with the settings for running the stages. `crops` has crops for the check of each stage;
    `make_crops` makes them.

    The input of a network is "crops", uint8 RGB `[batch, size, size, 3]`. The output is "points", float32
    `[batch, points, 2]`: (x, y) in pixels of the crop, 0-based pixel centers. With `covariance`, the output of the last
    network is `[batch, points, 5]`: (x, y), then the variance of x, the covariance of x and y, and the variance of y by
    which the network says how sure it is, in squared pixels of the crop. The localizer's calibration, which maps these
    to the errors, is in `model.json`. Averaging with the mirror image is not exported.

    Raises:
      InputError: the format is unknown or its library is missing, it does not support an operation of the network, the
        folder cannot be written to, the last network estimates no covariances, or the points or spreads of the exported
        file differ from those of JAX by more than `TOLERANCE`.
    """
    last = localizer.stages[-1]
    if covariance and not last.network.estimates_covariance:
        raise InputError(
            f"covariances: the last network of {quoted(localizer.metadata.name)}, "
            f"{type(last.model).__name__}, estimates none: export without them, or train a voting network"
        )
    form, folder = kind if isinstance(kind, Format) else EXPORTS[kind], Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: cannot write here ({error.strerror}): choose another --output") from error
    results = []
    for number, (stage, inputs) in enumerate(zip(localizer.stages, crops, strict=True), 1):
        path = folder / f"stage{number}{form.ending}"
        network = _network(stage, covariance=covariance and stage is last)
        if path.is_dir():
            shutil.rmtree(path)
        with cpu_kernel.switched("off"):
            form.write(network, stage.input_size, path)
            expected = np.asarray(jax.jit(network)(inputs))
        difference = _check(form.load(path)(inputs), expected, path, form.runtime)
        results.append(Exported(path=path, difference=difference))
    table = settings(localizer, [result.path.name for result in results], covariance=covariance)
    content = json.dumps(table, indent=1)
    (folder / "model.json").write_text(content + "\n", encoding="utf-8")
    return results


def halve(localizer: Localizer, folder: str | Path, crops: Sequence[UInt8[np.ndarray, "_ _ _ 3"]]) -> list[Exported]:
    """Write `localizer` to `folder` as a bundle of this package in float16; `crops` as for `export`.

    Raises:
      InputError: the folder cannot be written to, or the points of a stage differ from those in float32 by more than
        `TOLERANCE`.
    """
    try:
        bundle = localizer.save(folder, half=True)
    except OSError as error:
        raise InputError(f"{folder}: cannot write here ({error.strerror}): choose another --output") from error
    results = []
    for before, after, inputs in zip(localizer.stages, Localizer.load(bundle).stages, crops, strict=True):
        expected, actual = (np.asarray(jax.jit(_network(stage))(inputs)) for stage in (before, after))
        results.append(Exported(path=bundle / "weights.npz", difference=_check(actual, expected, bundle, "float16")))
    return results


def _check(actual: np.ndarray, expected: np.ndarray, path: Path, runtime: str) -> float:
    """Return the largest difference of points and spreads in pixels; raise InputError if it is above `TOLERANCE`."""
    actual, expected = (np.concatenate([a[..., :2], _spreads(a)], axis=-1) for a in (actual, expected))
    difference = float(np.abs(actual - expected).max())
    if not difference <= TOLERANCE:
        raise InputError(
            f"{path}: the points from {runtime} differ from JAX by up to {difference:.3g} pixels: do not use it"
        )
    return difference


def _spreads(output: np.ndarray) -> np.ndarray:
    """Return the spreads `[..., points, 1]` of an output with covariances, `[..., points, 0]` of one without."""
    return np.sqrt(output[..., 2:3] + output[..., 4:5])


def settings(localizer: Localizer, files: list[str], *, covariance: bool = False) -> dict:
    """Return the settings that a program needs to run the exported stages; docs/how-to/export.md has an example."""
    scheme, calibration = localizer.scheme, localizer.calibration
    uncertainty = {
        "output_of_last_stage": "float32 [batch, points, 5]: x, y, variance of x, covariance, variance of y",
        "calibration": calibration and {**calibration.to_table(), "weights": calibration.weights.tolist()},
    }
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
        **(uncertainty if covariance else {}),
    }


def make_crops(localizer: Localizer, faces: FaceSet) -> list[UInt8[np.ndarray, "_ _ _ 3"]]:
    """Return the crops of `faces` for each stage.

    Those of the first stage are around the boxes, those of the second around the annotated shapes, which are close to
    the results of the first stage.

    Raises:
      InputError: a picture cannot be read.
    """
    faces = faces.take(np.arange(min(len(faces), LARGEST_CHECK)))
    crops = []
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
        warped = warp(jnp.asarray(np.asarray(face_crops.images)), transforms, size=stage.input_size)
        crops.append(np.round(np.asarray(warped)).astype(np.uint8))
    return crops


def _network(stage: Stage, *, covariance: bool = False) -> Network:
    variables = jax.tree.map(jnp.asarray, stage.variables)
    if not covariance:
        return lambda crops: jnp.asarray(stage.network.apply(variables, crops, train=False)[0])

    def network(crops: Array) -> Array:
        points, estimated = stage.network.predict(variables, crops)
        assert estimated is not None
        flat = estimated.reshape(*points.shape[:2], 4)
        upper, last = (jax.lax.slice_in_dim(flat, *ends, axis=2) for ends in ((0, 2), (3, 4)))  # no gather
        return jnp.concatenate([points, upper, last], axis=-1)

    return network
