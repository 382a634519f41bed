"""A few small faces for the on-device input."""

import cv2
import numpy as np

from wing_jax import augment
from wing_jax.data.face_crops import FaceCrops
from wing_jax.input.on_device import DeviceInput

SIZE, CROP, FACES = 24, 40, 7
AUGMENT = (
    augment.rotation(20.0),
    augment.scale(0.1),
    augment.flip(),
    augment.translation(0.1),
    augment.blur(0.5),
    augment.color(0.2),
    augment.occlusion(0.3),
)
ORDER = np.array([0, 1, 1, 1, 2, 3, 4, 4, 5, 6, 6])  # an epoch of eleven faces, with duplicates


def make_input(**changes) -> DeviceInput:
    settings = {"augment": AUGMENT, "size": SIZE, "image_size": CROP, "batch_size": 4, "supersample": 1, "seed": 3}
    return DeviceInput(**settings | changes)


def make_face_crops() -> FaceCrops:
    random = np.random.default_rng(0)
    images = [cv2.GaussianBlur(random.integers(0, 256, (CROP, CROP, 3), np.uint8), (0, 0), 2) for _ in range(FACES)]
    return FaceCrops(
        images=np.stack(images),
        crop_to_image=np.broadcast_to(np.eye(2, 3, dtype=np.float32), (FACES, 2, 3)).copy(),
        boxes=np.broadcast_to(np.float32([10, 10, 30, 30]), (FACES, 4)).copy(),
        points=random.uniform(10, 30, (FACES, 5, 2)).astype(np.float32),
        visible=random.uniform(size=(FACES, 5)) < 0.7,
    )


def make_transforms(crops_per_face: int = 1) -> np.ndarray:
    """Return the transforms of `crops_per_face` crops of each face, each shifted by one more pixel."""
    transforms = np.zeros((FACES, crops_per_face, 2, 3), np.float32)
    transforms[..., 0, 0] = transforms[..., 1, 1] = 1.25
    transforms[..., 2] = (5 + np.arange(crops_per_face, dtype=np.float32))[None, :, None]
    return transforms
