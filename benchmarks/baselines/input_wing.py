"""Make batches of augmented crops with wing_jax: by tf.data from uint8 or JPEG, or under `jit` on the device."""

import itertools
import os

import numpy as np
from face_file import MARGIN, jpeg_files, read
from worker import Ready, serve, stream

FOREVER = 1 << 40  # steps


def prepare(settings: dict) -> Ready:
    """Start the stream."""
    os.environ["JAX_PLATFORMS"] = "cpu"
    faces = read(settings["data"])
    if settings["on_device"]:
        advance = device_stream(settings, faces)
    else:
        batches = host_batches(settings, faces)
        advance = batches.__next__
    warm = stream(advance)
    warm(16)
    packages = ["jax"] if settings["on_device"] else ["tensorflow-cpu", "opencv-python"]
    return Ready(seconds=warm, packages=packages)


def host_batches(settings: dict, faces: dict):
    """Return the tf.data pipeline of `wing-jax train`, from uint8 face crops or from JPEG."""
    from wing_jax.input.tfdata import training_batches

    return training_batches(host_input(settings, faces), last_step=FOREVER)


def device_stream(settings: dict, faces: dict):
    """Return a function that makes the next batch on the device, as in a training with one step for each program."""
    from wing_jax.runtime import devices

    devices.prepare_xla()
    import jax

    from wing_jax.input.sampling import BatchIndices, EpochSampler

    source, faces_on_host = device_source(settings, faces)
    on_device = jax.device_put(faces_on_host)
    indices = EpochSampler(faces_on_host.order, batch_size=source.batch_size, seed=source.seed)
    make = jax.jit(lambda stored, steps: source.batch(stored, BatchIndices(*(values[0] for values in steps))))
    steps = itertools.count()
    return lambda: jax.block_until_ready(make(on_device, indices(next(steps), 1)))


def device_source(settings: dict, faces: dict):
    """Return the on-device input and its faces, which are still on the host."""
    from wing_jax.augment.geometric import supersampling
    from wing_jax.config import AugmentConfig
    from wing_jax.from_config.augment import augmentations_of
    from wing_jax.input.on_device import DeviceInput, training_faces

    crops = face_crops(settings, faces)
    transforms = transforms_of(crops, settings["size"])[:, None]
    source = DeviceInput(
        augment=augmentations_of(AugmentConfig(**settings["augment"])),
        size=settings["size"],
        image_size=crops.size,
        batch_size=settings["batch"],
        supersample=supersampling(transforms),
        seed=0,
    )
    return source, training_faces(crops, transforms, order=np.arange(len(transforms)), flip=faces["flip"])


def host_input(settings: dict, faces: dict):
    """Return the input that crops the batch of a step on the host."""
    from wing_jax.config import AugmentConfig
    from wing_jax.from_config.augment import augmentations_of
    from wing_jax.input.on_host import HostInput

    crops = face_crops(settings, faces)
    return HostInput(
        face_crops=crops,
        crop_to_image=transforms_of(crops, settings["size"])[:, None],
        order=np.arange(len(crops.points)),
        flip=faces["flip"],
        augment=augmentations_of(AugmentConfig(**settings["augment"])),
        size=settings["size"],
        batch_size=settings["batch"],
        seed=0,
    )


def face_crops(settings: dict, faces: dict):
    """Return the faces as wing_jax stores them: pixels, or JPEG files that are decoded to the same face crop size."""
    from wing_jax.data.encoded import JpegImages
    from wing_jax.data.face_crops import FaceCrops

    images = faces["images"]
    if settings["source"] == "jpeg":
        images = JpegImages(records=jpeg_files(faces), stored=256, size=images.shape[1])
    identity = np.broadcast_to(np.eye(2, 3, dtype=np.float32), (len(images), 2, 3))
    visible = np.ones(faces["points"].shape[:2], bool)
    return FaceCrops(
        images=images, crop_to_image=identity, boxes=faces["boxes"], points=faces["points"], visible=visible
    )


def transforms_of(crops, size: int) -> np.ndarray:
    """Return the transforms of the unperturbed crops of the first stage."""
    from wing_jax.geometry import crop_of_box

    return crop_of_box(crops.boxes, size=size, margin=MARGIN)


if __name__ == "__main__":
    serve(prepare)
