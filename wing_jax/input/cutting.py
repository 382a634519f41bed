"""Crops of a training batch by NumPy and OpenCV: the work that tf.data's threads do, and all that needs no threads.

A `BatchCutter` gives the batch of any step by itself: everything drawn depends on (seed, epoch, place in the epoch)
alone. One affine, one resampling, uint8 throughout; each OpenCV call leaves the interpreter free for the next thread.
"""

import dataclasses
import functools

import cv2
import numpy as np
from jaxtyping import Bool, Float, Int, Shaped, UInt8

from wing_jax.augment.perturb import (
    CHOICE,
    UNIFORMS,
    Draw,
    draw,
    gaussian_taps,
    perturbed_frames,
    pixels_left,
    points_in_crop,
    supersampling,
)
from wing_jax.config import PerturbConfig
from wing_jax.data.chips import Chips, Images
from wing_jax.geometry import compose
from wing_jax.values import Value

Batch = dict[str, Shaped[np.ndarray, "batch ..."]]
Crops = UInt8[np.ndarray, "n size size 3"]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class BatchCutter(Value):
    """Batches of perturbed crops by step number.

    `frames` are each face's unperturbed crops (one is drawn where there are several), from crop pixels to chip
    pixels; `order` lists the faces of an epoch, duplicates included; `flip` is the scheme's permutation.
    """

    chips: Chips
    frames: Float[np.ndarray, "n draws 2 3"]
    order: Int[np.ndarray, "duplicated"]
    flip: Int[np.ndarray, "points"]
    perturb: PerturbConfig
    size: int
    batch_size: int
    seed: int

    def __call__(self, step: int, part: int = 0, parts: int = 1) -> Batch:
        """The batch of `step` (from 0), or the given one of `parts` equal pieces of it.

        Returns `images` uint8 `[batch, size, size, 3]`, `points` float32 `[batch, points, 2]` in pixels of the crop,
        `visible` bool `[batch, points]`, `index` `[batch]` of the face, `frames` `[batch, 2, 3]` of the crop.
        """
        rows = self.batch_size // parts
        positions = step * self.batch_size + part * rows + np.arange(rows)
        index = self._faces(positions)
        uniform = uniforms(seed=self.seed, first=int(positions[0]), count=rows)
        drawn = draw(uniform, self.perturb)
        choice = (uniform[:, CHOICE] * self.frames.shape[1]).astype(np.int64)
        placed = np.asarray(perturbed_frames(self.frames[index, choice], drawn, size=self.size))
        crops = cut_crops(self.chips.images, index, placed, size=self.size, supersample=self._supersample)
        change_pixels(crops, drawn, self.perturb, positions=positions, seed=self.seed)
        points, visible = points_in_crop(
            self.chips.points[index], self.chips.visible[index], placed, drawn.flip, self.flip
        )
        arrays = {"images": crops, "points": points, "visible": visible, "index": index, "frames": placed}
        return {name: np.asarray(array) for name, array in arrays.items()}

    def faces_of(self, step: int) -> Int[np.ndarray, "batch"]:
        """Which faces the batch of `step` (from 0) shows."""
        return self._faces(step * self.batch_size + np.arange(self.batch_size))

    def _faces(self, positions: Int[np.ndarray, "n"]) -> Int[np.ndarray, "n"]:
        """The faces at these places of the endless row of epochs, each a shuffled `order`."""
        epochs, places = np.divmod(positions, len(self.order))
        return np.array([self._epoch(epoch)[place] for epoch, place in zip(epochs.tolist(), places, strict=True)])

    @functools.cached_property
    def _epoch(self):
        @functools.lru_cache(maxsize=4)
        def shuffled(epoch: int) -> Int[np.ndarray, "duplicated"]:
            return np.random.default_rng([self.seed, epoch]).permutation(self.order)

        return shuffled

    @functools.cached_property
    def _supersample(self) -> int:
        return supersampling(self.frames)


def uniforms(*, seed: int, first: int, count: int) -> Float[np.ndarray, "count uniforms"]:
    """Numbers in [0, 1) `[count, UNIFORMS]` of the positions from `first` on, each by `seed` and position alone."""
    blocks = UNIFORMS // 4  # Philox gives four numbers for each value of its counter
    bits = np.random.Philox(key=seed, counter=first * blocks).random_raw(count * UNIFORMS)
    return ((bits >> np.uint64(40)).astype(np.float32) * np.float32(2**-24)).reshape(count, UNIFORMS)


