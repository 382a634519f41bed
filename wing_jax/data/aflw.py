"""AFLW, 19 points: `AFLWinfo_release.mat` of Zhu et al. (CCL, CVPR 2016) beside the folder of images.

Köstinger et al., "Annotated Facial Landmarks in the Wild", 2011; the list is from
http://mmlab.ie.cuhk.edu.hk/projects/compositional.html, the images from TU Graz on request. Expected below the root:
`AFLWinfo_release.mat` and the images under `flickr/` or beside it, as `0/image00002.jpg`. Fields of the list: `bbox`
(x0, x1, y0, y1), `data` (19 x, then 19 y), `mask_new` (visible), `nameList`, and `ra`, the order in which the first
20,000 faces train and the other 4,386 test. The points are taken as 0-based.
"""

from pathlib import Path

import numpy as np
import scipy.io

from wing_jax.data.records import FaceSet
from wing_jax.errors import InputError
from wing_jax.schemes import AFLW_19

TRAINING_FACES = 20_000
LIST = "AFLWinfo_release.mat"


def read_aflw(root: str | Path, split: str, *, training_faces: int = TRAINING_FACES) -> FaceSet:
    """The `split` ("train" or "test") of AFLW-19 below `root`.

    This list annotates hidden points too, and they count, as in the paper. The subset is "frontal" where all 19 points
    are marked visible and lie in the box, else "not frontal".

    Raises:
      InputError: the list is missing or not as published.
    """
    root = Path(root)
    try:
        content = scipy.io.loadmat(root / LIST)
        order = np.ravel(content["ra"]).astype(np.int64) - 1
        boxes = np.asarray(content["bbox"], np.float32)[:, [0, 2, 1, 3]]
        points = np.asarray(content["data"], np.float32).reshape(len(boxes), 2, 19).transpose(0, 2, 1)
        shown = np.asarray(content["mask_new"]).astype(bool).reshape(len(boxes), 19)
        names = [str(content["nameList"][face][0][0]) for face in range(len(boxes))]
        order = np.arange(len(boxes))[order]
    except OSError as error:
        raise InputError(f"{root / LIST}: cannot read this list ({error}): give the folder that holds it") from error
    except Exception as error:  # a broken .mat makes scipy raise its own, zlib's and struct's errors
        raise InputError(f"{root / LIST}: not as published ({error}): copy the file again") from error
    finite = np.isfinite(points).all((1, 2)) & np.isfinite(boxes).all(1)
    if not finite.all():
        face = int(np.argmin(finite))
        raise InputError(f"{root / LIST}: face {face + 1} has a number that is not finite: copy the file again")
    images = root / "flickr" if (root / "flickr").is_dir() else root
    inside = np.all((points > boxes[:, None, :2]) & (points < boxes[:, None, 2:]), axis=-1)
    frontal = np.all(shown & inside, axis=1)
    faces = FaceSet(
        name="AFLW",
        scheme=AFLW_19,
        pictures=tuple(images / Path(name).with_suffix(".jpg") for name in names),
        points=np.ascontiguousarray(points),
        visible=np.ones(shown.shape, bool),
        boxes=boxes,
        box_convention="aflw",
        photos=tuple(names),
        subsets=tuple("frontal" if all_shown else "not frontal" for all_shown in frontal),
    )
    return faces.take(order[:training_faces] if split == "train" else order[training_faces:])
