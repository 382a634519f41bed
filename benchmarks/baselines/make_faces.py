"""Write the faces that the input pipelines read: one .npz with square face crops of synthetic faces, as uint8 and JPEG.

`images` uint8 `[n, face crop, face crop, 3]`, `points` float32 `[n, 68, 2]` and `boxes` `[n, 4]` in pixels of those
face crops, `flip` `[68]` the permutation of a mirrored face; `jpeg` all JPEG files of the larger face crops in a row,
of which file i ends before `ends[i]`. A few hundred faces are drawn and repeated in other brightness, so that each has
its own memory.
"""

import json
import sys

import cv2
import numpy as np

from wing_jax.data.face_crops import crop_faces
from wing_jax.data.face_set import FaceSet
from wing_jax.data.load import load_faces

DRAWN = 512
QUALITY = 90


def main() -> None:
    """Draw, cut, repeat, encode."""
    given = json.loads(sys.argv[1])
    faces = load_faces("synthetic", "train", count=min(DRAWN, given["faces"]), seed=1)
    copies = -(-given["faces"] // len(faces))
    face_crops = crop_faces(faces, size=given["face_crop"])
    files = encoded(faces, given["jpeg"], copies)[: given["faces"]]
    repeated = {
        "images": np.concatenate([brightened(face_crops.images, copy) for copy in range(copies)]),
        "points": np.tile(face_crops.points, (copies, 1, 1)),
        "boxes": np.tile(face_crops.boxes, (copies, 1)),
    }
    np.savez(
        given["path"],
        flip=faces.scheme.flip,
        jpeg=np.frombuffer(b"".join(files), np.uint8),
        ends=np.cumsum([len(file) for file in files]),
        **{name: values[: given["faces"]] for name, values in repeated.items()},
    )


def brightened(images: np.ndarray, copy: int) -> np.ndarray:
    """`images` a little darker for each copy."""
    return (images * (1 - 0.02 * (copy % 16))).astype(np.uint8)


def encoded(faces: FaceSet, size: int, copies: int) -> list[bytes]:
    """The faces' face crops of `size` pixels as JPEG files, copy after copy."""
    images = crop_faces(faces, size=size).images
    settings = [cv2.IMWRITE_JPEG_QUALITY, QUALITY]
    return [
        cv2.imencode(".jpg", image[:, :, ::-1], settings)[1].tobytes()
        for copy in range(copies)
        for image in brightened(images, copy)
    ]


if __name__ == "__main__":
    main()
