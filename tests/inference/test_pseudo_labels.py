"""Faces of few points labeled by a model of many: where it looks, what is kept, and training on both."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.support.writers.mtfl import write_mtfl
from wing_jax.cli import main
from wing_jax.config import BalanceConfig, DataConfig, load_config
from wing_jax.data.boxes import ShapeInBox, with_boxes
from wing_jax.data.load import converted, load_faces
from wing_jax.data.packed import pack, read_packed
from wing_jax.errors import InputError
from wing_jax.from_config.train import training_data
from wing_jax.inference.localizer import Localizer, Stage
from wing_jax.inference.metadata import Metadata
from wing_jax.inference.pseudo_labels import label_faces
from wing_jax.models import make_model
from wing_jax.schemes import IBUG_68, LAPA_106, MTFL_5, get_conversion

SIZE = 32


@pytest.fixture(scope="module")
def drawn():
    return load_faces("synthetic", "train", count=30)


@pytest.fixture(scope="module")
def five(drawn):
    return converted(drawn, MTFL_5)


@pytest.fixture(scope="module")
def template(drawn):
    low, high = drawn.points.min(1, keepdims=True), drawn.points.max(1, keepdims=True)
    return (((drawn.points - low) / (high - low).max(2, keepdims=True)).mean(0) * 0.6 + 0.2).astype(np.float32)


def always(shape, *, scheme=IBUG_68, **metadata):
    """A model that answers `shape` (fractions of the crop) whatever it sees; its boxes hold the shape exactly."""
    network = {"name": "plain", "points": scheme.points, "channels": (4,), "hidden": 4}
    variables = make_model(**network).init(jax.random.key(0), jnp.zeros((1, SIZE, SIZE, 3), jnp.uint8))
    blank = jax.tree.map(jnp.zeros_like, variables["params"])
    blank["output"]["bias"] = jnp.asarray(shape * SIZE - 0.5).ravel()
    stage = Stage(
        model=make_model(**network),
        variables={"batch_stats": {}, "params": blank},
        input_size=SIZE,
        face_crop_size=64,
        margin=1.0,
    )
    metadata = Metadata(**{"shape_in_box": ShapeInBox(center=(0.0, 0.0), side=1.0), "name": "always", **metadata})
    return Localizer(scheme=scheme, box_convention="landmarks", stages=(stage,), template=shape, metadata=metadata)


def laid(source, few, target):
    """`source` [L, 2] by the similarity that brings `few` [l, 2] nearest to `target` [l, 2]: by least squares."""
    rows = np.concatenate(
        [
            np.stack([few[:, 0], -few[:, 1], np.ones(len(few)), np.zeros(len(few))], 1),
            np.stack([few[:, 1], few[:, 0], np.zeros(len(few)), np.ones(len(few))], 1),
        ]
    )
    (a, b, x, y), *_ = np.linalg.lstsq(rows, target.T.ravel(), rcond=None)
    return source @ np.array([[a, b], [-b, a]]) + (x, y)


def test_the_model_looks_where_the_annotated_points_say(five, template):
    labeled = label_faces(always(template), five)
    few = get_conversion(IBUG_68, MTFL_5).points(template)
    for face in range(len(five)):
        shape = laid(template.astype(float), few.astype(float), five.points[face].astype(float))
        low, high = shape.min(0), shape.max(0)
        side = (high - low).max()
        expected = (low + high) / 2 + side * (template - 0.5)
        np.testing.assert_allclose(labeled.faces.points[face], expected, atol=0.02)
        told = np.stack([expected[36:42].mean(0), expected[42:48].mean(0), *expected[[30, 48, 54]]])
        apart = np.linalg.norm(told - five.points[face], axis=1).mean() / side
        assert labeled.distances[face] == pytest.approx(apart, abs=1e-3)
        assert labeled.offsets[face] == pytest.approx((five.points[face] - told)[:, 0].mean(), abs=0.02)
    assert 0.005 < np.median(labeled.distances) < 0.2


def test_labeled_faces_are_of_the_models_scheme_and_boxes(five, template):
    faces = label_faces(always(template), five).faces
    assert faces.scheme is IBUG_68
    assert faces.visible.shape == (len(five), 68)
    assert faces.visible.all()
    assert faces.box_convention == "landmarks"
    low, high = faces.points.min(1), faces.points.max(1)
    np.testing.assert_allclose((faces.boxes[:, :2] + faces.boxes[:, 2:]) / 2, (low + high) / 2, atol=1e-3)
    np.testing.assert_allclose(faces.boxes[:, 2] - faces.boxes[:, 0], (high - low).max(1), rtol=1e-5)
    assert faces.name == "synthetic faces as mtfl5 labeled by always"


def test_what_cannot_be_labeled_is_refused(drawn, five, template):
    model, covered = always(template), dataclasses.replace(five, visible=np.eye(len(five), 5) == 0)
    refused = {
        "cannot be labeled by a model of ibug68: no way": lambda: label_faces(model, converted_to(drawn, LAPA_106)),
        "some of its points are hidden": lambda: label_faces(model, covered),
        "does not record how its boxes lay": lambda: label_faces(always(template, shape_in_box=None), five),
    }
    for message, attempt in refused.items():
        with pytest.raises(InputError, match=message):
            attempt()


def converted_to(faces, scheme):
    """Faces that are said to be of `scheme`."""
    points = np.zeros((len(faces), scheme.points, 2), np.float32)
    shown = np.ones(points.shape[:2], bool)
    return dataclasses.replace(faces, scheme=scheme, points=points, visible=shown, visibility=None)


def test_the_command_keeps_and_packs_the_faces_within_the_distance(capsys, monkeypatch, tmp_path, template):
    monkeypatch.chdir(tmp_path)
    written = write_mtfl(tmp_path / "mtfl")
    always(template).save("teacher")
    faces = load_faces("mtfl", "train", root="mtfl")
    apart = 100 * label_faces(dataclasses.replace(always(template), flip_average=True), faces).distances
    with pytest.raises(SystemExit) as stopped:
        main(["data", "label", "mtfl", "teacher", "out", "--most", f"{apart.min() - 0.01:.3f}"])
    assert stopped.value.code == 2
    assert "finds the annotated points of no face of MTFL within" in capsys.readouterr().err
    second = np.sort(apart)[1]
    main(["data", "label", "mtfl", "teacher", "out", "--most", f"{second + 0.001:.3f}", "--size", "48"])
    said = capsys.readouterr().out
    assert "out: 2 faces of 48 x 48 pixels, 68 points each" in said
    mean_offset = np.median(label_faces(dataclasses.replace(always(template), flip_average=True), faces).offsets)
    assert f"the annotated points lie {mean_offset:+.2f} pixels to the right" in said
    assert ("do they count from 1?" in said) == (mean_offset > 0.5)
    packed = read_packed("out", "train")
    assert packed.points.shape == (2, 68, 2)
    assert packed.attributes.keys() == faces.attributes.keys()
    assert len(written["train"]) == 3


# Training on several sets


@pytest.fixture
def config():
    return dataclasses.replace(
        load_config("configs/synthetic.py"), data=DataConfig(name="synthetic", train_faces=40), balance=BalanceConfig()
    )


@pytest.fixture
def packed_more(tmp_path, drawn):
    """Ten other faces, packed with the boxes' convention of the synthetic set."""
    pack({"train": drawn.take(np.arange(10))}, tmp_path / "more", size=64, quality=90, source="drawn")
    return DataConfig(name="packed", root=str(tmp_path / "more"), copies=3)


