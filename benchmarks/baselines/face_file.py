"""Read the file that make_faces.py wrote, using only NumPy."""

import numpy as np

HALVED = 128  # pixels of a JPEG face crop decoded at half its size: sufficient for the crops, and fastest for all
MARGIN = 1.2  # crop side per larger side of the face box, in configs/w300.py


def read(path: str) -> dict[str, np.ndarray]:
    """Return the arrays in the file."""
    return dict(np.load(path))


def jpeg_files(faces: dict[str, np.ndarray]) -> list[bytes]:
    """Return the JPEG files, one for each face."""
    ends = faces["ends"].tolist()
    content = faces["jpeg"].tobytes()
    return [content[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def crop_side(face_crop: int) -> int:
    """Return the pixels of the unperturbed crop; it is centered in a face crop of twice the side of the face box."""
    return round(face_crop * MARGIN / 2)


def points_at(faces: dict[str, np.ndarray], face_crop: int) -> np.ndarray:
    """Return the points in pixels of face crops of `face_crop` pixels."""
    ratio = face_crop / faces["images"].shape[1]
    return ((faces["points"] + 0.5) * ratio - 0.5).astype(np.float32)
