"""Square images stored as JPEG and decoded one at a time, for data whose pixels do not fit into memory."""

import dataclasses
from collections.abc import Sequence

import cv2
import numpy as np

from wing_jax.data.images import resize_square
from wing_jax.types import Image
from wing_jax.values import Value

QUALITY = 95  # of JPEG: the loss is not visible
# Flags with which OpenCV decodes to RGB at a fraction of the size. Its "reduced color" flags decode to BGR.
REDUCED = {
    1: cv2.IMREAD_COLOR_RGB,
    2: cv2.IMREAD_COLOR_RGB | cv2.IMREAD_REDUCED_GRAYSCALE_2,
    4: cv2.IMREAD_COLOR_RGB | cv2.IMREAD_REDUCED_GRAYSCALE_4,
    8: cv2.IMREAD_COLOR_RGB | cv2.IMREAD_REDUCED_GRAYSCALE_8,
}


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class JpegImages(Value):
    """RGB images `[n, size, size, 3]` from their JPEG `records` of `stored` pixels per side; `images[i]` decodes one.

    If `size` is at most half of `stored`, the decoder itself reduces the image, which is faster.
    """

    records: Sequence[bytes]
    stored_size: int
    size: int

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return len(self.records), self.size, self.size, 3

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> Image:
        """Decode image `index` to RGB uint8 `[size, size, 3]`."""
        factor = max(f for f in REDUCED if self.stored_size // f >= self.size or f == 1)
        image = np.asarray(cv2.imdecode(np.frombuffer(self.records[index], np.uint8), REDUCED[factor]))
        return resize_square(image, self.size)

    def at(self, size: int) -> "JpegImages":
        """Return the same images at another size."""
        return dataclasses.replace(self, size=size)


def encode_jpeg(image: Image) -> bytes:
    """Encode `image` as JPEG."""
    return cv2.imencode(".jpg", image[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes()
