"""The two stages at work: pictures and face boxes in, landmarks out."""

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Real, UInt8

from wing_jax import geometry
from wing_jax.bundle import read_bundle, write_bundle
from wing_jax.data.chips import cut_chip, resized
from wing_jax.errors import InputError
from wing_jax.models import make_model
from wing_jax.schemes import SCHEMES, Scheme, get_scheme, scheme_from_table, scheme_to_table
from wing_jax.types import Affine
from wing_jax.warp import warp

LARGEST_BATCH = 64


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stage:
    """A trained network, and the crop it works on."""

    network: dict  # the arguments of `wing_jax.models.make_model`
    variables: dict
    input_size: int  # pixels: the crop's side
    chip_size: int  # pixels: the side of the chip that the crop is cut from
    margin: float  # first stage: crop side per larger box side; second: per larger side of the template's box
    centre: Sequence[float] = (0.0, 0.0)  # first stage: of the crop, from the box's, in larger box sides

    @functools.cached_property
    def model(self) -> nn.Module:
        return make_model(**self.network)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Localizer:
    """One- or two-stage landmark localiser; an immutable value, safe to share.

    `template` `[points, 2]` is the mean shape in fractions of the second stage's crop. `flip_average` averages each
    crop's landmarks with those of its mirror image: a little better, twice the work.
    """

    scheme: Scheme
    box_convention: str
    stages: tuple[Stage, ...]
    template: Float[np.ndarray, "points 2"]
    flip_average: bool = False
    about: dict = dataclasses.field(default_factory=dict)

    @classmethod
    def load(cls, path: str | Path) -> "Localizer":
        """Load the bundle in folder `path` (or in its subfolder `model`, so that a run's folder serves as well).

        Raises:
          InputError: there is no bundle, or it is broken.
        """
        manifest, arrays = read_bundle(path)
        try:
            stages = tuple(
                Stage(variables={"batch_stats": {}, **arrays[f"stage{i + 1}"]}, **facts)
                for i, facts in enumerate(manifest.pop("stages"))
            )
            return cls(
                scheme=_scheme(manifest.pop("scheme")),
                box_convention=manifest.pop("box_convention"),
                stages=stages,
                template=arrays["template"]["shape"],
                about=manifest,
            )
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"{path}: this model does not hold what it must ({error}): copy the bundle again"
            ) from error

    def save(self, path: str | Path) -> Path:
        """Write the bundle: `model.json`, which says what it is, and `weights.npz`. Returns its folder."""
        facts = ("network", "input_size", "chip_size", "margin", "centre")
        manifest = {
            "scheme": self.scheme.name if self.scheme.name in SCHEMES else scheme_to_table(self.scheme),
            "box_convention": self.box_convention,
            "stages": [{name: getattr(stage, name) for name in facts} for stage in self.stages],
            **self.about,
        }
        arrays = {f"stage{i + 1}": stage.variables for i, stage in enumerate(self.stages)}
        return write_bundle(path, manifest, {**arrays, "template": {"shape": self.template}})

    def describe(self) -> str:
        """One line: scheme, stages, input sizes and box convention."""
        sizes = " then ".join(f"{stage.input_size} x {stage.input_size}" for stage in self.stages)
        return (
            f"{self.scheme.points} points ({self.scheme.name}), {len(self.stages)} stage(s) on {sizes} pixels, "
            f"boxes by the {self.box_convention!r} convention"
        )

    def predict(
        self, image: np.ndarray, boxes: Real[np.ndarray, "faces 4"] | Sequence
    ) -> Float[np.ndarray, "faces points 2"]:
        """Landmarks of the faces in `boxes` (x0, y0, x1, y1 in pixels) of one RGB uint8 `image`.

        Returns float32 (x, y) in pixels of `image`, 0-based pixel centres.

        Raises:
          InputError: the image is not RGB uint8, or a box is empty, not finite or wholly outside the image.
        """
        boxes = check_boxes(boxes, image)
        if not len(boxes):
            return np.zeros((0, self.scheme.points, 2), np.float32)
        cut = [cut_chip(image, box, size=self.stages[-1].chip_size) for box in boxes]
        chips, frames = np.stack([chip for chip, _ in cut]), np.stack([frame for _, frame in cut])
        in_chip = (boxes.reshape(-1, 2, 2) - frames[:, None, :, 2]) / frames[:, :1, None, 0]
        points = self.locate(chips, in_chip.reshape(-1, 4).astype(np.float32))[-1]
        return points * frames[:, :1, None, 0] + frames[:, None, :, 2]

    def locate(
        self, chips: UInt8[np.ndarray, "n size size 3"], boxes: Float[np.ndarray, "n 4"]
    ) -> list[Float[np.ndarray, "n points 2"]]:
        """Landmarks after each stage, for faces already cut out: `chips` of the last stage's chip size, `boxes` and
        the answers in chip pixels."""
        answers: list[list[np.ndarray]] = []
        for start in range(0, len(chips), LARGEST_BATCH):
            part, part_boxes = chips[start : start + LARGEST_BATCH], boxes[start : start + LARGEST_BATCH]
            bucket = 1 << (len(part) - 1).bit_length()  # so that a new number of faces seldom compiles anew
            filled = np.arange(bucket) % len(part)
            levels = tuple(resized(part, stage.chip_size)[filled] for stage in self.stages)
            variables = tuple(stage.variables for stage in self.stages)
            located = self._locate(variables, levels, part_boxes[filled])
            answers.append([np.asarray(points)[: len(part)] for points in located])
        return [np.concatenate(stage) for stage in zip(*answers, strict=True)]

    @functools.cached_property
    def _locate(self):
        return jax.jit(self._locate_once)

    def _locate_once(self, variables: tuple, levels: tuple[Array, ...], boxes: Array) -> list[Array]:
        """Both stages, each on its own size of chip; everything between them in pixels of the last chip."""
        unit = self.stages[-1].chip_size
        answers: list[Array] = []
        for stage, weights, chips in zip(self.stages, variables, levels, strict=True):
            if answers:
                frames = geometry.frame_of_shape(answers[-1], jnp.asarray(self.template), size=stage.input_size)
            else:
                frames = geometry.frame_of_box(boxes, size=stage.input_size, margin=stage.margin, centre=stage.centre)
            to_unit = jnp.broadcast_to(_between_sizes(stage.chip_size, unit), frames.shape)
            local = geometry.compose(geometry.invert(to_unit), frames)
            crops = jnp.round(warp(chips, local, size=stage.input_size))
            answers.append(jnp.asarray(geometry.transform(frames, self._on_crops(stage, weights, crops))))
        return answers

    def _on_crops(self, stage: Stage, variables: dict, crops: Array) -> Array:
        points = jnp.asarray(stage.model.apply(variables, crops, train=False))
        if not self.flip_average:
            return points
        mirrored = jnp.asarray(stage.model.apply(variables, crops[:, :, ::-1], train=False))[:, self.scheme.flip]
        mirrored = jnp.stack([stage.input_size - 1 - mirrored[..., 0], mirrored[..., 1]], axis=-1)
        return (points + mirrored) / 2


