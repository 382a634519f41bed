"""TensorFlow and our decoder read the same pixels from the pictures that our TFDS builders store."""

import cv2
import numpy as np
import PIL.Image
import pytest
import tensorflow_datasets as tfds

from tests.support.writers.w300 import write_w300
from wing_jax.data.readers.w300 import read_w300
from wing_jax.data.tfds.builders import build


def rotate_by_exif(jpeg, png) -> None:
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    PIL.Image.open(jpeg).copy().save(jpeg, exif=exif)


UNUSUAL = {
    "turned by EXIF": rotate_by_exif,
    "CMYK": lambda jpeg, png: PIL.Image.open(jpeg).convert("CMYK").save(jpeg),
    "palette": lambda jpeg, png: PIL.Image.open(png).quantize(40).save(png),
    "16 bits": lambda jpeg, png: cv2.imwrite(str(png), np.arange(80 * 96, dtype=np.uint16).reshape(80, 96) * 8),
    "BMP": lambda jpeg, png: (PIL.Image.open(png).save(png.with_suffix(".bmp")), png.unlink()),
}


@pytest.mark.slow
@pytest.mark.parametrize("change", UNUSUAL.values(), ids=UNUSUAL)
def test_unusual_pictures_look_the_same_to_tensorflow(tmp_path, change):
    write_w300(tmp_path / "source")
    change(tmp_path / "source/afw/134212_1.jpg", tmp_path / "source/lfpw/trainset/image_0001.png")
    build("wing_w300", data_dir=str(tmp_path / "data"), manual_dir=str(tmp_path / "source"))
    read = read_w300(tmp_path / "source", "train")
    for example in tfds.as_numpy(tfds.load("wing_w300", split="train", data_dir=str(tmp_path / "data"))):
        expected = read.picture(int(example["index"]))
        assert example["image"].shape == expected.shape
        assert np.abs(example["image"].astype(int) - expected).mean() < 2  # two decoders of JPEG
