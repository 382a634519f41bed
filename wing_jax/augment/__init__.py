"""Augmentation of face crops and their points, and the warp that cuts crops out of images.

An `Augmentation` samples parameters for each face (`sample`) and applies them to a batch (`apply`). The augmentations
of a list are independent: removing one does not change the random numbers of the others. Other packages add theirs
with `register_augmentation`.

Example:
  >>> from wing_jax import augment
  >>> [augment.rotation(20), augment.flip(), augment.color(0.2)]
  [<Augmentation 'rotation' on geometry>, <Augmentation 'flip' on geometry>, <Augmentation 'color' on pixels>]
"""

from wing_jax.augment.augmentation import (
    AUGMENTATIONS,
    Augmentation,
    AugmentParams,
    apply_geometry,
    apply_pixels,
    apply_pixels_on_host,
    make_augmentation,
    register_augmentation,
    sample_params,
)
from wing_jax.augment.geometric import aspect_jitter, flip, rotation, scale, translation
from wing_jax.augment.pixels import blur, color, downscale, grayscale, jpeg, noise, occlusion

__all__ = [
    "AUGMENTATIONS",
    "AugmentParams",
    "Augmentation",
    "apply_geometry",
    "apply_pixels",
    "apply_pixels_on_host",
    "aspect_jitter",
    "blur",
    "color",
    "downscale",
    "flip",
    "grayscale",
    "jpeg",
    "make_augmentation",
    "noise",
    "occlusion",
    "register_augmentation",
    "rotation",
    "sample_params",
    "scale",
    "translation",
]
