"""Read what make_faces.py wrote, with NumPy alone."""

import numpy as np

HALVED = 128  # pixels of a JPEG chip decoded at half its size, which is enough for the crops and fastest for all
MARGIN = 1.2  # crop side per larger side of the face box, in configs/w300.py


def read(path: str) -> dict[str, np.ndarray]:
    """The arrays in the file."""
    return dict(np.load(path))


def jpeg_files(faces: dict[str, np.ndarray]) -> list[bytes]:
    """The JPEG files, one a face."""
    ends = faces["ends"].tolist()
    everything = faces["jpeg"].tobytes()
    return [everything[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def crop_side(chip: int) -> int:
    """Pixels of the unperturbed crop, which lies in the middle of a chip of twice the face box's side."""
    return round(chip * MARGIN / 2)


def points_at(faces: dict[str, np.ndarray], chip: int) -> np.ndarray:
    """The points in pixels of chips of `chip` pixels."""
    ratio = chip / faces["images"].shape[1]
    return ((faces["points"] + 0.5) * ratio - 0.5).astype(np.float32)
