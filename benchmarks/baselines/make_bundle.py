"""Write into a folder what the inference comparison needs: `model`, a bundle of two stages of configs/w300.py's shapes
with random weights; `onnx`, the same exported; `crops.npz`; and `photo.npz`, a picture with a few hundred boxes, and
faces to train dlib on."""

import dataclasses
import json
import sys
from pathlib import Path

import jax
import numpy as np

from wing_jax.config import load_config
from wing_jax.data.load import load_faces
from wing_jax.export import crops_of, export
from wing_jax.inference.localizer import Localizer, Stage
from wing_jax.models import describe_model, make_model
from wing_jax.train.crops import face_crop_size, mean_shape, template_of

CONFIG = Path(__file__).parents[2] / "configs" / "w300.py"
MOST = 256  # faces
PHOTO = 8  # synthetic faces a side


def main() -> None:
    """Make everything."""
    given = json.loads(sys.argv[1])
    folder = Path(given["folder"])
    faces = load_faces("synthetic", "train", count=PHOTO * PHOTO, seed=2)
    made = localizer(faces)
    made.save(folder / "model")
    export(made, "onnx", folder / "onnx", crops_of(made, faces))
    random = np.random.default_rng(0)
    np.savez(folder / "crops.npz", images=random.integers(0, 256, (MOST, 64, 64, 3), dtype=np.uint8))
    np.savez(folder / "photo.npz", **photo(faces))
    count = given["trained_on"]
    pictures = np.stack([faces.picture(i) for i in range(count)])
    np.savez(folder / "faces.npz", images=pictures, points=faces.points[:count], boxes=faces.boxes[:count])


def localizer(faces) -> Localizer:
    """Two untrained stages."""
    config = load_config(CONFIG)
    second = config.stage2
    height = np.ptp(faces.points, axis=1).max()
    mean = mean_shape(faces.points / (2 * height), faces.visible, flip=faces.scheme.flip)
    return Localizer(
        scheme=faces.scheme,
        box_convention=faces.box_convention,
        stages=(stage(config.stage1, 1), stage(second, 2)),
        template=template_of(mean, margin=second.margin),
    )


def stage(config, number: int) -> Stage:
    """One network; its output's bias is the middle of the crop, so that the second stage finds its crop in the face
    crop."""
    network = describe_model(make_model("plain", points=68, **config.model.params))
    size = face_crop_size(input_size=config.input_size, margin=config.margin)
    made = Stage(
        model=make_model(**network),
        variables={},
        input_size=config.input_size,
        face_crop_size=size,
        margin=config.margin,
    )
    images = np.zeros((1, config.input_size, config.input_size, 3), np.uint8)
    variables = jax.jit(made.model.init)(jax.random.key(number), images)
    random = np.random.default_rng(number)
    variables = jax.tree.map(
        lambda leaf: np.asarray(leaf) + (leaf.ndim == 1) * random.random(leaf.shape, np.float32), variables
    )
    bias = random.uniform(0.2, 0.8, 136).astype(np.float32) * config.input_size
    output = variables["params"]["output"]
    variables["params"]["output"] = {"kernel": 1e-3 * output["kernel"], "bias": bias}
    return dataclasses.replace(made, variables=variables)


def photo(faces) -> dict[str, np.ndarray]:
    """A picture of many synthetic faces, and `MOST` boxes in it, each face's several times."""
    pictures = np.stack([faces.picture(i) for i in range(PHOTO * PHOTO)])
    side = pictures.shape[1]
    whole = pictures.reshape(PHOTO, PHOTO, side, side, 3).transpose(0, 2, 1, 3, 4).reshape(PHOTO * side, -1, 3)
    places = np.arange(MOST) % (PHOTO * PHOTO)
    corners = np.stack([places % PHOTO, places // PHOTO], 1) * side
    return {"image": whole, "boxes": (faces.boxes[places] + np.tile(corners, 2)).astype(np.float32)}


if __name__ == "__main__":
    main()