def cut_crops(
    images: Images, index: Int[np.ndarray, "n"], frames: Float[np.ndarray, "n 2 3"], *, size: int, supersample: int = 1
) -> Crops:
    """Crops of `images[index]` whose pixel p shows the image at `frames` p; bilinear, the edge repeated.

    `supersample` > 1 samples a finer grid and averages it: the antialiasing for crops that shrink their image.
    """
    crops = np.empty((len(index), size, size, 3), np.uint8)
    side = size * supersample
    if supersample > 1:
        step = 1 / supersample
        finer = np.array([[step, 0, step / 2 - 0.5], [0, step, step / 2 - 0.5]], np.float32)
        frames = np.asarray(compose(frames, np.broadcast_to(finer, frames.shape)))
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    for crop, face, frame in zip(crops, index.tolist(), frames, strict=True):
        if supersample == 1:
            cv2.warpAffine(images[face], frame, (side, side), crop, flags, cv2.BORDER_REPLICATE)
        else:
            large = cv2.warpAffine(images[face], frame, (side, side), flags=flags, borderMode=cv2.BORDER_REPLICATE)
            cv2.resize(large, (size, size), crop, interpolation=cv2.INTER_AREA)
    return crops


def change_pixels(
    crops: Crops, drawn: Draw, perturb: PerturbConfig, *, positions: Int[np.ndarray, "n"], seed: int
) -> None:
    """Blur, resolution, colour, noise, occlusion and compression of `crops`, in place; what the config leaves at 0
    costs nothing."""
    if perturb.blur > 0:
        taps = gaussian_taps(perturb.blur_sigma)
        for face in np.flatnonzero(drawn.blur).tolist():
            cv2.sepFilter2D(crops[face], -1, taps, taps, crops[face], borderType=cv2.BORDER_REPLICATE)
    if perturb.shrink > 0:
        _coarsen(crops, drawn)
    if perturb.colour > 0:
        _recolour(crops, drawn)
    if perturb.noise > 0:
        for crop, deviation, position in zip(crops, drawn.noise, positions.tolist(), strict=True):
            normal = np.random.Generator(np.random.Philox(key=~seed % 2**64, counter=position << 64))
            noisy = crop + deviation * normal.standard_normal(crop.shape, np.float32)
            crop[:] = np.clip(np.rint(noisy), 0, 255)
    if perturb.occlusion > 0:
        _occlude(crops, drawn)
    if perturb.jpeg > 0:
        for face in np.flatnonzero(drawn.quality < 100).tolist():
            crops[face] = _compressed(crops[face], int(drawn.quality[face]))


def _coarsen(crops: Crops, drawn: Draw) -> None:
    size = crops.shape[1]
    for crop, pixels in zip(crops, pixels_left(drawn.pixels, size=size).astype(int).tolist(), strict=True):
        small = cv2.resize(crop, (pixels, pixels), interpolation=cv2.INTER_AREA)
        cv2.resize(small, (size, size), crop, interpolation=cv2.INTER_LINEAR)


def _compressed(crop: UInt8[np.ndarray, "size size 3"], quality: int) -> UInt8[np.ndarray, "size size 3"]:
    full_colour = [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    _, record = cv2.imencode(".jpg", crop[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality, *full_colour])
    decoded = cv2.imdecode(record, cv2.IMREAD_COLOR)
    assert decoded is not None
    return decoded[..., ::-1]


def _recolour(crops: Crops, drawn: Draw) -> None:
    """Contrast about the crop's mean, then the channels' gains, through a table of the 256 values."""
    means = np.array([sum(cv2.mean(crop)) / 3 for crop in crops], np.float32)[:, None, None]
    values = np.arange(256, dtype=np.float32)[:, None]
    stretched = (values - means) * drawn.contrast[:, None, None] + means
    tables = np.clip(np.rint(stretched * drawn.gain[:, None, :]), 0, 255).astype(np.uint8)
    for crop, table in zip(crops, tables, strict=True):
        cv2.LUT(crop, table[:, None], crop)


def _occlude(crops: Crops, drawn: Draw) -> None:
    corners = np.ceil(drawn.occluder * crops.shape[1] - 0.5).astype(int).tolist()
    for crop, (left, top, right, bottom), shade in zip(crops, corners, np.rint(drawn.shade), strict=True):
        crop[top:bottom, left:right] = shade


def fixed_crops(
    chips: Chips, frames: Float[np.ndarray, "n 2 3"], *, size: int
) -> tuple[Crops, Float[np.ndarray, "n points 2"], Bool[np.ndarray, "n points"]]:
    """Unperturbed crops, their points in crop pixels and visibility, for looking at or measuring."""
    everyone, upright = np.arange(len(frames)), np.zeros(len(frames), bool)
    crops = cut_crops(chips.images, everyone, frames, size=size, supersample=supersampling(frames))
    names = np.arange(chips.points.shape[1])
    points, visible = points_in_crop(chips.points, chips.visible, frames, upright, names)
    return crops, np.asarray(points, np.float32), np.asarray(visible)
