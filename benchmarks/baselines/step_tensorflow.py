"""Run training steps in TensorFlow: "function" (a `tf.function` with a gradient tape) or "fit" (of Keras)."""

import time

import numpy as np
from worker import Ready, serve, timed

LEARNING_RATE, MOMENTUM, WEIGHT_DECAY = 1e-4, 0.9, 5e-4
WIDTH, EPSILON = 10.0, 2.0
STEPS_PER_EXECUTION = 8  # in fit: steps before TensorFlow returns to Python


def prepare(settings: dict) -> Ready:
    """Build the network and take the first three steps."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(2)
    tf.config.threading.set_inter_op_parallelism_threads(2)
    initial = dict(np.load(settings["start"]))
    model = build(settings, initial)
    images, points = tf.constant(initial["images"]), tf.constant(initial["points"].reshape(len(initial["points"]), -1))
    seconds, check = (by_function if settings["kind"] == "function" else by_fit)(model, images, points)
    return Ready(seconds=seconds, packages=["tensorflow-cpu", "keras"], check=check)


def wing_loss(target, predicted):
    """Return the mean of the Wing loss."""
    import tensorflow as tf

    distance = tf.abs(predicted - target)
    offset = WIDTH - WIDTH * np.log1p(WIDTH / EPSILON)
    values = tf.where(distance < WIDTH, WIDTH * tf.math.log1p(distance / EPSILON), distance - offset)
    return tf.reduce_mean(values)


def by_function(model, images, points) -> tuple:
    """Return the timing function and check values of steps in one graph."""
    import keras
    import tensorflow as tf

    optimizer = keras.optimizers.SGD(LEARNING_RATE, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)
    optimizer.build(model.trainable_variables)

    @tf.function
    def step(images, points):
        with tf.GradientTape() as tape:
            loss = wing_loss(points, model(images, training=True))
        optimizer.apply(tape.gradient(loss, model.trainable_variables))
        return loss

    def advance(count: int) -> float:
        for _ in range(count):
            loss = step(images, points)
        return float(loss)

    return timed(advance), [advance(1) for _ in range(3)]


def by_fit(model, images, points) -> tuple:
    """Return the timing function and check values of `fit`, which repeats the same batch."""
    import keras
    import tensorflow as tf

    optimizer = keras.optimizers.SGD(LEARNING_RATE, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)
    model.compile(optimizer, loss=wing_loss, jit_compile=False, steps_per_execution=STEPS_PER_EXECUTION)
    check = [float(model.train_on_batch(images, points)) for _ in range(3)]
    batches = tf.data.Dataset.from_tensors((images, points)).cache().repeat()

    def seconds(count: int) -> float:
        rounded = -(-count // STEPS_PER_EXECUTION) * STEPS_PER_EXECUTION  # fit takes at least so many
        start = time.perf_counter()
        model.fit(batches, steps_per_epoch=rounded, epochs=1, verbose=0)
        return (time.perf_counter() - start) * count / rounded

    seconds(STEPS_PER_EXECUTION)
    return seconds, check


def build(settings: dict, initial: dict):
    """Build the network with the initial kernels."""
    import keras
    from keras import layers

    size = settings["size"]
    model = keras.Sequential([keras.Input((size, size, 3), dtype="uint8"), layers.Rescaling(1 / 255)])
    for channels in settings["channels"]:
        model.add(layers.Conv2D(channels, 3, padding="same", activation="relu"))
        model.add(layers.MaxPooling2D(2))
    model.add(layers.Flatten())
    model.add(layers.Dense(settings["hidden"], activation="relu"))
    model.add(layers.Dense(2 * settings["points"]))
    trainable = [layer for layer in model.layers if layer.weights]
    for i, layer in enumerate(trainable):
        layer.set_weights([initial[f"kernel{i}"], np.zeros(initial[f"kernel{i}"].shape[-1], np.float32)])
    return model


if __name__ == "__main__":
    serve(prepare)
