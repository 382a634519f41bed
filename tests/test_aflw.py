"""The readers of AFLW, on a list made here in the published form and on the published head shapes."""

import numpy as np
import pytest
import scipy.io

from wing_jax.data.aflw import read_aflw
from wing_jax.data.aflw_shapes import read_aflw_shapes
from wing_jax.errors import InputError
from wing_jax.schemes import AFLW_19


def refusal(work, *arguments, **keywords) -> str:
    with pytest.raises(InputError) as caught:
        work(*arguments, **keywords)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def aflw_list(root, **changes) -> None:
    """A list of six faces as published; `ra` trains on the first four of 6, 1, 2, 3, 4, 5."""
    names = np.empty((6, 1), object)
    names[:, 0] = [f"0/image{i:05}.png" for i in range(6)]
    draws = np.random.default_rng(0)
    points = draws.uniform(20, 80, (6, 2, 19))
    points[1, 0, 3] = 120  # outside its box
    shown = np.ones((6, 19))
    shown[2, 4] = 0
    content = {
        "nameList": names,
        "bbox": np.array([[10.0, 90, 11, 91]] * 6),
        "data": points.reshape(6, 38),
        "mask_new": shown,
        "ra": np.array([[6, 1, 2, 3, 4, 5]]),
    }
    scipy.io.savemat(root / "AFLWinfo_release.mat", {k: v for k, v in (content | changes).items() if v is not None})


def test_aflw_small(tmp_path):
    aflw_list(tmp_path)
    train, test = (read_aflw(tmp_path, split, training_faces=4) for split in ("train", "test"))
    assert [path.name for path in train.pictures] == [f"image0000{i}.jpg" for i in (5, 0, 1, 2)]
    assert [path.name for path in test.pictures] == ["image00003.jpg", "image00004.jpg"]
    assert train.subsets == ("frontal", "frontal", "not frontal", "not frontal")
    np.testing.assert_array_equal(train.boxes[0], [10, 11, 90, 91])
    raw = scipy.io.loadmat(tmp_path / "AFLWinfo_release.mat")["data"]
    np.testing.assert_allclose(train.points[0], np.stack([raw[5, :19], raw[5, 19:]], 1), rtol=1e-6)
    assert train.visible.all()
    assert train.scheme is AFLW_19
    assert train.pictures[0].parent == tmp_path / "0"
    (tmp_path / "flickr").mkdir()
    assert read_aflw(tmp_path, "train").pictures[0].parent == tmp_path / "flickr" / "0"


@pytest.mark.parametrize(
    "changes",
    [
        {"data": None},
        {"data": np.zeros((6, 37))},
        {"data": np.full((6, 38), np.nan)},
        {"bbox": np.full((6, 4), np.inf)},
        {"bbox": np.zeros((6, 3))},
        {"nameList": np.zeros((6, 1))},
        {"nameList": np.zeros((0, 1))},
        {"ra": np.array([[7, 1]])},
        {"mask_new": np.ones((5, 19))},
    ],
    ids=str,
)
def test_aflw_refuses_what_is_not_as_published(tmp_path, changes):
    aflw_list(tmp_path, **changes)
    message = refusal(read_aflw, tmp_path, "train")
    assert message.startswith(f"{tmp_path / 'AFLWinfo_release.mat'}: ")
    assert message.endswith("copy the file again")


@pytest.mark.parametrize("kept", [0, 50, 200, 700])
def test_aflw_refuses_a_truncated_or_missing_list(tmp_path, kept):
    assert "give the folder that holds it" in refusal(read_aflw, tmp_path, "train")
    aflw_list(tmp_path)
    file = tmp_path / "AFLWinfo_release.mat"
    file.write_bytes(file.read_bytes()[:kept])
    assert refusal(read_aflw, tmp_path, "train").startswith(f"{file}: ")


def test_aflw_shapes_as_published(data_root):
    points, visible, scheme, yaw = read_aflw_shapes(data_root / "aflw_shapes")
    assert len(points) == len(visible) == len(yaw) > 20_000
    assert visible.sum(1).min() >= 3
    shown = visible[:, [scheme.left_outer, scheme.right_outer]]
    assert yaw[shown[:, 0] & ~shown[:, 1]].mean() > 20  # the nose to image right hides the eye at image right
    assert yaw[shown[:, 1] & ~shown[:, 0]].mean() < -20


def test_aflw_shapes_refuses_missing_empty_and_other_files(tmp_path):
    assert "give their folder" in refusal(read_aflw_shapes, tmp_path)
    np.save(tmp_path / "AFLW_GT_pts21.npy", np.zeros((4, 21, 2), np.float32))
    np.save(tmp_path / "AFLW_GT_crop_yaws.npy", np.zeros(4, np.float32))
    assert "copy the published files again" in refusal(read_aflw_shapes, tmp_path)
    (tmp_path / "AFLW_GT_pts21.npy").write_bytes(b"")
    assert "cannot read" in refusal(read_aflw_shapes, tmp_path)
