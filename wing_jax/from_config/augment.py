"""Augmentations from a config."""

from wing_jax import augment
from wing_jax.augment import Augmentation
from wing_jax.augment.augmentation import check_augmentations
from wing_jax.config import AugmentConfig


def augmentations_of(config: AugmentConfig) -> tuple[Augmentation, ...]:
    """Return the augmentations of `config`, in the order in which they are applied: geometry, then pixels.

    Those with strength 0 are left out.

    Args:
      config: strengths, and the arguments of augmentations that other packages registered.

    Raises:
      InputError: no augmentation has a name of `config.extra`, it does not take these arguments, or two have the same
        name.

    Example:
      >>> augmentations_of(AugmentConfig(rotation=20.0, translation=0.0, scale=0.0, blur=0.0))
      (<Augmentation 'rotation' on geometry>, <Augmentation 'flip' on geometry>)
    """
    strengths = (
        (config.aspect, augment.aspect_jitter(config.aspect)),
        (config.rotation, augment.rotation(config.rotation)),
        (config.scale, augment.scale(config.scale)),
        (config.flip, augment.flip(probability=config.flip)),
        (config.translation, augment.translation(config.translation)),
        (config.blur, augment.blur(config.blur, sigma=config.blur_sigma)),
        (config.downscale, augment.downscale(config.downscale)),
        (config.color, augment.color(config.color)),
        (config.noise, augment.noise(config.noise)),
        (config.occlusion, augment.occlusion(config.occlusion, side=config.occlusion_side)),
        (config.jpeg, augment.jpeg(config.jpeg)),
    )
    extra = [augment.make_augmentation(name, **arguments) for name, arguments in config.extra.items()]
    return check_augmentations([*(augmentation for strength, augmentation in strengths if strength > 0), *extra])
