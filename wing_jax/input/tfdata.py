"""The tf.data input pipeline: each step's faces, duplicated by HSM, shuffled, augmented and warped once, prefetched.

What a step shows is decided and cut by `wing_jax.input.on_host`, a batch at a time, in tf.data's threads: several
times faster than TensorFlow's own ops image by image. The stream is the same for any number of threads and can start at
any step: that is how an interrupted run goes on bit for bit.
"""

from collections.abc import Iterator

from wing_jax.input.on_host import HostInput
from wing_jax.runtime.devices import usual_settings
from wing_jax.runtime.tensorflow_runtime import tensorflow
from wing_jax.types import Batch

PREFETCHED = 2  # batches


def training_batches(
    batches: HostInput, *, first_step: int = 0, last_step: int, part: int = 0, parts: int = 1, threads: int = 2
) -> Iterator[Batch]:
    """Batches of steps `first_step` .. `last_step` - 1 as `batches` makes them, cut by `threads` threads ahead of their
    use; of each the given one of `parts` equal pieces, where several processes share a batch.

    Raises:
      InputError: TensorFlow is not installed.
    """
    tf = tensorflow()
    like = batches(first_step, part, parts)

    def cut(step):
        with usual_settings():  # which JAX keeps for each thread apart
            return list(batches(int(step), part, parts))

    def make(step):
        arrays = tf.numpy_function(cut, [step], [value.dtype for value in like])
        for array, value in zip(arrays, like, strict=True):
            array.set_shape(value.shape)
        return Batch(*arrays)

    steps = tf.data.Dataset.range(first_step, last_step)
    dataset = steps.map(make, num_parallel_calls=threads, deterministic=True).prefetch(PREFETCHED)
    return dataset.as_numpy_iterator()
