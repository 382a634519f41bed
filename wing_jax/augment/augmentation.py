"""An augmentation: random numbers for one face, and what they do to crops. Draw first, then apply.

Arrays are JAX's, float32; images are `[n, size, size, 3]` in 0..255. `sample` comes before `apply`, and takes a key.

A geometric augmentation gives no picture but a matrix `[2, 3]`, an affine from the augmented crop to the crop as it
was, in fractions of the crop's side about its center: x = (pixel - (size - 1) / 2) / size. The matrices of all
augmentations of a list become ONE, which moves the points and resamples the image once.
"""

import dataclasses
import functools
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, UInt8

from wing_jax.errors import InputError
from wing_jax.runtime.registry import Registry
from wing_jax.text import quoted, reason
from wing_jax.types import Affine

AugmentParams = dict[str, Any]  # by the augmentation's name: its parameters, with the faces as leading axis
UNBOUNDED = float(np.finfo(np.float32).max)  # the largest strength where there is no other limit
Factory = Callable[..., "Augmentation"]


@dataclasses.dataclass(frozen=True, repr=False)
class Augmentation:
    """A random change of face crops, a pair of pure functions.

    Args:
      name: what its random numbers depend on, beside the seed, the epoch and the place in it: no other augmentation
        of the list changes them.
      sample: `sample(key) -> params`, the parameters of one face, any pytree of arrays. It is vmapped over the faces.
      apply: `apply(matrices, params) -> matrices`, float32 `[n, 2, 3]` in fractions of the crop about its center, or
        `apply(images, params) -> images`, float32 `[n, size, size, 3]` in 0..255; `params` of `n` faces.
      on: "geometry" for matrices, "pixels" for images.
      host: for pixels, the same as `apply` by NumPy or OpenCV on uint8 images `[n, size, size, 3]`, which it may
        overwrite; for the tf.data input, where OpenCV is faster. None: that input calls `apply` on the CPU device.

    Raises:
      InputError: the name is empty, or `on` is neither.

    Example:
      >>> import jax
      >>> invert = Augmentation(
      ...     "invert",
      ...     sample=lambda key: jax.random.bernoulli(key, 0.5),
      ...     apply=lambda images, chosen: jax.numpy.where(chosen[:, None, None, None], 255 - images, images),
      ...     on="pixels",
      ... )
      >>> invert
      <Augmentation 'invert' on pixels>
    """

    name: str
    sample: Callable[[Array], Any]
    apply: Callable[[Any, Any], Any]
    on: str
    host: Callable[[np.ndarray, Any], np.ndarray] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise InputError(f"name={quoted(self.name)}: give the augmentation a name")
        if self.on not in ("geometry", "pixels"):
            raise InputError(f"on={quoted(self.on)} of the augmentation {quoted(self.name)}: use geometry or pixels")

    def __repr__(self) -> str:
        return f"<Augmentation {self.name!r} on {self.on}>"


def _adopt(name: str, factory: Any) -> Factory:
    if not callable(factory):
        raise InputError(f"the augmentation {quoted(name)} is no function that returns an Augmentation: correct it")
    return factory


AUGMENTATIONS: Registry[Factory] = Registry("augmentation", group="wing_jax.augmentations", adopt=_adopt)


def register_augmentation(factory: Factory | None = None, *, name: str | None = None) -> Any:
    """Decorator: make a function that returns an `Augmentation` known by its name, or by `name`, to configs and the
    command line: `--stage1.augment.extra.NAME.ARGUMENT VALUE`.

    Args:
      factory: a function of keyword arguments, numbers, that returns an `Augmentation`.
      name: what configs call it; the function's own name where it is None.

    Returns:
      `factory` as it is, or the decorator where it is left out.

    Raises:
      ValueError: the name is taken.

    Example:
      >>> @register_augmentation(name="gain_for_the_docs")
      ... def gain(*, highest):
      ...     return Augmentation(
      ...         "gain_for_the_docs",
      ...         sample=lambda key: jax.random.uniform(key, minval=1.0, maxval=highest),
      ...         apply=lambda images, gains: images * gains[:, None, None, None],
      ...         on="pixels",
      ...     )
      >>> make_augmentation("gain_for_the_docs", highest=1.5)
      <Augmentation 'gain_for_the_docs' on pixels>
    """
    if factory is None:
        return functools.partial(register_augmentation, name=name)
    AUGMENTATIONS.add(name or getattr(factory, "__name__", ""), factory, origin=factory)
    return factory