def test_other_sets_join_the_training_faces_and_not_the_held_out(config, packed_more):
    alone = training_data(config)
    both = training_data(dataclasses.replace(config, more=(packed_more,)))
    own = len(alone.train.images)
    assert len(both.train.images) == own + 10
    np.testing.assert_array_equal(both.train.images[:own], alone.train.images)
    np.testing.assert_array_equal(both.validation.images, alone.validation.images)
    np.testing.assert_array_equal(np.bincount(both.order), [1] * own + [3] * 10)
    assert (both.data_name, both.face_count) == ("synthetic faces + synthetic faces", 50)
    assert both.shape == alone.shape


def test_copies_multiply_what_hsm_says(config, packed_more):
    hsm = BalanceConfig(method="hsm", bins=5, cap=4)
    both = dataclasses.replace(config, more=(packed_more,), balance=hsm)
    once = dataclasses.replace(both, more=(dataclasses.replace(packed_more, copies=1),))
    counts = [np.bincount(training_data(given).order) for given in (once, both)]
    np.testing.assert_array_equal(counts[1], np.concatenate([counts[0][:-10], 3 * counts[0][-10:]]))
    assert counts[0].max() > 1


def test_other_sets_are_converted_to_the_points_of_the_first(tmp_path, five, config):
    pack({"train": with_boxes(five, "landmarks")}, tmp_path / "five", size=64, quality=90, source="drawn")
    few = DataConfig(name="packed", root=str(tmp_path / "five"))
    many = DataConfig(name="synthetic", train_faces=20, boxes="landmarks")
    data = training_data(dataclasses.replace(config, data=few, more=(many,)))
    assert data.scheme is MTFL_5
    assert data.train.points.shape[1:] == (5, 2)
    with pytest.raises(InputError, match="no way from 'mtfl5' to 'ibug68'"):
        training_data(dataclasses.replace(config, data=many, more=(few,)))
    other_boxes = dataclasses.replace(many, boxes="mtfl")
    said = r"by the 'mtfl' convention, synthetic faces .*by 'landmarks': choose a rule .*, such as boxes='landmarks'"
    with pytest.raises(InputError, match=said):
        training_data(dataclasses.replace(config, data=few, more=(other_boxes,)))


