"""The registry of formats against the writers; and the pictures of each reader, corrupted in many ways."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import PIL.Image
import pytest

from tests.support.formats import ENDINGS, WRITERS, load, root_of
from wing_jax.data.check import check_split
from wing_jax.data.face_crops import crop_faces
from wing_jax.data.load import load_faces
from wing_jax.data.registry import READERS, detect
from wing_jax.data.tfds.sets import NAMES
from wing_jax.errors import InputError
from wing_jax.schemes import IBUG_68

INSIDE_A_FILE = {"w300vw", "cofw", "cofw68", "packed"}


def test_every_reader_of_files_has_a_writer_here():
    assert set(READERS) == {"synthetic", "synthetic_2d", *WRITERS, *NAMES}
    assert {name for name, reader in READERS.items() if reader.patterns or reader.extensions} == set(WRITERS)


@pytest.mark.parametrize("name", WRITERS)
def test_each_format_is_detected_and_read(name, tmp_path):
    WRITERS[name](tmp_path)
    assert detect(root_of(name, tmp_path)) == name
    faces = load(name, tmp_path)
    assert len(faces) >= 2
    check = check_split(faces, [])
    assert check.faults == ()
    assert not check.outside.any()
    assert (check.sizes > 0).all()
    face_crops = crop_faces(faces, size=32)
    assert np.isfinite(face_crops.points).all()


def test_other_files_and_folders_are_refused(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        detect(tmp_path / "none")
    with pytest.raises(
        InputError, match=r"its files have no known layout: pass the name of the data set \(--data\), one of aflw, "
    ):
        detect(tmp_path)
    (tmp_path / "faces.doc").write_text("")
    with pytest.raises(InputError, match=r"faces.doc: the file is none of .json, .csv, .tsv, .xml: unpack or conv"):
        detect(tmp_path / "faces.doc")


# Pictures


def png(image: np.ndarray) -> bytes:
    return cv2.imencode(".png", image)[1].tobytes()


def save_jpeg(image: PIL.Image.Image, path: Path, **options) -> None:
    image.save(path, format="JPEG", **options)


def truncate(path: Path, image: np.ndarray) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def rotate(path: Path, image: np.ndarray) -> None:
    """Store the picture rotated, with the EXIF tag that says so."""
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    save_jpeg(PIL.Image.fromarray(np.ascontiguousarray(np.rot90(image))), path, exif=exif, quality=95)


HUGE = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + (40_000).to_bytes(4, "big") * 2 + b"\x08\x00\x00\x00\x00\x00\x00\x00\x00IEND"
BAD: dict[str, Callable[[Path, np.ndarray], object]] = {
    "missing": lambda path, image: path.unlink(),
    "truncated": truncate,
    "empty": lambda path, image: path.write_bytes(b""),
    "text": lambda path, image: path.write_text("<html>404</html>"),
    "huge": lambda path, image: path.write_bytes(HUGE),
}
GOOD: dict[str, Callable[[Path, np.ndarray], object]] = {
    "16 bits": lambda path, image: path.write_bytes(png(image[:, :, ::-1].astype(np.uint16) * 257)),
    "gray": lambda path, image: path.write_bytes(png(image.mean(-1).astype(np.uint8))),
    "alpha": lambda path, image: path.write_bytes(png(np.dstack([image[:, :, ::-1], image[:, :, 0]]))),
    "CMYK": lambda path, image: save_jpeg(PIL.Image.fromarray(image).convert("CMYK"), path, quality=95),
    "rotated": rotate,
}
WITH_FILES = [name for name in WRITERS if name not in INSIDE_A_FILE]


@pytest.mark.slow
@pytest.mark.parametrize("name", WITH_FILES)
def test_a_bad_picture_is_one_line_that_names_it_and_the_rest_is_checked(name, tmp_path):
    WRITERS[name](tmp_path)
    faces = load(name, tmp_path)
    path, image, content = faces.source(0), faces.picture(0), faces.source(0).read_bytes()
    for kind, change in BAD.items():
        path.write_bytes(content)
        change(path, image)
        faults: list[str] = []
        try:
            check = check_split(load(name, tmp_path, faults), faults)
        except InputError as error:  # formats that find faces by their pictures may find none
            pytest.fail(f"{kind}: {error}")
        assert len(check.faults) == 1, kind
        assert path.stem in check.faults[0]
        assert "\n" not in check.faults[0]
        with pytest.raises(InputError) as caught:
            crop_faces(load(name, tmp_path), size=16)
        assert path.stem in str(caught.value), kind


@pytest.mark.parametrize("name", WITH_FILES)
def test_pictures_of_all_kinds_are_read_as_upright_rgb(name, tmp_path):
    WRITERS[name](tmp_path)
    faces = load(name, tmp_path)
    path, image = faces.source(0), faces.picture(0)
    for kind, change in GOOD.items():
        change(path, image)
        read = load(name, tmp_path).picture(0)
        expected = np.repeat(image.mean(-1, keepdims=True), 3, -1) if kind == "gray" else image
        assert read.shape == image.shape, kind
        assert np.abs(read.astype(int) - expected).mean() < 8, kind


@pytest.mark.parametrize("name", WRITERS)
def test_hidden_files_are_not_data(name, tmp_path):
    """macOS, Jupyter and editors leave such files in every folder."""
    WRITERS[name](tmp_path)
    before = load(name, tmp_path)
    for path in [path for path in sorted(tmp_path.rglob("*")) if path.is_file()]:
        path.with_name(f"._{path.name}").write_bytes(b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X")
        copies = path.with_name(".ipynb_checkpoints")
        copies.mkdir(exist_ok=True)
        (copies / path.name).write_bytes(path.read_bytes()[:50])
        archived = tmp_path / "__MACOSX" / path.relative_to(tmp_path)
        archived.parent.mkdir(parents=True, exist_ok=True)
        archived.write_bytes(b"\x00\x05\x16\x07")
    if name not in ENDINGS:
        assert detect(root_of(name, tmp_path)) == name
        (tmp_path / "empty" / ".hidden").mkdir(parents=True)
        (tmp_path / "empty" / "._0.pts").write_bytes(b"")
        with pytest.raises(InputError, match="its files have no known layout"):
            detect(tmp_path / "empty")
    faults: list[str] = []
    after = load(name, tmp_path, faults)
    assert faults == []
    assert after.photos == before.photos
    np.testing.assert_array_equal(after.points, before.points)


@pytest.mark.parametrize("ending", [".JPG", ".Png", ".webp", ".TIFF"])
@pytest.mark.parametrize("name", WITH_FILES)
def test_pictures_end_in_any_known_way_in_any_case(name, ending, tmp_path):
    """Beside annotations any ending is read; in lists, names may differ in case."""
    WRITERS[name](tmp_path)
    before = load(name, tmp_path)
    listed = name in ("imglab", "coco", "csv", "wflw", "mtfl", "aflw_sqlite")
    for path in dict.fromkeys(before.pictures):
        renamed = path.with_name(path.name.upper() if listed else f"{path.stem}{ending}")
        path.rename(renamed)
    after = load(name, tmp_path)
    assert after.photos == before.photos
    assert after.picture(0).shape == after.picture(1).shape


# Available real data sets, by folder


REAL = {
    "300w": ("w300", "train", "", 2012),
    "mtfl": ("mtfl", "train", "", 10_000),
    "photos": ("pts", "all", "ibug68", 120),
    "formats/aflw2000_16_mat": ("aflw2000", "test", "", 16),
    "formats/superviseddescent_lfpw5": ("pts", "all", "ibug68", 5),
    "formats/sbr_pts10": ("pts", "all", "ibug68", 10),
    "formats/dlib_examples_faces/training_with_face_landmarks.xml": ("imglab", "all", "ibug68", 18),
    "formats/dlib_examples_faces/testing_with_face_landmarks.xml": ("imglab", "all", "ibug68", 25),
    "formats/mmpose_tests_data/300w/test_300w.json": ("coco", "all", "ibug68", 2),
    "formats/mmpose_tests_data/300wlp/test_300wlp.json": ("coco", "all", "ibug68", 2),
    "formats/mmpose_tests_data/300vw/anno_300vw.json": ("coco", "all", "ibug68", 3),
    "formats/mmpose_tests_data/aflw/test_aflw.json": ("coco", "all", "aflw19", 2),
    "formats/mmpose_tests_data/cofw/test_cofw.json": ("coco", "all", "cofw29", 2),
    "formats/mmpose_tests_data/lapa/test_lapa.json": ("coco", "all", "lapa106", 2),
    "formats/mmpose_tests_data/wflw/test_wflw.json": ("coco", "all", "wflw98", 4),
}


@pytest.mark.slow
@pytest.mark.parametrize("place", REAL)
def test_real_data_sets_are_detected_and_counted(place, data_root):
    name, split, scheme, count = REAL[place]
    assert detect(data_root / place) == name
    faces = load_faces(name, split, root=str(data_root / place), scheme=scheme)
    assert len(faces) == count
    assert np.isfinite(faces.points).all()
    sample = faces.take(np.linspace(0, count - 1, min(count, 12)).astype(int))
    assert not check_split(sample, []).faults
    outer = sample.points[:, sample.scheme.right_outer, 0] - sample.points[:, sample.scheme.left_outer, 0]
    assert np.median(outer / (sample.boxes[:, 2] - sample.boxes[:, 0])) > 0.2  # left is on the left


def test_real_menpo_folder_lists_its_one_face_of_another_scheme(data_root):
    faults: list[str] = []
    root = str(data_root / "formats" / "menpo_data")
    assert len(load_faces("pts", "all", root=root, scheme=IBUG_68.name, faults=faults)) == 4
    assert len(faults) == 1
    assert "tongue.pts: 19 points, but 68 in the scheme" in faults[0]


def test_real_video_frames_are_in_the_folders_of_300vw(data_root):
    root = data_root / "formats" / "mmpose_tests_data" / "300vw"
    assert detect(root) == "w300vw"
    assert len(load_faces("w300vw", "train", root=str(root))) == 2
    assert len(load_faces("w300vw", "test", root=str(root))) == 2
