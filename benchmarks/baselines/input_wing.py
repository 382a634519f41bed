"""Batches of augmented crops by wing_jax: tf.data from uint8 or JPEG, or under `jit` on the device."""

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
    """The tf.data pipeline of `wing-jax train`, from uint8 face crops or from JPEG."""
    from wing_jax.input.tfdata import training_batches

    return training_batches(host_input(settings, faces), last_step=FOREVER)


def device_stream(settings: dict, faces: dict):
    """A function that makes the next batch on the device, as a training with one step a program does, and waits for
    it."""
    from wing_jax.runtime import devices

    devices.prepare_xla()
    import jax

    from wing_jax.input.sampling import BatchIndices, EpochSampler

    source, held = device_source(settings, faces)
    on_device = jax.device_put(held)
    indices = EpochSampler(held.order, batch_size=source.batch_size, seed=source.seed)
    make = jax.jit(lambda held, steps: source.batch(held, BatchIndices(*(values[0] for values in steps))))
    steps = itertools.count()
    return lambda: jax.block_until_ready(make(on_device, indices(next(steps), 1)))


def device_source(settings: dict, faces: dict):
    """How batches are made on the device, and the faces that it makes them from, still on the host."""
    from wing_jax.augment.geometric import supersampling
    from wing_jax.config import AugmentConfig
    from wing_jax.from_config.augment import augmentations_of
    from wing_jax.input.on_device import DeviceInput, training_faces

    held = face_crops(settings, faces)
    transforms = transforms_of(held, settings["size"])[:, None]
    source = DeviceInput(
        augment=augmentations_of(AugmentConfig(**settings["augment"])),
        size=settings["size"],
        batch_size=settings["batch"],
        supersample=supersampling(transforms),
        seed=0,
    )
    return source, training_faces(held, transforms, order=np.arange(len(transforms)), flip=faces["flip"])


def host_input(settings: dict, faces: dict):
    """What decides and cuts the batch of a step."""
    from wing_jax.config import AugmentConfig
    from wing_jax.from_config.augment import augmentations_of
    from wing_jax.input.on_host import HostInput

    held = face_crops(settings, faces)
    return HostInput(
        face_crops=held,
        crop_to_image=transforms_of(held, settings["size"])[:, None],
        order=np.arange(len(held.points)),
        flip=faces["flip"],
        augment=augmentations_of(AugmentConfig(**settings["augment"])),
        size=settings["size"],
        batch_size=settings["batch"],
        seed=0,
    )


def face_crops(settings: dict, faces: dict):
    """The faces as wing_jax holds them: pixels, or JPEG files that are decoded to the same face crop size."""
    from wing_jax.data.encoded import JpegImages
    from wing_jax.data.face_crops import FaceCrops

    images = faces["images"]
    if settings["source"] == "jpeg":
        images = JpegImages(records=jpeg_files(faces), stored=256, size=images.shape[1])
    whole = np.broadcast_to(np.eye(2, 3, dtype=np.float32), (len(images), 2, 3))
    visible = np.ones(faces["points"].shape[:2], bool)
    return FaceCrops(images=images, crop_to_image=whole, boxes=faces["boxes"], points=faces["points"], visible=visible)


def transforms_of(held, size: int) -> np.ndarray:
    """The unperturbed crops of the first stage."""
    from wing_jax.geometry import crop_of_box

    return crop_of_box(held.boxes, size=size, margin=MARGIN)


if __name__ == "__main__":
    serve(prepare)
