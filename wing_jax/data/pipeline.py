"""The tf.data input pipeline: records, duplicated by HSM, shuffled, perturbed, warped once, batched, prefetched.

Everything drawn depends on (seed, epoch, place in the epoch) alone, so the stream is the same for any number of
threads and can start at any step: that is how an interrupted run goes on bit for bit.
"""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped, UInt8

from wing_jax.config import PerturbConfig
from wing_jax.data.chips import Chips
from wing_jax.data.tensorflow_runtime import tensorflow

Batch = dict[str, Shaped[np.ndarray, "batch ..."]]


def training_batches(
    chips: Chips,
    frames: Float[np.ndarray, "n draws 2 3"],
    *,
    order: Int[np.ndarray, "duplicated"],
    flip: Int[np.ndarray, "points"],
    perturb: PerturbConfig,
    size: int,
    batch_size: int,
    seed: int,
    first_step: int = 0,
    last_step: int,
) -> Iterator[Batch]:
    """Batches of steps `first_step` .. `last_step` - 1.

    `frames` are each face's unperturbed crops (one is drawn where there are several), from crop pixels to chip
    pixels; `order` lists the faces of an epoch, duplicates included; `flip` is the scheme's permutation.

    Yields dicts: `images` uint8 `[batch, size, size, 3]`, `points` float32 `[batch, points, 2]` in pixels of the
    crop, `visible` bool `[batch, points]`, `index` `[batch]` of the face, `frames` `[batch, 2, 3]` of the crop.
    """
    tf = tensorflow()
    from wing_jax.data import perturb as ops

    images, points, visible, frames, order, flip = (
        tf.constant(array)
        for array in (chips.images, chips.points, chips.visible, frames, order.astype(np.int64), flip)
    )
    length, draws = int(order.shape[0]), int(frames.shape[1])
    supersample = supersampling(np.asarray(frames), size)

    def epoch(number):
        shuffled = tf.random.experimental.stateless_shuffle(order, [tf.constant(seed, tf.int64), number])
        positions = number * length + tf.range(length, dtype=tf.int64)
        return tf.data.Dataset.from_tensor_slices((shuffled, positions))

    def make(index, positions):
        uniform = ops.uniforms(seed=seed, positions=positions)
        drawn = ops.draw(uniform, perturb)
        choice = tf.cast(uniform[:, 17] * draws, tf.int64)
        unperturbed = tf.gather_nd(frames, tf.stack([index, choice], 1))
        placed = ops.perturbed_frames(unperturbed, drawn, size=size)
        crops = ops.warp(tf.gather(images, index), placed, size=size, supersample=supersample)
        crops = ops.photometric(crops, drawn, perturb, positions=positions, seed=seed)
        seen = tf.gather(visible, index)
        return {
            "images": tf.cast(tf.round(crops), tf.uint8),
            "points": ops.points_in_crop(tf.gather(points, index), placed, drawn.flip, flip),
            "visible": tf.where(drawn.flip[:, None], tf.gather(seen, flip, axis=1), seen),
            "index": index,
            "frames": placed,
        }

    first, last = first_step * batch_size, last_step * batch_size
    dataset = tf.data.Dataset.range(first // length, last // length + 1).flat_map(epoch)
    dataset = dataset.skip(first % length).take(last - first).batch(batch_size, drop_remainder=True)
    dataset = dataset.map(make, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True).prefetch(2)
    return dataset.as_numpy_iterator()


def supersampling(frames: Float[np.ndarray, "*n 2 3"], size: int) -> int:
    """How many samples a side each crop pixel needs, so that no crop reads its chip coarser than 1.5 pixels."""
    step = float(np.median(np.sqrt(np.abs(np.linalg.det(frames[..., :2])))))
    return max(1, round(step))


def fixed_crops(
    chips: Chips, frames: Float[np.ndarray, "n 2 3"], *, size: int
) -> tuple[UInt8[np.ndarray, "n size size 3"], Float[np.ndarray, "n points 2"], Bool[np.ndarray, "n points"]]:
    """Unperturbed crops, their points in crop pixels and visibility, for looking at or measuring."""
    tf = tensorflow()
    from wing_jax.data import perturb as ops

    supersample = supersampling(frames, size)
    warped = [
        np.asarray(
            ops.warp(chips.images[i : i + 64], tf.constant(frames[i : i + 64]), size=size, supersample=supersample)
        )
        for i in range(0, len(frames), 64)
    ]
    inverse = np.linalg.inv(frames[..., :2])
    points = np.einsum("nij,npj->npi", inverse, chips.points - frames[:, None, :, 2])
    return np.round(np.concatenate(warped)).astype(np.uint8), points.astype(np.float32), chips.visible
