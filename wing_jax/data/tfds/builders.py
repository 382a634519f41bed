"""TFDS builders of the sets that TFDS does not have: 300-W, WFLW, AFLW, COFW and MTFL, from their published folders.

After `import wing_jax.data.tfds.builders` they work like any data set of https://www.tensorflow.org/datasets:

    config = tfds.download.DownloadConfig(manual_dir="FOLDER")
    tfds.load("wing_wflw", data_dir="DIR", download_and_prepare_kwargs={"download_config": config})

The names are wing_w300, wing_wflw, wing_aflw, wing_cofw and wing_mtfl. FOLDER is the folder that the reader of that
set takes (`wing_jax.data.readers.w300` and so on). `build` below does the same. From a shell, so does the `tfds`
program, but version 4.9.10 starts only if apache-beam and mlcroissant are installed too
(https://github.com/tensorflow/datasets/issues/5463):

    tfds build wing_wflw --imports wing_jax.data.tfds.builders --manual_dir FOLDER --data_dir DIR

`wing_jax.data.tfds.sets.read_tfds` reads the result back as the same faces in the same order.

Pictures are stored as the bytes of their files if every decoder reads these the same way: JPEG and PNG, RGB or gray,
without EXIF rotation. Others are converted to PNG. Each is decoded once while building, to find broken ones early.
"""

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar

import cv2
import numpy as np
import PIL.Image

from wing_jax.data.face_set import FaceSet
from wing_jax.data.images import Picture, decode_image, read_bytes
from wing_jax.data.readers import aflw, cofw, mtfl, w300, wflw
from wing_jax.errors import InputError
from wing_jax.runtime.extras import missing
from wing_jax.runtime.files import plain_path
from wing_jax.runtime.tensorflow_runtime import tensorflow
from wing_jax.schemes import AFLW_19, COFW_29, IBUG_68, MTFL_5, WFLW_98, Scheme

try:
    import tensorflow_datasets as tfds  # base classes of the builders below
except ImportError as error:
    raise missing(error, "tensorflow_datasets", extra="tfdata", purpose="building data sets for TFDS") from error

EXIF_ORIENTATION = 0x0112


class FaceBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Base class of the builders. Subclasses set the citation and the reader of their data set."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "First release."}
    MANUAL_DOWNLOAD_INSTRUCTIONS = "Pass the folder of the data set, as published, as manual_dir."

    url_infos = None  # nothing to download; TFDS would look for it with a package that it does not require

    scheme: Scheme
    read: Callable[..., FaceSet]  # (root, split)
    attributes: tuple[str, ...] = ()
    optional: ClassVar[dict[str, tuple[str, ...]]] = {}  # split: folders; the split is skipped if none of them exists
    citation: str

    def _info(self) -> tfds.core.DatasetInfo:
        features, count = tfds.features, self.scheme.points
        specification: dict[str, features.FeatureConnector] = {
            "image": features.Image(shape=(None, None, 3)),
            "points": features.Tensor(shape=(count, 2), dtype=np.float32, doc="x, y; 0 is a pixel's center"),
            "visible": features.Tensor(shape=(count,), dtype=np.bool_, doc="whether the point has a position"),
            "visibility": features.Tensor(shape=(count,), dtype=np.uint8, doc="wing_jax.types.Visibility"),
            "box": features.Tensor(shape=(4,), dtype=np.float32, doc="x0, y0, x1, y1 in pixels"),
            "photo": features.Text(doc="the same for all faces of one photo"),
            "subset": features.Text(),
            "pose": features.Text(doc="annotated pose class, or empty"),
            "angles": features.Tensor(shape=(3,), dtype=np.float32, doc="yaw (> 0: image right), pitch, roll, or NaN"),
            "index": features.Scalar(dtype=np.int64, doc="index of the face in the published order"),
        }
        if self.attributes:
            specification["attributes"] = features.FeaturesDict(dict.fromkeys(self.attributes, np.bool_))
        return tfds.core.DatasetInfo(
            builder=self,
            features=features.FeaturesDict(specification),
            description=f"{self.scheme.about}. Read by wing_jax; points in pixels of the full picture.",
            citation=self.citation,
            metadata=tfds.core.MetadataDict(),
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict:
        root = self._find_folder(dl_manager)
        sets = {split: type(self).read(root, split) for split in ("train", "test")}
        for split, folders in self.optional.items():
            if any((root / folder).is_dir() for folder in folders):
                sets[split] = type(self).read(root, split)
        self.info.metadata["scheme"] = self.scheme.name
        self.info.metadata["splits"] = {
            split: {"name": faces.name, "box_convention": faces.box_convention, "attributes": list(faces.attributes)}
            for split, faces in sets.items()
        }
        return {split: self._generate_examples(faces) for split, faces in sets.items()}

    def _find_folder(self, dl_manager: tfds.download.DownloadManager) -> Path:
        try:
            return Path(dl_manager.manual_dir)
        except (AssertionError, OSError) as error:  # TFDS's message about a missing or empty folder has many lines
            raise InputError(
                f"{self.name}: {str(error).splitlines()[0]} Pass the folder of the data set as manual_dir"
            ) from error

    def _generate_examples(self, faces: FaceSet) -> Iterator[tuple[int, dict]]:
        visibility = np.zeros_like(faces.visible) if faces.visibility is None else faces.visibility
        for index in range(len(faces)):
            example = {
                "image": _encode(faces.source(index)),
                "points": faces.points[index],
                "visible": faces.visible[index],
                "visibility": visibility[index].astype(np.uint8),
                "box": faces.boxes[index],
                "photo": faces.photos[index],
                "subset": faces.subsets[index],
                "pose": "" if faces.poses is None else faces.poses[index],
                "angles": np.full(3, np.nan, np.float32) if faces.angles is None else faces.angles[index],
                "index": index,
            }
            annotated = {name: bool(values[index]) for name, values in faces.attributes.items()}
            attributes = dict.fromkeys(self.attributes, False) | annotated
            yield index, example | ({"attributes": attributes} if attributes else {})


def _encode(picture: Picture) -> bytes:
    content = read_bytes(picture) if isinstance(picture, Path) else b""
    pixels = decode_image(content, name=str(picture)) if isinstance(picture, Path) else picture.read()
    return content if _can_store_as_is(content) else cv2.imencode(".png", pixels[:, :, ::-1])[1].tobytes()


def _can_store_as_is(content: bytes) -> bool:
    try:
        with PIL.Image.open(io.BytesIO(content)) as header:
            upright = header.getexif().get(EXIF_ORIENTATION, 1) == 1
            return header.format in ("JPEG", "PNG") and header.mode in ("RGB", "L") and upright
    except Exception:  # a format unknown to Pillow, or corrupted metadata; the pixels were decoded before
        return False


class WingW300(FaceBuilder):
    """300-W: 68 points; also the split "private" if the folder has it."""

    name = "wing_w300"
    scheme = IBUG_68
    read = staticmethod(w300.read_w300)
    attributes = ("common", "challenging")
    optional: ClassVar[dict[str, tuple[str, ...]]] = {"private": w300.FOLDERS["private"]}
    citation = "Sagonas et al., 300 faces in-the-wild challenge, ICCVW 2013; https://ibug.doc.ic.ac.uk/resources/300-W/"


class WingWflw(FaceBuilder):
    """WFLW: 98 points, six attributes."""

    name = "wing_wflw"
    scheme = WFLW_98
    read = staticmethod(wflw.read_wflw)
    attributes = wflw.ATTRIBUTES
    citation = "Wu et al., Look at boundary, CVPR 2018; https://wywu.github.io/projects/LAB/WFLW.html"


class WingAflw(FaceBuilder):
    """AFLW with the 19 points of Zhu et al."""

    name = "wing_aflw"
    scheme = AFLW_19
    read = staticmethod(aflw.read_aflw)
    attributes = ("frontal",)
    citation = "Zhu et al., CCL, CVPR 2016; http://mmlab.ie.cuhk.edu.hk/projects/compositional.html"


class WingCofw(FaceBuilder):
    """COFW: 29 points, each visible or occluded; the pictures are inside the .mat files."""

    name = "wing_cofw"
    scheme = COFW_29
    read = staticmethod(cofw.read_cofw)
    citation = "Burgos-Artizzu et al., ICCV 2013; https://data.caltech.edu/records/bc0bf-nc666"


class WingMtfl(FaceBuilder):
    """MTFL: 5 points, three attributes, a pose class. The published test boxes are used if the folder has them."""

    name = "wing_mtfl"
    scheme = MTFL_5
    attributes = mtfl.ATTRIBUTES
    citation = "Zhang et al., ECCV 2014; https://mmlab.ie.cuhk.edu.hk/projects/TCDCN.html"

    @staticmethod
    def read(root: Path, split: str) -> FaceSet:
        boxes = root if split == "test" and (root / "AFLW_boundingbox.txt").exists() else None
        return mtfl.read_mtfl(root, split, boxes=boxes)


def build(name: str, *, data_dir: str, manual_dir: str | None = None) -> None:
    """Build the data set `name` below `data_dir` from `manual_dir`, or from files that TFDS can download.

    Raises:
      InputError: `manual_dir` is not the folder of that set, a face in it is invalid, or a package of TFDS is missing.
    """
    tensorflow()
    config = tfds.download.DownloadConfig(manual_dir=manual_dir)
    Path(data_dir).mkdir(parents=True, exist_ok=True)
    try:
        with plain_path(data_dir) as plain:  # TFDS and TensorFlow interpret paths as patterns
            tfds.builder(name, data_dir=str(plain)).download_and_prepare(download_config=config)
    except ModuleNotFoundError as error:
        raise InputError(f"TFDS needs {error.name} to prepare {name}: pip install {error.name}") from error
