"""Make batches of augmented crops with a chain of TensorFlow ops for each image, mapped by tf.data."""

import numpy as np
from face_file import HALVED, crop_side, jpeg_files, points_at, read
from worker import Ready, serve, stream

PREFETCHED = 2  # batches


def prepare(settings: dict) -> Ready:
    """Start the stream."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(2)
    tf.config.threading.set_inter_op_parallelism_threads(2)
    faces = read(settings["data"])
    encoded = settings["source"] == "jpeg"
    face_crop = HALVED if encoded else faces["images"].shape[1]
    source = np.array(jpeg_files(faces)) if encoded else faces["images"]
    dataset = tf.data.Dataset.from_tensor_slices((source, points_at(faces, face_crop)))
    dataset = dataset.shuffle(1024).repeat()
    chain = make_chain(settings, face_crop=face_crop, encoded=encoded, flip=faces["flip"])
    dataset = dataset.map(chain, num_parallel_calls=tf.data.AUTOTUNE, deterministic=False)
    # A fixed number: with the automatic one, the pipeline would also work during the turns of others.
    batches = dataset.batch(settings["batch"], drop_remainder=True).prefetch(PREFETCHED).as_numpy_iterator()
    warm = stream(batches.__next__, drained=4)
    warm(16)
    return Ready(seconds=warm, packages=["tensorflow-cpu"])


def make_chain(settings: dict, *, face_crop: int, encoded: bool, flip: np.ndarray):
    """Return the function that applies all augmentations to an image and its points, as in tutorials."""
    import tensorflow as tf

    augment, size, side = settings["augment"], settings["size"], crop_side(face_crop)

    def chain(image, points):
        image = tf.io.decode_jpeg(image, channels=3, ratio=2) if encoded else image
        image = tf.ensure_shape(image, (face_crop, face_crop, 3))
        image, points = tf.cast(image, tf.float32), points
        image, points = rotate(image, points, uniform(augment["rotation"]) * np.float32(np.pi / 180))
        image, points = crop(image, points, side, augment)
        points = (points + 0.5) * (size / side) - 0.5
        image = tf.image.resize(image, (size, size))
        image, points = mirror(image, points, flip, size, augment["flip"])
        blurs = tf.random.uniform([]) < augment["blur"]
        image = tf.cond(blurs, lambda: blur(image, augment["blur_sigma"]), lambda: image)
        if augment.get("color"):
            image = recolor(image, augment["color"])
        if augment.get("occlusion"):
            image = occlude(image, size, augment)
        return tf.cast(tf.clip_by_value(tf.round(image), 0, 255), tf.uint8), points

    return chain


def uniform(limit: float, shape=()):
    """Return random numbers within +- `limit`."""
    import tensorflow as tf

    return tf.random.uniform(shape, -limit, limit)


def rotate(image, points, radians):
    """Rotate about the center."""
    import tensorflow as tf

    center = (image.shape[0] - 1) / 2
    cosine, sine = tf.cos(radians), tf.sin(radians)
    shift_x, shift_y = center - cosine * center + sine * center, center - sine * center - cosine * center
    turned = tf.raw_ops.ImageProjectiveTransformV3(
        images=image[None],
        transforms=tf.stack([cosine, -sine, shift_x, sine, cosine, shift_y, 0.0, 0.0])[None],
        output_shape=image.shape[:2],
        interpolation="BILINEAR",
        fill_mode="NEAREST",
        fill_value=0.0,
    )[0]
    matrix = tf.stack([tf.stack([cosine, -sine]), tf.stack([sine, cosine])])
    return turned, (points - center) @ matrix + center


def crop(image, points, side: int, augment: dict):
    """Crop about `side` pixels near the center."""
    import tensorflow as tf

    cut = tf.cast(tf.round(side / (1 + uniform(augment["scale"]))), tf.int32)
    middle = (image.shape[0] - tf.cast(cut, tf.float32)) / 2
    corner = tf.cast(tf.round(middle + uniform(augment["translation"] * side, (2,))), tf.int32)
    corner = tf.clip_by_value(corner, 0, image.shape[0] - cut)
    piece = tf.image.crop_to_bounding_box(image, corner[1], corner[0], cut, cut)
    return piece, (points - tf.cast(corner, tf.float32) + 0.5) * (side / tf.cast(cut, tf.float32)) - 0.5


def mirror(image, points, flip: np.ndarray, size: int, probability: float):
    """Flip left to right and swap the points."""
    import tensorflow as tf

    def mirrored():
        swapped = tf.gather(points, flip)
        return tf.image.flip_left_right(image), tf.stack([size - 1 - swapped[:, 0], swapped[:, 1]], 1)

    return tf.cond(tf.random.uniform([]) < probability, mirrored, lambda: (image, points))


def blur(image, sigma: float):
    """Apply a Gaussian blur by two depthwise convolutions."""
    import tensorflow as tf

    radius = int(np.ceil(3 * sigma))
    taps = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2).astype(np.float32)
    taps = np.tile((taps / taps.sum())[:, None, None, None], (1, 1, 3, 1))
    padded = tf.pad(image, [[radius, radius], [radius, radius], [0, 0]], "SYMMETRIC")[None]
    down = tf.nn.depthwise_conv2d(padded, taps, [1, 1, 1, 1], "VALID")
    return tf.nn.depthwise_conv2d(down, taps.transpose(1, 0, 2, 3), [1, 1, 1, 1], "VALID")[0]


def recolor(image, amount: float):
    """Change contrast, brightness and channel gains."""
    import tensorflow as tf

    image = tf.image.adjust_contrast(image, 1 + uniform(amount))
    return image * (1 + uniform(0.7 * amount)) * (1 + uniform(0.3 * amount, (3,)))


def occlude(image, size: int, augment: dict):
    """Draw a gray rectangle with the given probability."""
    import tensorflow as tf

    sides = tf.random.uniform((2,), 0, augment["occlusion_side"])
    corner = tf.random.uniform((2,)) * (1 - sides)
    at = (tf.range(size, dtype=tf.float32) + 0.5) / size
    columns, rows = ((at >= corner[i]) & (at < corner[i] + sides[i]) for i in range(2))
    hidden = (rows[:, None] & columns[None])[..., None] & (tf.random.uniform([]) < augment["occlusion"])
    return tf.where(hidden, 255 * tf.random.uniform([]), image)


if __name__ == "__main__":
    serve(prepare)
