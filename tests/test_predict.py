"""`wing-jax predict` on several photos and on folders: the same as photo by photo, read group by group."""

import json
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wing_jax.cli import main, predict
from wing_jax.data.images import read_image, write_image
from wing_jax.errors import InputError
from wing_jax.localizer import Localizer, Stage
from wing_jax.models import make_model
from wing_jax.schemes import MTFL_5


@pytest.fixture(autouse=True)
def no_settings_of_this_process(monkeypatch):
    """The command line sets XLA's flags and compile cache for its own process, not for the tests'."""
    monkeypatch.setattr("wing_jax.train.devices.prepare_xla", lambda: None)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    network = {"name": "plain", "points": 5, "channels": (4, 4), "hidden": 8}
    variables = make_model(**network).init(jax.random.key(0), jnp.zeros((1, 16, 16, 3)))
    variables["params"]["output"]["bias"] = jnp.asarray([5.0, 5, 10, 5, 8, 8, 5, 11, 10, 11])
    stage = Stage(network=network, variables=variables, input_size=16, chip_size=32, margin=1.2)
    template = np.full((5, 2), 0.5, np.float32)
    localizer = Localizer(scheme=MTFL_5, box_convention="landmarks", stages=(stage,), template=template)
    return localizer.save(tmp_path_factory.mktemp("models") / "five")


@pytest.fixture
def folder(tmp_path):
    random = np.random.default_rng(0)
    for number in range(11):
        image = random.integers(0, 256, (5 + number, 8, 3), dtype=np.uint8).repeat(9, 0).repeat(9, 1)
        write_image(tmp_path / "photos" / f"{number:02d}.{('png', 'PNG', 'bmp')[number % 3]}", image)
    (tmp_path / "photos" / "notes.txt").write_text("no picture")
    return tmp_path / "photos"


def test_a_folder_is_as_its_photos_one_by_one(capsys, monkeypatch, model, folder, tmp_path):
    monkeypatch.setattr(predict, "PHOTOS", 4)
    main(["predict", str(model), str(folder), "--output", str(tmp_path / "out")])
    assert capsys.readouterr().out.count("1 face(s)") == 11
    localizer = Localizer.load(model)
    for path in predict.pictures([str(folder)]):
        image = read_image(path)
        expected = localizer.predict(image, [[0, 0, image.shape[1] - 1, image.shape[0] - 1]])
        (face,) = json.loads((tmp_path / "out" / f"{path.stem}.json").read_text())["faces"]
        np.testing.assert_allclose(face["points"], expected[0], atol=1e-3)
        assert read_image(tmp_path / "out" / f"{path.stem}.png").shape == image.shape


def test_photos_come_in_order_and_in_groups(monkeypatch, folder):
    paths = predict.pictures([str(folder)])
    assert [path.stem for path in paths] == [f"{number:02d}" for number in range(11)]
    monkeypatch.setattr(predict, "READ_AT_ONCE", 2)
    for name, value, sizes in [("PHOTOS", 5, [6, 5]), ("BYTES", 1, [2, 2, 2, 2, 2, 1]), ("PHOTOS", 64, [11])]:
        with monkeypatch.context() as only, ThreadPoolExecutor(2) as pool:
            only.setattr(predict, name, value)
            groups = list(predict.photo_batches(paths, pool))
        assert [len(images) for _, images in groups] == sizes
        assert [path for group, _ in groups for path in group] == paths
        for path, image in ((p, i) for group, images in groups for p, i in zip(group, images, strict=True)):
            np.testing.assert_array_equal(image, read_image(path))


def test_folders_without_pictures_and_names_given_twice_are_refused(folder, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no picture in this folder"):
        predict.pictures([str(tmp_path / "empty")])
    with pytest.raises(InputError, match=r"would both be written to 03\.png"):
        predict.pictures([str(folder), str(tmp_path / "03.jpg")])
