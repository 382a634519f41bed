"""Write the faces for the input pipelines: one .npz with square face crops of synthetic faces, as uint8 and JPEG.

`images` uint8 `[n, face crop, face crop, 3]`, `points` float32 `[n, 68, 2]` and `boxes` `[n, 4]` in pixels of those
face crops, `flip` `[68]` the permutation of a mirrored face; `jpeg` the concatenated JPEG files of the larger face
crops, of which file i ends before `ends[i]`. A few hundred faces are rendered and repeated with different brightness,
so that each face has separate memory.
"""

import json
import sys

import cv2
import numpy as np

from wing_jax.data.face_crops import crop_faces
from wing_jax.data.face_set import FaceSet
from wing_jax.data.load import load_faces

RENDERED = 512
QUALITY = 90


def main() -> None:
    """Render, crop, repeat and encode the faces."""
    settings = json.loads(sys.argv[1])
    faces = load_faces("synthetic", "train", count=min(RENDERED, settings["faces"]), seed=1)
    copies = -(-settings["faces"] // len(faces))
    face_crops = crop_faces(faces, size=settings["face_crop"])
    files = encode(faces, settings["jpeg"], copies)[: settings["faces"]]
    repeated = {
        "images": np.concatenate([darken(face_crops.images, copy) for copy in range(copies)]),
        "points": np.tile(face_crops.points, (copies, 1, 1)),
        "boxes": np.tile(face_crops.boxes, (copies, 1)),
    }
    np.savez(
        settings["path"],
        flip=faces.scheme.flip,
        jpeg=np.frombuffer(b"".join(files), np.uint8),
        ends=np.cumsum([len(file) for file in files]),
        **{name: values[: settings["faces"]] for name, values in repeated.items()},
    )


def darken(images: np.ndarray, copy: int) -> np.ndarray:
    """Return `images`, slightly darker for each copy."""
    return (images * (1 - 0.02 * (copy % 16))).astype(np.uint8)


def encode(faces: FaceSet, size: int, copies: int) -> list[bytes]:
    """Return the face crops of `size` pixels as JPEG files, copy after copy."""
    images = crop_faces(faces, size=size).images
    settings = [cv2.IMWRITE_JPEG_QUALITY, QUALITY]
    return [
        cv2.imencode(".jpg", image[:, :, ::-1], settings)[1].tobytes()
        for copy in range(copies)
        for image in darken(images, copy)
    ]


if __name__ == "__main__":
    main()
