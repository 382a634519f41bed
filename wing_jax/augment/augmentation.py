"""An augmentation: `sample` draws random parameters for one face from a key, `apply` applies them to crops.

Arrays are JAX's, float32; images are `[n, size, size, 3]` in 0..255.

A geometric augmentation does not return images but matrices `[2, 3]`: affines from the augmented crop to the original
crop, in fractions of the crop's side about its center: x = (pixel - (size - 1) / 2) / size. The matrices of all
augmentations of a list are composed to ONE, which moves the points and resamples the image once.
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

AugmentParams = dict[str, Any]  # augmentation name -> parameters, with the faces as leading axis
UNBOUNDED = float(np.finfo(np.float32).max)  # the largest strength if there is no other limit
Factory = Callable[..., "Augmentation"]


@dataclasses.dataclass(frozen=True, repr=False)
class Augmentation:
    """A random change of face crops: the pure functions `sample` and `apply`.

    Args:
      name: its name. Its random numbers are derived from this name, the seed, the epoch and the position of the face in
        the epoch. Other augmentations in the list do not affect them.
      sample: `sample(key) -> params`, the parameters of one face as any pytree of arrays. It is vmapped over the faces.
      apply: `apply(matrices, params) -> matrices`, float32 `[n, 2, 3]` in fractions of the crop about its center, or
        `apply(images, params) -> images`, float32 `[n, size, size, 3]` in 0..255; `params` are those of `n` faces.
      on: "geometry" for matrices, "pixels" for images.
      host: for pixels, the equivalent of `apply` with NumPy or OpenCV on uint8 images `[n, size, size, 3]`, which it
        may overwrite; for the tf.data input, where OpenCV is faster. None: that input calls `apply` on the CPU device.

    Raises:
      InputError: the name is empty, or `on` is not "geometry" or "pixels".

    Example:
      >>> import jax
      >>> invert = Augmentation(
      ...     "invert",
      ...     sample=lambda key: jax.random.bernoulli(key, 0.5),
      ...     apply=lambda images, inverted: jax.numpy.where(inverted[:, None, None, None], 255 - images, images),
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
            raise InputError(f"name={quoted(self.name)}: pass a non-empty name for the augmentation")
        if self.on not in ("geometry", "pixels"):
            raise InputError(f"on={quoted(self.on)} of the augmentation {quoted(self.name)}: use geometry or pixels")

    def __repr__(self) -> str:
        return f"<Augmentation {self.name!r} on {self.on}>"


def _check_factory(name: str, factory: Any) -> Factory:
    if not callable(factory):
        raise InputError(
            f"the augmentation {quoted(name)} is not a function that returns an Augmentation: fix its entry point"
        )
    return factory


AUGMENTATIONS: Registry[Factory] = Registry("augmentation", group="wing_jax.augmentations", adopt=_check_factory)


def register_augmentation(factory: Factory | None = None, *, name: str | None = None) -> Any:
    """Register a function that returns an `Augmentation`, so that configs and the command line find it by name.

    Usable as a decorator. The option is `--stage1.augment.extra.NAME.ARGUMENT VALUE` (or `--stage2...`).

    Args:
      factory: a function of numeric keyword arguments that returns an `Augmentation`.
      name: its name in configs; the function's name if None.

    Returns:
      `factory`, unchanged; without `factory`, a decorator.

    Raises:
      ValueError: the name is already registered.

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
    """Make an augmentation with the factory registered as `name`.

    Args:
      name: name of a registered factory.
      **arguments: arguments of the factory.

    Returns:
      The augmentation.

    Raises:
      InputError: there is no such factory, or it rejects these arguments.

    Example:
      >>> import wing_jax.augment
      >>> make_augmentation("rotation", degrees=20.0)
      <Augmentation 'rotation' on geometry>
    """
    factory = AUGMENTATIONS[name]
    try:
        result = factory(**arguments)
    except (TypeError, ValueError) as error:
        raise InputError(f"augmentation {quoted(name)}: {reason(error)}") from error
    if not isinstance(result, Augmentation):
        raise InputError(f"augmentation {quoted(name)}: its function returned {quoted(result)}: return an Augmentation")
    return result


def check_augmentations(augmentations: Sequence[Augmentation]) -> tuple[Augmentation, ...]:
    """Check `augmentations` and return them as a tuple.

    Raises:
      InputError: one is not an `Augmentation`, or two have the same name.
    """
    for augmentation in augmentations:
        if not isinstance(augmentation, Augmentation):
            raise InputError(
                f"{quoted(augmentation)} is not an Augmentation: use those of wing_jax.augment, or make one"
            )
    names = [augmentation.name for augmentation in augmentations]
    duplicates = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    if duplicates:
        raise InputError(f"two augmentations are called {quoted(duplicates[0])}: remove or rename one")
    return tuple(augmentations)


def sample_params(augmentations: Sequence[Augmentation], keys: Array) -> AugmentParams:
    """Sample the parameters of all augmentations, by name, for the faces whose keys are `keys` `[n]`.

    A face's random numbers depend only on its key and on the augmentation's name: `sample(fold_in(key, crc32(name)))`.

    Args:
      augmentations: in any order.
      keys: a JAX key for each face, `[n]`.

    Returns:
      The parameters of each augmentation by its name, with the faces as leading axis.

    Example:
      >>> from wing_jax.augment import flip, rotation
      >>> keys = jax.random.split(jax.random.key(0), 4)
      >>> alone, both = sample_params([rotation(20)], keys), sample_params([flip(), rotation(20)], keys)
      >>> bool((alone["rotation"] == both["rotation"]).all())
      True
    """
    hashes = np.array([name_hash(augmentation.name) for augmentation in augmentations], np.uint32)
    if not len(hashes):
        return {}
    keys_by_name = jax.vmap(lambda data: jax.vmap(lambda key: jax.random.fold_in(key, data))(keys))(hashes)
    return {
        augmentation.name: jax.vmap(augmentation.sample)(keys_by_name[i])
        for i, augmentation in enumerate(augmentations)
    }


def name_hash(name: str) -> int:
    """Return the number that is folded into a face's key for a name: the same in every process; 0 for an empty name."""
    return zlib.crc32(name.encode())


def apply_geometry(augmentations: Sequence[Augmentation], params: AugmentParams, *, count: int) -> Affine:
    """Compose the matrices `[count, 2, 3]` of all geometric augmentations, in the order of the list.

    They map points of the augmented crop to the original crop, in fractions of the side, relative to the center.

    Args:
      augmentations: those that sampled `params`; pixel augmentations are skipped.
      params: from `sample_params`.
      count: number of faces.

    Returns:
      Affine matrices `[count, 2, 3]`; identities if there is no geometric augmentation.

    >>> from wing_jax.augment import flip, rotation
    >>> augmentations = [rotation(20), flip()]
    >>> params = sample_params(augmentations, jax.random.split(jax.random.key(0), 4))
    >>> apply_geometry(augmentations, params, count=4).shape
    (4, 2, 3)
    """
    matrices = jnp.broadcast_to(jnp.eye(2, 3, dtype=jnp.float32), (count, 2, 3))
    for augmentation in augmentations:
        if augmentation.on == "geometry":
            new = augmentation.apply(matrices, params[augmentation.name])
            _check_shape(augmentation, jnp.shape(new), matrices.shape)
            matrices = new
    return matrices


def apply_pixels(
    augmentations: Sequence[Augmentation], images: Float[Array, "n size size 3"], params: AugmentParams
) -> UInt8[Array, "n size size 3"]:
    """Apply all pixel augmentations in order to images in 0..255; round once, at the end.

    Args:
      augmentations: those that sampled `params`; geometric augmentations are skipped.
      images: `[n, size, size, 3]`, RGB in 0..255.
      params: from `sample_params`.

    Returns:
      uint8 `[n, size, size, 3]`.

    >>> from wing_jax.augment import noise
    >>> params = sample_params([noise(8)], jax.random.split(jax.random.key(0), 2))
    >>> apply_pixels([noise(8)], jnp.full((2, 8, 8, 3), 128.0), params).dtype
    dtype('uint8')
    """
    for augmentation in augmentations:
        if augmentation.on == "pixels":
            new = augmentation.apply(images, params[augmentation.name])
            _check_shape(augmentation, jnp.shape(new), images.shape)
            images = new
    return jnp.clip(jnp.round(images), 0, 255).astype(jnp.uint8)


def _check_shape(augmentation: Augmentation, shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
    if shape != expected:
        kind = "matrices" if augmentation.on == "geometry" else "images"
        raise InputError(
            f"augmentation {quoted(augmentation.name)}: apply returned {kind} {list(shape)} for {list(expected)}: "
            "return the same shape"
        )


def apply_pixels_on_host(
    augmentations: Sequence[Augmentation], images: UInt8[np.ndarray, "n size size 3"], params: Mapping[str, Any]
) -> UInt8[np.ndarray, "n size size 3"]:
    """Apply all pixel augmentations in order to uint8 images, which may be overwritten; round after each.

    Each augmentation's `host` is used, or its `apply` on the CPU device if it has no `host`.

    Args:
      augmentations: those that sampled `params`; geometric augmentations are skipped.
      images: uint8 `[n, size, size, 3]`, RGB; they may be overwritten.
      params: from `sample_params`, as NumPy arrays.

    Returns:
      uint8 `[n, size, size, 3]`.

    >>> from wing_jax.augment import noise
    >>> params = jax.device_get(sample_params([noise(8)], jax.random.split(jax.random.key(0), 2)))
    >>> apply_pixels_on_host([noise(8)], np.full((2, 8, 8, 3), 128, np.uint8), params).shape
    (2, 8, 8, 3)
    """
    for augmentation in augmentations:
        if augmentation.on == "pixels" and augmentation.host is not None:
            images = augmentation.host(images, params[augmentation.name])
        elif augmentation.on == "pixels":
            images = np.array(
                _on_cpu(augmentation.apply)(*jax.device_put((images, params[augmentation.name]), cpu_device()))
            )
    return images


@functools.lru_cache(maxsize=64)
def _on_cpu(apply: Callable[[Any, Any], Any]) -> Callable[[Array, Any], Array]:
    def rounded(images: Array, params: Any) -> Array:
        return jnp.clip(jnp.round(apply(images.astype(jnp.float32), params)), 0, 255).astype(jnp.uint8)

    return jax.jit(rounded)


@functools.cache
def cpu_device() -> jax.Device:
    """Return this process's first CPU device, on which the host samples; its first device if JAX has no CPU backend."""
    try:
        return jax.local_devices(backend="cpu")[0]
    except RuntimeError:
        return jax.local_devices()[0]


def mirrored(matrices: Affine) -> Bool[Array | np.ndarray, "*batch"]:
    """Return whether each affine shows a mirror image, in which the names of the points are swapped."""
    return matrices[..., 0, 0] * matrices[..., 1, 1] < matrices[..., 0, 1] * matrices[..., 1, 0]


def check_between(name: str, value: int | float, low: int | float, high: int | float) -> float:
    """Return `value` of an augmentation's argument `name`; raise InputError if it is not between the two numbers."""
    if not low <= value <= high:
        raise InputError(f"{name}={value} must be between {low:,} and {high:,}")
    return float(value)