def make_augmentation(name: str, /, **arguments: int | float) -> Augmentation:
    """The augmentation that the factory registered as `name` makes of `arguments`.

    Args:
      name: the name of a registered function.
      **arguments: its arguments.

    Returns:
      The augmentation.

    Raises:
      InputError: there is no such factory, or it does not take these arguments.

    Example:
      >>> import wing_jax.augment
      >>> make_augmentation("rotation", degrees=20.0)
      <Augmentation 'rotation' on geometry>
    """
    factory = AUGMENTATIONS[name]
    try:
        made = factory(**arguments)
    except (TypeError, ValueError) as error:
        raise InputError(f"augmentation {quoted(name)}: {reason(error)}") from error
    if not isinstance(made, Augmentation):
        raise InputError(f"augmentation {quoted(name)}: its function returns no Augmentation but {quoted(made)}")
    return made


def check_augmentations(augmentations: Sequence[Augmentation]) -> tuple[Augmentation, ...]:
    """`augmentations` as a tuple.

    Raises:
      InputError: one is no `Augmentation`, or two have one name.
    """
    for one in augmentations:
        if not isinstance(one, Augmentation):
            raise InputError(f"{quoted(one)} is no Augmentation: use those of wing_jax.augment, or make one")
    names = [one.name for one in augmentations]
    twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    if twice:
        raise InputError(f"two augmentations are called {quoted(twice[0])}: leave one out, or give it another name")
    return tuple(augmentations)


def sample_params(augmentations: Sequence[Augmentation], keys: Array) -> AugmentParams:
    """The parameters of all augmentations for the faces whose keys are `keys` `[n]`, by name.

    A face's numbers depend on its key and on the augmentation's name alone: `sample(fold_in(key, crc32(name)))`.

    Args:
      augmentations: their order does not matter.
      keys: a key of JAX for each face, `[n]`.

    Returns:
      By the name of each augmentation its parameters, with the faces as leading axis.

    Example:
      >>> from wing_jax.augment import flip, rotation
      >>> keys = jax.random.split(jax.random.key(0), 4)
      >>> one, both = sample_params([rotation(20)], keys), sample_params([flip(), rotation(20)], keys)
      >>> bool((one["rotation"] == both["rotation"]).all())
      True
    """
    hashes = np.array([name_hash(one.name) for one in augmentations], np.uint32)
    if not len(hashes):
        return {}
    named = jax.vmap(lambda data: jax.vmap(lambda key: jax.random.fold_in(key, data))(keys))(hashes)
    return {one.name: jax.vmap(one.sample)(named[i]) for i, one in enumerate(augmentations)}


def name_hash(name: str) -> int:
    """The number that an augmentation's name folds into a face's key; 0 for no name, and the same in every process."""
    return zlib.crc32(name.encode())


def apply_geometry(augmentations: Sequence[Augmentation], params: AugmentParams, *, count: int) -> Affine:
    """The matrices `[count, 2, 3]` of all geometric augmentations, in the order in which a face meets them.

    They are from the augmented crop to the crop as it was, in fractions of its side about its center.

    Args:
      augmentations: those that sampled `params`; those of pixels are passed over.
      params: of `sample_params`.
      count: faces.

    Returns:
      Affines `[count, 2, 3]`, the identity where there is no geometric augmentation.

    >>> from wing_jax.augment import flip, rotation
    >>> chosen = [rotation(20), flip()]
    >>> params = sample_params(chosen, jax.random.split(jax.random.key(0), 4))
    >>> apply_geometry(chosen, params, count=4).shape
    (4, 2, 3)
    """
    matrices = jnp.broadcast_to(jnp.eye(2, 3, dtype=jnp.float32), (count, 2, 3))
    for one in augmentations:
        if one.on == "geometry":
            matrices = one.apply(matrices, params[one.name])
    return matrices


