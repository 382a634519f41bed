"""Read what make_faces.py wrote, with NumPy alone."""

import numpy as np

HALVED = 128  # pixels of a JPEG face crop decoded at half its size, which is enough for the crops and fastest for all
MARGIN = 1.2  # crop side per larger side of the face box, in configs/w300.py


def read(path: str) -> dict[str, np.ndarray]:
    """The arrays in the file."""
    return dict(np.load(path))


def jpeg_files(faces: dict[str, np.ndarray]) -> list[bytes]:
    """The JPEG files, one a face."""
    ends = faces["ends"].tolist()
    everything = faces["jpeg"].tobytes()
    return [everything[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def crop_side(face_crop: int) -> int:
    """Pixels of the unperturbed crop, which lies in the middle of a face crop of twice the face box's side."""
    return round(face_crop * MARGIN / 2)


def points_at(faces: dict[str, np.ndarray], face_crop: int) -> np.ndarray:
    """The points in pixels of face crops of `face_crop` pixels."""
    ratio = face_crop / faces["images"].shape[1]
    return ((faces["points"] + 0.5) * ratio - 0.5).astype(np.float32)
