"""300-VW: videos with 68 points in every frame.

Shen et al., "The first facial landmark tracking in-the-wild challenge", ICCVW 2015; ask at
https://ibug.doc.ic.ac.uk/resources/300-VW/. Expected: `NNN/vid.avi` and `NNN/annot/000001.pts`, one `.pts` a frame,
with points counted from 1, like the frames. Extracted frames, `NNN/imgs/000001.png` (or `.jpg`), replace the video if
they exist, which is exact and much faster in training: `ffmpeg -i vid.avi -start_number 1 imgs/%06d.png`.
Of the 114 videos 64 are for testing, in three categories: 1 well lit, 2 in real-world conditions, 3 in arbitrary ones.
The numbers are those of mmpose (`tools/dataset_converters/300vw2coco.py` in https://github.com/open-mmlab/mmpose),
OpenFace and D-X-Y/landmark-detection, which agree.
"""

import functools
import re
from pathlib import Path

from wing_jax.data.face_set import Face, FaceSet, build_face_set
from wing_jax.data.images import LARGEST_PICTURE, Embedded, Picture
from wing_jax.data.picture_finder import Spellings, find_picture_of_stem
from wing_jax.data.readers.points_file import read_pts
from wing_jax.data.registry import register_reader
from wing_jax.data.video_frames import read_numbered
from wing_jax.errors import InputError, NoFacesError
from wing_jax.runtime.files import find_files
from wing_jax.schemes import IBUG_68
from wing_jax.types import Image


def _videos(numbers: str) -> tuple[str, ...]:
    return tuple(numbers.split())


VIDEOS = {
    "training": _videos(
        "001 002 003 004 007 009 010 011 013 015 016 017 018 019 020 022 025 027 028 029 031 033 034 035 037 039 041 "
        "043 044 046 047 048 049 053 057 059 112 113 115 119 120 123 138 143 144 160 204 205 223 225"
    ),
    "category 1": _videos(
        "114 124 125 126 150 158 401 402 505 506 507 508 509 510 511 514 515 518 519 520 521 522 524 525 537 538 540 "
        "541 546 547 548"
    ),
    "category 2": _videos("203 208 211 212 213 214 218 224 403 404 405 406 407 408 409 412 550 551 553"),
    "category 3": _videos("410 411 516 517 526 528 529 530 531 533 557 558 559 562"),
}
SPLITS = {"train": ("training",), "test": ("category 1", "category 2", "category 3")}


@register_reader(
    name="w300vw", title="300-VW, 68 points, video", folder="300vw", patterns=("[0-9][0-9][0-9]/annot/*.pts",)
)
def read_300vw(root: str | Path, split: str, *, faults: list[str] | None = None) -> FaceSet:
    """Read the `split` ("train" or "test") of 300-VW below `root`; missing videos are skipped.

    The subset is "training", "category 1", "category 2" or "category 3", the photo is the video, so that a split
    never divides a video, and the box is the tight box of the 68 points. Frames of `vid.avi` are decoded on access.
    `faults` as in `face_set.build_face_set`.

    Raises:
      InputError: no video is found, a video has no annotation, or a file is not valid.
    """
    root = Path(root)
    videos = [(root / number, subset) for subset in SPLITS[split] for number in VIDEOS[subset]]
    videos = [(folder, subset) for folder, subset in videos if folder.is_dir()]
    if not videos:
        raise NoFacesError(
            f"{root}: no video of the {split} split here ({VIDEOS[SPLITS[split][0]][0]}/ ...): pass the 300-VW folder"
        )
    spellings = Spellings()
    face_readers = (
        functools.partial(_face, path, subset, spellings) for folder, subset in videos for path in _annotations(folder)
    )
    return build_face_set(face_readers, name="300-VW", scheme=IBUG_68, box_convention="landmarks", faults=faults)


def _annotations(folder: Path) -> list[Path]:
    files = find_files(folder / "annot", "*.pts")
    if not files:
        raise InputError(f"{folder / 'annot'}: no .pts file here: copy the annotations again or remove {folder.name}/")
    return files


def _face(path: Path, subset: str, spellings: Spellings) -> Face:
    return Face(
        location=str(path),
        picture=_find_picture(path, spellings),
        points=read_pts(path, points=IBUG_68.points),
        photo=f"300vw/{path.parents[1].name}",
        subset=subset,
    )


def _find_picture(path: Path, spellings: Spellings) -> Picture:
    """Return the frame of the annotation `path`: an extracted one, or one inside the video."""
    folder = path.parents[1]
    frame = folder / "imgs" / f"{path.stem}.png"  # lossless, so preferred to other endings
    if frame.exists():
        return frame
    if (picture := find_picture_of_stem(frame.parent, path.stem, spellings)) is not None:
        return picture
    video = folder / "vid.avi"
    if not video.exists():
        raise InputError(f"{path}: neither {video} nor imgs/{path.stem}.png beside it: add one")
    if not re.fullmatch("[0-9]{1,9}", path.stem) or int(path.stem) < 1:
        raise InputError(f"{path}: its name is not a frame number from 1: rename or remove it")
    number = int(path.stem)
    return Embedded(f"{video}, frame {number}", functools.partial(read_frame, video, number))


def read_frame(video: Path, number: int) -> Image:
    """Read frame `number` of `video`, counted from 1 in display order, RGB uint8.

    The file is opened each time, so that threads and processes can share a set.

    Raises:
      InputError: the video cannot be read, or has no such frame.
    """
    hint = "copy it again, or extract its frames into imgs/"
    image = read_numbered(video, number, largest=LARGEST_PICTURE, hint=hint)
    if image is None:
        raise InputError(f"{video}: cannot read frame {number}: copy the video again, or extract its frames into imgs/")
    return image