def apply_pixels(
    augmentations: Sequence[Augmentation], images: Float[Array, "n size size 3"], params: AugmentParams
) -> UInt8[Array, "n size size 3"]:
    """Images in 0..255 as all pixel augmentations change them, one after the other; rounded once, at the end.

    Args:
      augmentations: those that sampled `params`; those of geometry are passed over.
      images: `[n, size, size, 3]`, RGB in 0..255.
      params: of `sample_params`.

    Returns:
      uint8 `[n, size, size, 3]`.

    >>> from wing_jax.augment import noise
    >>> params = sample_params([noise(8)], jax.random.split(jax.random.key(0), 2))
    >>> apply_pixels([noise(8)], jnp.full((2, 8, 8, 3), 128.0), params).dtype
    dtype('uint8')
    """
    for one in augmentations:
        if one.on == "pixels":
            images = one.apply(images, params[one.name])
    return jnp.clip(jnp.round(images), 0, 255).astype(jnp.uint8)


def apply_pixels_on_host(
    augmentations: Sequence[Augmentation], images: UInt8[np.ndarray, "n size size 3"], params: Mapping[str, Any]
) -> UInt8[np.ndarray, "n size size 3"]:
    """`apply_pixels` on uint8 images, which are overwritten, rounded after each step: by each augmentation's `host`, or
    by its `apply` on the CPU device where it has none.

    Args:
      augmentations: those that sampled `params`; those of geometry are passed over.
      images: uint8 `[n, size, size, 3]`, RGB; they may be overwritten.
      params: of `sample_params`, as NumPy arrays.

    Returns:
      uint8 `[n, size, size, 3]`.

    >>> from wing_jax.augment import noise
    >>> params = jax.device_get(sample_params([noise(8)], jax.random.split(jax.random.key(0), 2)))
    >>> apply_pixels_on_host([noise(8)], np.full((2, 8, 8, 3), 128, np.uint8), params).shape
    (2, 8, 8, 3)
    """
    for one in augmentations:
        if one.on == "pixels" and one.host is not None:
            images = one.host(images, params[one.name])
        elif one.on == "pixels":
            images = np.array(_on_cpu(one.apply)(*jax.device_put((images, params[one.name]), cpu_device())))
    return images


@functools.lru_cache(maxsize=64)
def _on_cpu(apply: Callable[[Any, Any], Any]) -> Callable[[Array, Any], Array]:
    def rounded(images: Array, params: Any) -> Array:
        return jnp.clip(jnp.round(apply(images.astype(jnp.float32), params)), 0, 255).astype(jnp.uint8)

    return jax.jit(rounded)


@functools.cache
def cpu_device() -> jax.Device:
    """This process's first CPU device, on which the host draws; its first device where JAX was told to start no CPU."""
    try:
        return jax.local_devices(backend="cpu")[0]
    except RuntimeError:
        return jax.local_devices()[0]


def mirrored(matrices: Affine) -> Bool[Array | np.ndarray, "*batch"]:
    """Whether each of these affines shows a mirror image: the points' names are swapped then."""
    return matrices[..., 0, 0] * matrices[..., 1, 1] < matrices[..., 0, 1] * matrices[..., 1, 0]


def check_between(name: str, value: int | float, low: int | float, high: int | float) -> float:
    """`value` of an augmentation's argument `name`. Raises InputError where it does not lie between the two numbers."""
    if not low <= value <= high:
        raise InputError(f"{name}={value} must lie between {low:,} and {high:,}")
    return float(value)