def _scheme(told: str | dict) -> Scheme:
    """A published scheme by its name, one's own by its table."""
    return get_scheme(told) if isinstance(told, str) else scheme_from_table(told)


def _between_sizes(source: int, target: int) -> Affine:
    """Affine from pixels of a chip of side `source` to pixels of the same chip at side `target`."""
    ratio = target / source
    return geometry.similarity(scale=ratio, translation=(0.5 * ratio - 0.5, 0.5 * ratio - 0.5))


def check_boxes(boxes: Real[np.ndarray, "faces 4"] | Sequence, image: np.ndarray) -> Float[np.ndarray, "faces 4"]:
    """`boxes` as float32 `[faces, 4]`.

    Raises:
      InputError: the image is not RGB uint8, or a box is not four numbers, empty, not finite or wholly outside the
        image.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[-1] != 3:
        raise InputError(f"the image must be RGB uint8 [height, width, 3], not {image.dtype} {list(image.shape)}")
    boxes = np.atleast_2d(np.asarray(boxes, np.float32)) if len(boxes) else np.zeros((0, 4), np.float32)
    if boxes.shape[1:] != (4,):
        raise InputError(f"the boxes must be [faces, 4], not {list(boxes.shape)}: give x0 y0 x1 y1 for each face")
    height, width = image.shape[:2]
    for box in boxes:
        left, top, right, bottom = box
        said = " ".join(f"{value:g}" for value in box)
        if not np.isfinite(box).all() or right - left < 2 or bottom - top < 2:
            raise InputError(f"the box {said} is empty: give x0 y0 x1 y1 with x1 > x0 and y1 > y0, in pixels")
        if right < 0 or bottom < 0 or left > width - 1 or top > height - 1:
            raise InputError(f"the box {said} lies outside the image of {width} x {height} pixels")
    return boxes
