"""Where the pixels of faces come from: cut by the host, or by the device from parts of photos.

A source has all faces of one call. `locate` runs one batch of `Requests`, which name faces by their index.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Array, Float, Int, Integer

from wing_jax.data.images import resize_square
from wing_jax.inference import forward
from wing_jax.inference.batching import clip_squares, pad_rows, round_up, run_parallel
from wing_jax.inference.forward import ForwardSpec, Located
from wing_jax.types import Image
from wing_jax.values import Value

LARGEST_PIXELS = 1 << 26  # per batch of photo parts: 200 MB to transfer, 800 MB while the device cuts them


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Requests(Value):
    """Landmarks to locate.

    Args:
      faces: the index of the face in its source, `[k]`.
      boxes: x0, y0, x1, y1 in pixels of the face crop of the last stage, `[k, 4]`.
      degrees: by which the face is turned clockwise, as far as known, `[k]`.
    """

    faces: Int[np.ndarray, "k"]
    boxes: Float[np.ndarray, "k 4"]
    degrees: Float[np.ndarray, "k"]

    def __len__(self) -> int:
        return len(self.faces)


class Model(NamedTuple):
    """What the compiled programs need of a localizer (`wing_jax.inference.forward.locate`)."""

    spec: ForwardSpec
    weights: tuple[Mapping[str, Any], ...]
    template: Float[Array, "points 2"]
    calibration: Float[Array, "points features 3"] | None


@dataclasses.dataclass(frozen=True)
class HostCrops:
    """Face crops `get_face_crop(face)`, which the host resizes to the face crop size of each stage.

    `largest_batch` is the maximum number of faces per batch.
    """

    get_face_crop: Callable[[int], Image]
    largest_batch: int

    def locate(self, model: Model, requests: Requests, rows: range, bucket: int) -> Located:
        """Start to locate the requests in `rows`; the batch is padded to `bucket` faces."""
        sizes = [stage.face_crop_size for stage in model.spec.stages]
        levels = tuple(np.empty((bucket, size, size, 3), np.uint8) for size in sizes)

        def fill(row: int) -> None:
            face_crop = self.get_face_crop(int(requests.faces[rows[row]]))
            for level in levels:
                level[row] = resize_square(face_crop, level.shape[1])

        run_parallel(fill, len(rows))
        for level in levels:
            level[len(rows) :] = level[0]
        boxes, degrees = (pad_rows(values, rows, bucket) for values in (requests.boxes, requests.degrees))
        return forward.locate(*model, levels, boxes, degrees)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class PhotoParts(Value):
    """Squares of photos of `sizes` (width, height); only their parts inside the photos are transferred to the device.

    `squares` are left, top and side (`wing_jax.data.face_crops.crop_squares`). `size` is that of the last stage's face
    crop, `limit` the maximum number of faces per batch.
    """

    get_photo: Callable[[int], Image]
    sizes: Integer[np.ndarray, "n 2"]
    squares: Integer[np.ndarray, "n 3"]
    size: int
    limit: int

    @functools.cached_property
    def widest(self) -> int:
        """The longest side of the parts, in pixels."""
        return int(clip_squares(self.squares, self.sizes)[1].max(initial=1))

    @property
    def affordable(self) -> bool:
        """Whether the largest part is small enough to be transferred."""
        return self.widest**2 <= LARGEST_PIXELS

    @property
    def extent(self) -> int:
        """The side of the arrays that the parts are copied into, in pixels."""
        return round_up(self.widest, unit=self.size)

    @property
    def largest_batch(self) -> int:
        """The maximum number of faces per batch: fewer if the parts are large."""
        return min(self.limit, 1 << (max(1, LARGEST_PIXELS // self.extent**2).bit_length() - 1))

    def locate(self, model: Model, requests: Requests, rows: range, bucket: int) -> Located:
        """Start to locate the requests in `rows`; the batch is padded to `bucket` faces."""
        faces = requests.faces[rows.start : rows.stop]
        squares, extent = self.squares[faces], self.extent
        corners, length = clip_squares(squares, self.sizes[faces])
        parts = np.zeros((bucket, extent, extent, 3), np.uint8)

        def fill(row: int) -> None:
            (left, top), (width, height) = corners[row], length[row]
            parts[row, :height, :width] = self.get_photo(int(faces[row]))[top : top + height, left : left + width]

        run_parallel(fill, len(faces))
        cut = [pad_rows(x, range(len(faces)), bucket) for x in (corners - squares[:, :2], length, squares[:, 2])]
        boxes, degrees = (pad_rows(values, rows, bucket) for values in (requests.boxes, requests.degrees))
        return forward.crop_and_predict(*model, parts, *cut, boxes, degrees)


CropSource: TypeAlias = HostCrops | PhotoParts