def test_photos_are_left_out_by_name(drawn):
    name = drawn.photos[3]
    kept = drawn.without((name,))
    assert name not in kept.photos
    assert len(kept) == len(drawn) - drawn.photos.count(name)
    assert drawn.without(()).photos == drawn.photos
    assert drawn.without(("elsewhere/1",)).photos == drawn.photos
    with pytest.raises(InputError, match="no face remains"):
        drawn.without(drawn.photos)
    with pytest.raises(InputError, match="copies=0 must be at least 1"):
        DataConfig(name="synthetic", copies=0)


@pytest.fixture(scope="module")
def real(data_root):
    """Eighty frontal faces of MTFL and what the 68-point model in the box makes of them."""
    faces = load_faces("mtfl", "train", root=str(data_root / "mtfl"))
    frontal = np.flatnonzero([pose == "3 frontal" for pose in faces.poses])[:: len(faces) // 100]
    faces = faces.take(frontal[:80])
    return faces, label_faces(Localizer.load("w300"), faces)


def test_the_model_in_the_box_labels_real_faces_within_the_annotators_noise(real):
    """1.42 % is the median over all frontal faces. The annotated points say where to look and no more."""
    faces, labeled = real
    assert 0.005 < np.median(labeled.distances) < 0.02
    away = dataclasses.replace(faces, points=faces.points + 0.1 * (faces.boxes[:, 2:] - faces.boxes[:, :2])[:, None])
    assert np.median(label_faces(Localizer.load("w300"), away).distances) > 0.05  # it does not answer what it is asked


def test_mtfl_counts_from_1(real):
    """The model was trained on other faces and with flips, so that it cannot lean to one side: nor do the points here,
    as the reader gives them. Read from 0 all five would lie a pixel to the right."""
    faces, labeled = real
    mean_offset = faces.points[..., 0] - get_conversion(IBUG_68, MTFL_5).points(labeled.faces.points)[..., 0]
    assert np.abs(np.median(mean_offset, axis=0)).max() < 0.45  # pixels, each point
    assert abs(np.median(labeled.offsets)) < 0.25
