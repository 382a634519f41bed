"""COCO keypoint JSON as written by CVAT: `annotations/{train,test}.json` and `images/`."""

import json
from pathlib import Path

import cv2

from tests.support.writers.faces import SmallFace, small_faces
from wing_jax.schemes import IBUG_68, Scheme


def write_coco(
    folder: Path, *, seed: int = 0, scheme: Scheme = IBUG_68, state: int | None = None
) -> dict[str, list[SmallFace]]:
    """Write five faces; point i has v = `state`, by default 1 (hidden) if i is a multiple of 3, else 2."""
    faces = small_faces(scheme, 5, seed=seed)
    splits = {"train": faces[:3], "test": faces[3:]}
    (folder / "annotations").mkdir(parents=True)
    (folder / "images").mkdir()
    category = {"id": 1, "name": "face", "supercategory": "", "keypoints": [], "skeleton": []}
    for split, members in splits.items():
        images, annotations = [], []
        for number, face in enumerate(members, start=1):
            name = f"{split}_{number}.png"
            cv2.imwrite(str(folder / "images" / name), face.image[:, :, ::-1])
            height, width, _ = face.image.shape
            images.append({"id": number, "file_name": name, "width": width, "height": height})
            keypoints = []
            for index, (x, y) in enumerate(face.points.tolist()):
                keypoints += [x, y, state if state is not None else 1 if index % 3 == 0 else 2]
            left, top, right, bottom = face.box.tolist()
            annotations.append({
                "id": 10 * number, "image_id": number, "category_id": 1, "iscrowd": 0, "keypoints": keypoints,
                "num_keypoints": scheme.points, "bbox": [left, top, right - left, bottom - top],
                "attributes": {"occluded": number == 2, "keyframe": 7},
            })  # fmt: skip
        content = {"images": images, "annotations": annotations, "categories": [category]}
        (folder / "annotations" / f"{split}.json").write_text(json.dumps(content))
    return splits
