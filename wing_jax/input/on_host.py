"""The host input: makes the batch of any step by NumPy and OpenCV, ahead of its use in tf.data's threads.

`wing_jax.input.sampling` chooses the faces and samples the augmentations, jitted on the CPU device, so a seed gives the
same training as with the on-device input. Each face is resampled once, by one affine, in uint8. OpenCV releases the
interpreter lock during each call, for the other threads.
"""

import dataclasses
import functools
from collections.abc import Callable

import cv2
import jax
import numpy as np
from jaxtyping import Float, Int, UInt8

from wing_jax.augment.augmentation import Augmentation, apply_pixels_on_host, check_augmentations, cpu_device
from wing_jax.augment.geometric import points_in_crop, supersampling
from wing_jax.data.face_crops import FaceCrops, Images
from wing_jax.geometry import compose, rescaling
from wing_jax.input.sampling import (
    BatchIndices,
    CutBatch,
    FaceRows,
    PlacedFaces,
    place_faces,
    shuffled_epochs,
)
from wing_jax.runtime.devices import default_settings
from wing_jax.types import Batch
from wing_jax.values import Value

Crops = UInt8[np.ndarray, "n size size 3"]
KEPT_EPOCHS = 4  # more than one, because threads work on both sides of an epoch's end


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class HostInput(Value):
    """Batches of augmented crops, by step number.

    Args:
      face_crops: the faces.
      crop_to_image: transforms of each face's crops before augmentation, from pixels of the crop to pixels of the
        face's image. One of them is drawn for each use of the face.
      order: face indices of an epoch, with duplicates.
      flip: the scheme's permutation.
      augment: the augmentations, in the order in which they are applied.
      size: side of the crop in pixels.
      batch_size: faces per batch.
      seed: the seed of shuffling and augmentation.

    Raises:
      InputError: two augmentations have the same name.
    """

    face_crops: FaceCrops
    crop_to_image: Float[np.ndarray, "n crops_per_face 2 3"]
    order: Int[np.ndarray, "duplicated"]
    flip: Int[np.ndarray, "points"]
    augment: tuple[Augmentation, ...]
    size: int
    batch_size: int
    seed: int

    def __post_init__(self) -> None:
        check_augmentations(self.augment)

    def __call__(self, step: int, part: int = 0, parts: int = 1) -> Batch:
        """Return the batch of `step` (from 0), or piece number `part` of its `parts` equal pieces.

        Returns `images` uint8 `[batch, size, size, 3]`, `points` float32 `[batch, points, 2]` in pixels of the crop
        and `visible` bool `[batch, points]`.
        """
        return self.cut(step, part, parts).batch

    @default_settings()  # tf.data's threads would otherwise use JAX's settings of the environment
    def cut(self, step: int, part: int = 0, parts: int = 1) -> CutBatch:
        """Return the batch of `step` (from 0), or a piece of it, with its face indices and crops."""
        indices = self.indices(step, part, parts)
        index = np.asarray(indices.index)
        placed = jax.device_get(self._place(indices))
        crops = cut_crops(
            self.face_crops.images, index, placed.crop_to_image, size=self.size, supersample=self._supersample
        )
        images = apply_pixels_on_host(self.augment, crops, placed.params)
        batch = Batch(images=images, points=placed.points, visible=placed.visible)
        return CutBatch(batch, index, placed.crop_to_image, placed.mirrored)

    @default_settings()
    def indices(self, step: int, part: int = 0, parts: int = 1) -> BatchIndices:
        """Return the faces in the batch of `step` (from 0), or a piece of it, with their epochs and places."""
        rows = self.batch_size // parts
        positions = step * self.batch_size + part * rows + np.arange(rows)
        epochs, places = np.divmod(positions, len(self.order))
        index = np.empty(rows, np.int32)
        for epoch in np.unique(epochs).tolist():
            index[epochs == epoch] = self._epoch(epoch)[places[epochs == epoch]]
        return BatchIndices(index=index, epoch=epochs.astype(np.int32), place=places.astype(np.int32))

    @functools.cached_property
    def _epoch(self) -> Callable[[int], Int[np.ndarray, "duplicated"]]:
        order = jax.device_put(self.order.astype(np.int32), cpu_device())
        shuffle = jax.jit(functools.partial(shuffled_epochs, seed=self.seed, epochs=1))
        return functools.lru_cache(maxsize=KEPT_EPOCHS)(lambda epoch: np.asarray(shuffle(order, np.int32(epoch))))

    @functools.cached_property
    def _place(self) -> Callable[[BatchIndices], PlacedFaces]:
        faces = FaceRows(
            points=self.face_crops.points.astype(np.float32),
            visible=self.face_crops.visible,
            crop_to_image=self.crop_to_image.astype(np.float32),
        )
        flip = np.asarray(self.flip, np.int32)

        @jax.jit
        def place(faces: FaceRows, indices: BatchIndices) -> PlacedFaces:
            rows = FaceRows(*(values[indices.index] for values in faces))
            return place_faces(rows, indices, flip=flip, augment=self.augment, size=self.size, seed=self.seed)

        return functools.partial(place, jax.device_put(faces, cpu_device()))

    @functools.cached_property
    def _supersample(self) -> int:
        return supersampling(self.crop_to_image)


def cut_crops(
    images: Images,
    index: Int[np.ndarray, "n"],
    crop_to_image: Float[np.ndarray, "n 2 3"],
    *,
    size: int,
    supersample: int = 1,
) -> Crops:
    """Cut crops out of `images[index]`: pixel p of a crop shows the image at `crop_to_image` p.

    Sampling is bilinear, and edge pixels are repeated outside of the image. `supersample` > 1 samples a finer grid and
    averages it, which is antialiasing for crops that shrink their image.
    """
    crops = np.empty((len(index), size, size, 3), np.uint8)
    side = size * supersample
    if supersample > 1:
        from_finer_grid = np.broadcast_to(rescaling(1 / supersample), crop_to_image.shape)
        crop_to_image = np.asarray(compose(crop_to_image, from_finer_grid))
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    for crop, face, affine in zip(crops, index.tolist(), crop_to_image, strict=True):
        if supersample == 1:
            cv2.warpAffine(images[face], affine, (side, side), crop, flags, cv2.BORDER_REPLICATE)
        else:
            large = cv2.warpAffine(images[face], affine, (side, side), flags=flags, borderMode=cv2.BORDER_REPLICATE)
            cv2.resize(large, (size, size), crop, interpolation=cv2.INTER_AREA)
    return crops


def fixed_crops(face_crops: FaceCrops, crop_to_image: Float[np.ndarray, "n 2 3"], *, size: int) -> Batch:
    """Return the faces' crops without augmentation, for display or validation."""
    index, mirrored = np.arange(len(crop_to_image)), np.zeros(len(crop_to_image), bool)
    supersample = supersampling(crop_to_image)
    crops = cut_crops(face_crops.images, index, crop_to_image, size=size, supersample=supersample)
    flip = np.arange(face_crops.points.shape[1])
    points, visible = points_in_crop(face_crops.points, face_crops.visible, crop_to_image, mirrored, flip)
    return Batch(images=crops, points=np.asarray(points, np.float32), visible=np.asarray(visible))
