"""The tf.data input pipeline: the batches of the steps, made in threads and prefetched.

`wing_jax.input.on_host` makes each batch in tf.data's threads, several times faster than TensorFlow's ops for single
images. The stream is the same for any number of threads and can start at any step, so an interrupted run resumes bit
for bit.
"""

from collections.abc import Iterator

from wing_jax.input.on_host import HostInput
from wing_jax.runtime.devices import default_settings
from wing_jax.runtime.tensorflow_runtime import tensorflow
from wing_jax.types import Batch

PREFETCHED = 2  # batches


def training_batches(
    batches: HostInput, *, first_step: int = 0, last_step: int, part: int = 0, parts: int = 1, threads: int = 2
) -> Iterator[Batch]:
    """Return the batches of steps `first_step` .. `last_step` - 1, made by `batches` in `threads` threads.

    If several processes share a batch, each gets piece number `part` of its `parts` equal pieces.

    Raises:
      InputError: TensorFlow is not installed.
    """
    tf = tensorflow()
    example = batches(first_step, part, parts)

    def make_arrays(step):
        with default_settings():  # JAX's settings are per thread
            return list(batches(int(step), part, parts))

    def make_batch(step):
        arrays = tf.numpy_function(make_arrays, [step], [value.dtype for value in example])
        for array, value in zip(arrays, example, strict=True):
            array.set_shape(value.shape)
        return Batch(*arrays)

    steps = tf.data.Dataset.range(first_step, last_step)
    dataset = steps.map(make_batch, num_parallel_calls=threads, deterministic=True).prefetch(PREFETCHED)
    return dataset.as_numpy_iterator()
