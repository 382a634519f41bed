"""Run training steps with on-device input on a mesh of virtual devices."""

import numpy as np
from worker import Ready, serve, timed

POINTS, SIDE, CROP = 68, 80, 64


def prepare(settings: dict) -> Ready:
    """Make random faces and a network, and take five steps."""
    import jax
    import optax

    from wing_jax.config import AugmentConfig
    from wing_jax.from_config.augment import augmentations_of
    from wing_jax.input.on_device import DeviceInput, TrainingFaces
    from wing_jax.losses import make_loss
    from wing_jax.models import CNN6
    from wing_jax.models.networks import as_network
    from wing_jax.runtime import devices
    from wing_jax.train.replicas import Replicas
    from wing_jax.train.runners import DeviceInputRunner
    from wing_jax.train.state import init_state
    from wing_jax.train.steps import make_train_step

    count, rng = settings["faces"], np.random.default_rng(0)
    transform = np.array([[1, 0, (SIDE - CROP) / 2], [0, 1, (SIDE - CROP) / 2]], np.float32)
    padded = count + -count % settings["devices"]
    images = rng.integers(0, 256, (1000, SIDE, SIDE, 3), dtype=np.uint8)
    faces = TrainingFaces(
        images=np.resize(images, (padded, SIDE, SIDE, 3)),
        points=np.resize(rng.uniform(20, 60, (1000, 2 * POINTS)).astype(np.float32), (count, 2 * POINTS)),
        visible=np.ones((count, POINTS), bool),
        crop_to_image=np.broadcast_to(transform.ravel(), (count, 6)).copy(),
        order=(np.arange(count) % 1000).astype(np.int32) + 1000 * (np.arange(count) // 1000).astype(np.int32),
        flip=np.arange(POINTS, dtype=np.int32)[::-1].copy(),
    )
    augment = augmentations_of(AugmentConfig(rotation=30.0, translation=0.05, scale=0.05))
    sizes = {"size": CROP, "image_size": SIDE, "batch_size": settings["batch"]}
    source = DeviceInput(augment=augment, supersample=1, seed=0, **sizes)
    network, optimizer = as_network(CNN6(points=POINTS)), optax.sgd(1e-4, momentum=0.9)
    loss = make_loss("wing", working_extent=float(CROP))
    step = make_train_step(network, optimizer, loss, reduction="mean", eyes=(36, 45))
    runner = DeviceInputRunner(step, source, faces, replicas=Replicas(devices.make_mesh(settings["devices"])))
    state = runner.place(init_state(network, optimizer, seed=0, input_size=CROP))
    state, metrics = runner.advance(state, 0, 5)
    check = [float(jax.device_get(metrics["loss"][0])[-1]) / settings["batch"] if count == 2048 else 0.0]
    progress = {"state": state, "step": 5}

    def work(number: int) -> None:
        progress["state"], metrics = runner.advance(progress["state"], progress["step"], progress["step"] + number)
        progress["step"] += number
        jax.block_until_ready(metrics)

    return Ready(timed(work), packages=("jax", "jaxlib", "flax"), check=check)


if __name__ == "__main__":
    serve(prepare)
