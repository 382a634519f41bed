"""The faces of one image: arrays, an overlay, a table, files."""

import dataclasses
import importlib
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from wing_jax.errors import InputError
from wing_jax.inference.drawing import draw_box
from wing_jax.inference.face_files import FaceRecord, FaceTable, check_output_folder, columns, draw_overlay, write_photo
from wing_jax.schemes import Scheme
from wing_jax.text import quoted
from wing_jax.types import Image
from wing_jax.values import Value

TINY = 40  # pixels: in smaller faces, eyes and mouth are only a few pixels
UNNAMED = "image"  # the stem of the files of an image that was not read from a file


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Faces(Value):
    """The faces of one image, highest score first; coordinates in pixels, 0 at the center of the first pixel.

    An immutable value. It holds a reference to the image, which comparisons ignore.

    >>> from wing_jax.schemes import MTFL_5
    >>> faces = Faces(
    ...     boxes=np.float32([[2, 2, 12, 12]]), scores=np.float32([0.9]), points=np.full((1, 5, 2), 7, np.float32),
    ...     scheme=MTFL_5, image=np.zeros((16, 16, 3), np.uint8),
    ... )
    >>> len(faces), faces.draw().shape, list(faces.to_columns())[:4]
    (1, (16, 16, 3), ['face_id', 'confidence', 'success', 'left'])

    Args:
      boxes: `[faces, 4]`, x0, y0, x1, y1, in the box convention of the model.
      scores: the detector's confidences, `[faces]`, 0 to 1.
      points: `[faces, L, 2]`, (x, y).
      scheme: the landmark scheme of the points.
      image: the image, RGB uint8.
      source: the image's file; empty: it was not read from a file.
      covariance: of the errors of the landmarks, `[faces, L, 2, 2]`, in squared pixels; None if the model has no
        calibration, as the next three.
      spread: the expected distance of each landmark from the true one, `[faces, L]`, in pixels.
      confidence: the probability that each landmark is within 5 % of the inter-ocular distance of the true one,
        `[faces, L]`.
      valid: whether the landmarks of each face can be trusted, bool `[faces]`.
    """

    boxes: Float[np.ndarray, "faces 4"]
    scores: Float[np.ndarray, "faces"]
    points: Float[np.ndarray, "faces points 2"]
    scheme: Scheme
    image: Image = dataclasses.field(compare=False)
    source: str = ""
    covariance: Float[np.ndarray, "faces points 2 2"] | None = None
    spread: Float[np.ndarray, "faces points"] | None = None
    confidence: Float[np.ndarray, "faces points"] | None = None
    valid: Bool[np.ndarray, "faces"] | None = None

    def __len__(self) -> int:
        return len(self.boxes)

    def take(self, faces: Any) -> "Faces":
        """Return the faces at these indices, or where a mask is true, in this order."""
        arrays = ("boxes", "scores", "points", "covariance", "spread", "confidence", "valid")
        values = {name: getattr(self, name) for name in arrays}
        taken = {name: None if array is None else array[np.asarray(faces)] for name, array in values.items()}
        return dataclasses.replace(self, **taken)

    @property
    def tiny(self) -> np.ndarray:
        """Which faces are too small for reliable landmarks, bool `[faces]`."""
        return tiny(self.boxes)

    def draw(self, *, boxes: bool = True) -> Image:
        """Return a copy of the image with the landmarks and, if `boxes`, the boxes: RGB uint8 `[height, width, 3]`."""
        picture = self.image
        for box in self.boxes if boxes else ():
            picture = draw_box(picture, box)
        return draw_overlay(picture, self.to_records(), self.scheme)

    def to_records(self) -> list[FaceRecord]:
        """Return the faces as a list of `FaceRecord`, numbered from 1."""
        return [
            FaceRecord(
                number=face + 1,
                box=self.boxes[face],
                points=self.points[face],
                score=float(self.scores[face]),
                spread=None if self.spread is None else self.spread[face],
                confidence=None if self.confidence is None else self.confidence[face],
                valid=None if self.valid is None else bool(self.valid[face]),
            )
            for face in range(len(self))
        ]

    def to_columns(self) -> dict[str, np.ndarray]:
        """Return a table with one row per face, as a dict of columns.

        The columns are `face_id` (from 1), `confidence` (the mean of the landmarks; without a calibration the
        detector's score), `success` (1 if the face is valid, else 0), `left`, `top`, `right`, `bottom`, then `x_0`,
        `x_1` ... and `y_0`, `y_1` ..., as in the CSV files of `wing-jax predict` and of OpenFace.
        """
        confidence = self.scores if self.confidence is None else self.confidence.mean(1)
        success = np.ones(len(self), int) if self.valid is None else self.valid.astype(int)
        values = np.concatenate([self.boxes, self.points[..., 0], self.points[..., 1]], axis=1)
        first = np.arange(1, len(self) + 1), confidence, success
        return dict(zip(columns(self.scheme), (*first, *values.T), strict=True))

    def to_dataframe(self) -> Any:
        """Return the columns of `to_columns` as a pandas DataFrame.

        Raises:
          InputError: pandas is not installed.
        """
        try:
            pandas = importlib.import_module("pandas")
        except ImportError as error:
            raise InputError("a DataFrame of faces needs pandas: pip install pandas, or use to_columns()") from error
        return pandas.DataFrame(self.to_columns())

    def save(self, folder: str | Path) -> Path:
        """Write the files of `wing-jax predict` for this image.

        They are STEM.png (the image with the landmarks), STEM.json, STEM.pts (or STEM_1.pts, STEM_2.pts ... for several
        faces) and STEM.csv.

        Args:
          folder: the target folder; it is created if needed. STEM is the stem of the image's file, or "image".

        Returns:
          The path of STEM.png.

        Raises:
          InputError: `folder` is not a path, it contains the image's file, or it cannot be written to.
        """
        if not isinstance(folder, str | Path) or not str(folder):
            raise InputError(f"folder={quoted(folder)}: pass the path of a folder to save the faces in")
        folder, source = Path(folder), Path(self.source)
        if self.source:
            check_output_folder([source], folder, name=str(folder))
        stem = folder / (source.stem if self.source and source.stem.strip(".") else UNNAMED)
        with FaceTable(stem.with_name(f"{stem.name}.csv"), self.scheme, of=("image",)) as table:
            table.write((source.name if self.source else UNNAMED,), self.to_records())
        return write_photo(
            stem, self.image, self.to_records(), self.scheme, name=source.name if self.source else UNNAMED
        )


def tiny(boxes: Float[np.ndarray, "faces 4"]) -> Bool[np.ndarray, "faces"]:
    """Return which boxes are smaller than `TINY` pixels."""
    return (boxes[:, 2:] - boxes[:, :2]).max(1) < TINY


def source_of(image: Any) -> str:
    """Return the path of `image` if it is a path, else an empty string."""
    return str(image) if isinstance(image, str | Path) else ""
