"""Write the files of the inference comparison.

`model` is a bundle of two stages with the shapes of configs/w300.py and random weights, `onnx` its export. `crops.npz`
has crops, `photo.npz` a picture with a few hundred boxes, and `faces.npz` faces for training dlib.
"""

import dataclasses
import json
import sys
from pathlib import Path

import jax
import numpy as np

from wing_jax.config_files import load_config
from wing_jax.data.load import load_faces
from wing_jax.export import export, make_crops
from wing_jax.inference.localizer import Localizer, Stage
from wing_jax.models import describe_model, make_model
from wing_jax.train.crops import face_crop_size, mean_shape, template_of

CONFIG = Path(__file__).parents[2] / "configs" / "w300.py"
MAX_FACES = 256
PHOTO = 8  # synthetic faces a side


def main() -> None:
    """Write all files."""
    settings = json.loads(sys.argv[1])
    folder = Path(settings["folder"])
    faces = load_faces("synthetic", "train", count=PHOTO * PHOTO, seed=2)
    model = make_localizer(faces)
    model.save(folder / "model")
    export(model, "onnx", folder / "onnx", make_crops(model, faces))
    rng = np.random.default_rng(0)
    np.savez(folder / "crops.npz", images=rng.integers(0, 256, (MAX_FACES, 64, 64, 3), dtype=np.uint8))
    np.savez(folder / "photo.npz", **make_photo(faces))
    count = settings["trained_on"]
    pictures = np.stack([faces.picture(i) for i in range(count)])
    np.savez(folder / "faces.npz", images=pictures, points=faces.points[:count], boxes=faces.boxes[:count])


def make_localizer(faces) -> Localizer:
    """Return a localizer of two untrained stages."""
    config = load_config(CONFIG)
    second = config.stage2
    height = np.ptp(faces.points, axis=1).max()
    mean = mean_shape(faces.points / (2 * height), faces.visible, flip=faces.scheme.flip)
    return Localizer(
        scheme=faces.scheme,
        box_convention=faces.box_convention,
        stages=(make_stage(config.stage1, 1), make_stage(second, 2)),
        template=template_of(mean, margin=second.margin),
    )


def make_stage(config, number: int) -> Stage:
    """Return a stage whose output bias is near the center of the crop, so that the second crop is in the face crop."""
    network = describe_model(make_model("plain", points=68, **config.model.params))
    size = face_crop_size(input_size=config.input_size, margin=config.margin)
    untrained = Stage(
        model=make_model(**network),
        variables={},
        input_size=config.input_size,
        face_crop_size=size,
        margin=config.margin,
    )
    images = np.zeros((1, config.input_size, config.input_size, 3), np.uint8)
    variables = jax.jit(untrained.model.init)(jax.random.key(number), images)
    rng = np.random.default_rng(number)
    variables = jax.tree.map(
        lambda leaf: np.asarray(leaf) + (leaf.ndim == 1) * rng.random(leaf.shape, np.float32), variables
    )
    bias = rng.uniform(0.2, 0.8, 136).astype(np.float32) * config.input_size
    output = variables["params"]["output"]
    variables["params"]["output"] = {"kernel": 1e-3 * output["kernel"], "bias": bias}
    return dataclasses.replace(untrained, variables=variables)


def make_photo(faces) -> dict[str, np.ndarray]:
    """Return a picture of many synthetic faces and `MAX_FACES` boxes, several for each face."""
    pictures = np.stack([faces.picture(i) for i in range(PHOTO * PHOTO)])
    side = pictures.shape[1]
    picture = pictures.reshape(PHOTO, PHOTO, side, side, 3).transpose(0, 2, 1, 3, 4).reshape(PHOTO * side, -1, 3)
    indices = np.arange(MAX_FACES) % (PHOTO * PHOTO)
    corners = np.stack([indices % PHOTO, indices // PHOTO], 1) * side
    return {"image": picture, "boxes": (faces.boxes[indices] + np.tile(corners, 2)).astype(np.float32)}


if __name__ == "__main__":
    main()
