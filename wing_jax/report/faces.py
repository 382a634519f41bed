"""Draw annotated faces on a contact sheet: the points by their visibility, their numbers, the box."""

from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float

from wing_jax.data.face_set import FaceSet
from wing_jax.geometry import tight_box
from wing_jax.inference.drawing import TARGET, Color, draw_points
from wing_jax.report.draw import Tile, contact_sheet, face_tile, sheet_size
from wing_jax.types import Image, Visibility

COLORS: dict[int, Color] = {
    Visibility.UNKNOWN: TARGET,
    Visibility.VISIBLE: TARGET,
    Visibility.OCCLUDED: (255, 159, 28),
    Visibility.SELF_OCCLUDED: (255, 92, 205),
}
_BOX: Color = (255, 255, 255)
_INK: Color = (16, 20, 28)
FAR = 10_000  # pixels of a tile; OpenCV is not asked to draw farther outside


def annotation_sheet(faces: FaceSet, *, columns: int = 4, size: int = 360, numbers: bool = True) -> Image:
    """Draw all `faces` with their points on one sheet.

    Points are blue if they are visible or their visibility is unknown, orange if another object hides them, and pink if
    the face itself hides them; points without a position are left out. The box is white. The caption is the face's
    subset and the name of its picture.

    Args:
      faces: one or more faces.
      columns: the number of tiles in a row.
      size: the side of a tile in pixels.
      numbers: whether to write the points' numbers, which count from 0.

    Returns:
      An RGB picture, uint8 `[height, width, 3]`.

    Raises:
      InputError: a picture cannot be read.
      ValueError: there is no face, or the sheet would be too large.

    >>> from wing_jax.data.load import load_faces
    >>> annotation_sheet(load_faces("synthetic", count=2), columns=2, size=64).shape[2]
    3
    """
    sheet_size(max(1, len(faces)), columns=columns, step=(size, size))  # before the tiles take memory
    tiles = [_draw_face(faces, index, size, numbers) for index in range(len(faces))]
    captions = [f"{faces.subsets[index]}  {Path(faces.picture_name(index)).name}" for index in range(len(faces))]
    return contact_sheet(tiles, captions, columns=columns)


def _draw_face(faces: FaceSet, index: int, size: int, numbers: bool) -> Tile:
    image, box, shown = faces.picture(index), faces.boxes[index], faces.visible[index]
    marked = np.concatenate([faces.points[index][shown], box.reshape(2, 2)])
    tile, affine = face_tile(image, _marked_box(marked, image), size=size, margin=1.15)
    tile = np.ascontiguousarray(tile)
    points = faces.points[index] @ affine[:, :2].T + affine[:, 2]
    corners = np.round(box.reshape(2, 2) @ affine[:, :2].T + affine[:, 2]).clip(-FAR, FAR).astype(int)
    for ink, width in ((_INK, 3), (_BOX, 1)):
        cv2.rectangle(tile, corners[0].tolist(), corners[1].tolist(), ink, width, cv2.LINE_AA)
    tile = draw_points(tile, points, color=TARGET, lines=faces.scheme.lines, visible=shown, radius=1.7)
    if faces.visibility is not None:
        for kind in (Visibility.OCCLUDED, Visibility.SELF_OCCLUDED):
            chosen = shown & (faces.visibility[index] == kind)
            tile = draw_points(tile, points, color=COLORS[kind], visible=chosen, radius=2.2)
    if numbers:
        for number in np.flatnonzero(shown):
            _write_number(tile, str(number), points[number])
    return tile


def _marked_box(marked: Float[np.ndarray, "n 2"], image: Image) -> Float[np.ndarray, "4"]:
    """Return the tight box of the marked points, at most the picture's larger side beyond its edges.

    If the box is empty, return that of the entire picture.
    """
    size = np.array(image.shape[1::-1])
    box = np.asarray(tight_box(marked.astype(np.float64).clip(-size.max(), size + size.max())))
    return box if (box[2:] - box[:2]).max() >= 1 else np.array([-0.5, -0.5, *size - 0.5])


def _write_number(tile: Tile, text: str, at: Float[np.ndarray, "2"]) -> None:
    """Write `text` beside the point in place, light on dark so that it is readable on any skin."""
    x, y = at.clip(-FAR, FAR).astype(int).tolist()
    corner = (x + 3, y - 3)
    for ink, width in ((_INK, 2), (_BOX, 1)):
        cv2.putText(tile, text, corner, cv2.FONT_HERSHEY_SIMPLEX, 0.3, ink, width, cv2.LINE_AA)
