"""AFLW, 19 points: `AFLWinfo_release.mat` of Zhu et al. (CCL, CVPR 2016) beside the folder of images.

Köstinger et al., "Annotated Facial Landmarks in the Wild", 2011; the list is from
http://mmlab.ie.cuhk.edu.hk/projects/compositional.html, the images from TU Graz on request,
https://www.tugraz.at/institute/icg/research/team-bischof/lrs/downloads/aflw/. Expected below the root:
`AFLWinfo_release.mat` and the images under `flickr/` or beside it, as `0/image00002.jpg`. Fields of the list: `bbox`
(x0, x1, y0, y1), `data` (19 x, then 19 y), `mask_new` (1: visible; 0: hidden, with no reason given), `nameList` and
`ra` (indices from 1: in this order the first 20,000 faces are for training, the other 4,386 for testing). Structure
as read by https://github.com/D-X-Y/landmark-detection, `SAN/cache_data/aflw_from_mat.py`. Names may have other
endings than the images, which are mostly `.jpg`. No source says whether the points count from 0 or 1; they are taken
as 0-based.
"""

import functools
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float

from wing_jax.data.face_set import Face, FaceSet, build_face_set
from wing_jax.data.picture_finder import PictureFinder, Spellings, find_picture_of_stem, finder_below
from wing_jax.data.readers.listing import LARGEST
from wing_jax.data.readers.mat_file import not_as_published, read_mat, to_float64
from wing_jax.data.registry import register_reader
from wing_jax.errors import InputError
from wing_jax.schemes import AFLW_19
from wing_jax.text import quoted
from wing_jax.types import Visibility

TRAINING_FACES = 20_000
LIST = "AFLWinfo_release.mat"
FIELDS = ("ra", "bbox", "data", "mask_new", "nameList")


@register_reader(name="aflw", title="AFLW, 19 points", folder="aflw", patterns=("AFLWinfo_release.mat",))
def read_aflw(
    root: str | Path, split: str, *, training_faces: int = TRAINING_FACES, faults: list[str] | None = None
) -> FaceSet:
    """Read the `split` ("train" or "test") of AFLW-19 below `root`.

    The list annotates hidden points too, and they count, as in the paper; their `visibility` is OCCLUDED. The subset is
    "frontal" if all 19 points are marked visible and inside the box, else "not frontal"; so is the attribute "frontal".
    The faces of one photo have the same `photo`, which AFLW2000-3D and MERL-RAV use too. `faults` as in
    `face_set.build_face_set`.

    Raises:
      InputError: the list is missing or not as published.
    """
    path = Path(root) / LIST
    content = read_mat(path, FIELDS, hint="pass the folder that contains it")
    try:
        with np.errstate(invalid="ignore"):
            order = np.ravel(content["ra"]).astype(np.int64) - 1
        if (order < 0).any():
            raise ValueError("ra has an index below 1")
        boxes = to_float64(content["bbox"])[:, [0, 2, 1, 3]]
        points = to_float64(content["data"]).reshape(len(boxes), 2, 19).transpose(0, 2, 1)
        visible = np.asarray(content["mask_new"]).astype(bool).reshape(len(boxes), 19)
        names = ["".join(np.ravel(content["nameList"][face][0])) for face in range(len(boxes))]
        order = np.arange(len(boxes))[order]
    except Exception as error:  # NumPy raises many kinds of errors for wrong cells, structures and shapes
        raise not_as_published(path, error) from error
    finder, spellings = finder_below(image_folder(Path(root))), Spellings()
    indices = order[:training_faces] if split == "train" else order[training_faces:]
    if not len(indices):
        raise InputError(
            f"{path}: no face for {quoted(split)} among its {len(order)} faces: reduce the number of training faces"
        )
    face_readers = (
        functools.partial(_face, f"{path}: face {i + 1}", finder, spellings, names[i], points[i], boxes[i], visible[i])
        for i in indices
    )
    return build_face_set(face_readers, name="AFLW", scheme=AFLW_19, box_convention="aflw", faults=faults)


def _face(
    location: str,
    finder: PictureFinder,
    spellings: Spellings,
    name: str,
    points: Float[np.ndarray, "19 2"],
    box: Float[np.ndarray, "4"],
    visible: Bool[np.ndarray, "19"],
) -> Face:
    if not (np.abs(np.concatenate([points.ravel(), box])) < LARGEST).all():
        raise InputError(f"{location} has a number that is not finite: copy the file again")
    picture, photo = finder.find(name, location=location)
    picture = find_picture_of_stem(picture.parent, picture.stem, spellings) or picture.with_suffix(".jpg")
    inside = np.all((points > box[:2]) & (points < box[2:]), axis=-1)
    frontal = bool(np.all(visible & inside))
    return Face(
        location=location,
        picture=picture,
        points=points.astype(np.float32),
        visibility=np.where(visible, Visibility.VISIBLE, Visibility.OCCLUDED).astype(np.int8),
        box=box.astype(np.float32),
        photo=aflw_photo(Path(photo).stem),
        subset="frontal" if frontal else "not frontal",
        attributes={"frontal": frontal},
    )


def image_folder(root: Path) -> Path:
    """Return the folder of AFLW's images: `root / "flickr"`, as published, or `root` itself."""
    return root / "flickr" if (root / "flickr").is_dir() else root


def aflw_photo(stem: str) -> str:
    """Return the photo name for an image name without folder and ending; AFLW's image numbers are unique."""
    return f"aflw/{stem}"
