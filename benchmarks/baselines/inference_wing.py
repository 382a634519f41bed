"""Run wing_jax by `kind`.

It is "network" (only the first stage), "locate" (both stages from face crops), "predict" (from a photo) or "details"
(the same, with how sure the model is).
"""

from pathlib import Path

import numpy as np
from worker import Ready, serve, timed

COMPARED = 4  # faces whose points are compared


def prepare(settings: dict) -> Ready:
    """Load the bundle and compile the requested function."""
    from wing_jax.runtime import devices

    devices.prepare_xla()
    from wing_jax import Localizer
    from wing_jax.models import cpu_kernel

    cpu_kernel.load()
    kinds = {"network": network, "locate": locate, "predict": predict, "details": details}
    localizer = Localizer.load(settings["bundle"])
    once, check = kinds[settings["kind"]](localizer, Path(settings["folder"]), settings["batch"])

    def work(count: int) -> None:
        for _ in range(count):
            once()

    work(3)
    return Ready(seconds=timed(work), packages=["jax", "jaxlib", "flax"], check=check)


def network(localizer, folder: Path, batch: int) -> tuple:
    """Return the function from crops to points by the first stage."""
    import jax

    from wing_jax.models.networks import as_network
    from wing_jax.train.steps import make_predict

    stage = localizer.stages[0]
    crops = np.load(folder / "crops.npz")["images"]
    run, variables = make_predict(as_network(stage.model)), jax.device_put(stage.variables)
    check = np.asarray(run(variables, crops[:COMPARED])).ravel()
    return lambda: np.asarray(run(variables, crops[:batch])), check


def locate(localizer, folder: Path, batch: int) -> tuple:
    """Return the function from face crops and boxes to points."""
    photo = np.load(folder / "photo.npz")
    face_crops, boxes = cut_face_crops(localizer, photo["image"], photo["boxes"][:batch])
    return lambda: localizer.locate(face_crops, boxes), ()


def cut_face_crops(localizer, image: np.ndarray, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return face crops of the last stage's size, and the boxes in their pixels."""
    from wing_jax.data.face_crops import crop_face

    pairs = [crop_face(image, box, size=localizer.stages[-1].face_crop_size) for box in boxes]
    face_crops, transforms = (
        np.stack([face_crop for face_crop, _ in pairs]),
        np.stack([transform for _, transform in pairs]),
    )
    inside = (boxes.reshape(-1, 2, 2) - transforms[:, None, :, 2]) / transforms[:, :1, None, 0]
    return face_crops, inside.reshape(-1, 4).astype(np.float32)


def predict(localizer, folder: Path, batch: int) -> tuple:
    """Return the function from a photo and boxes to points."""
    photo = np.load(folder / "photo.npz")
    image, boxes = photo["image"], photo["boxes"][:batch]
    return lambda: localizer.predict(image, boxes), ()


def details(localizer, folder: Path, batch: int) -> tuple:
    """Return the function from a photo and boxes to points and covariances."""
    photo = np.load(folder / "photo.npz")
    image, boxes = photo["image"], photo["boxes"][:batch]
    return lambda: localizer.predict_details([image], [boxes]), ()


if __name__ == "__main__":
    serve(prepare)
