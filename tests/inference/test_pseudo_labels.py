"""Pseudo-labels: faces with few points labeled by a model with many, the command, and training on both sets."""

import dataclasses
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.support.writers.mtfl import write_mtfl
from wing_jax.cli import main
from wing_jax.config import BalanceConfig, DataConfig
from wing_jax.config_files import load_config
from wing_jax.data.boxes import ShapeInBox, with_boxes
from wing_jax.data.load import convert_points, load_faces
from wing_jax.data.packed import pack, read_packed
from wing_jax.errors import InputError
from wing_jax.from_config.train import training_data
from wing_jax.inference.localizer import Localizer, Stage
from wing_jax.inference.metadata import Metadata
from wing_jax.inference.pseudo_labels import label_faces
from wing_jax.models import make_model
from wing_jax.schemes import IBUG_68, LAPA_106, MTFL_5, get_conversion

pytestmark = pytest.mark.slow

SIZE = 32


@pytest.fixture(scope="module")
def synthetic():
    return load_faces("synthetic", "train", count=30)


@pytest.fixture(scope="module")
def five(synthetic):
    return convert_points(synthetic, MTFL_5)


@pytest.fixture(scope="module")
def template(synthetic):
    low, high = synthetic.points.min(1, keepdims=True), synthetic.points.max(1, keepdims=True)
    return (((synthetic.points - low) / (high - low).max(2, keepdims=True)).mean(0) * 0.6 + 0.2).astype(np.float32)


def constant_model(shape, *, scheme=IBUG_68, **metadata):
    """Return a model whose result is always `shape` (fractions of the crop); its boxes are those of the shape."""
    network = {"name": "plain", "points": scheme.points, "channels": (4,), "hidden": 4}
    crop = np.zeros((1, SIZE, SIZE, 3), np.uint8)
    shapes = jax.eval_shape(make_model(**network).init, jax.random.key(0), crop)
    blank = jax.tree.map(lambda leaf: jnp.asarray(np.zeros(leaf.shape, leaf.dtype)), shapes["params"])
    blank["output"]["bias"] = jnp.asarray((shape * SIZE - 0.5).ravel())
    stage = Stage(
        model=make_model(**network),
        variables={"batch_stats": {}, "params": blank},
        input_size=SIZE,
        face_crop_size=64,
        margin=1.0,
    )
    metadata = Metadata(**{"shape_in_box": ShapeInBox(center=(0.0, 0.0), side=1.0), "name": "always", **metadata})
    return Localizer(scheme=scheme, box_convention="landmarks", stages=(stage,), template=shape, metadata=metadata)


def align(source, few, target):
    """Transform `source` [L, 2] by the least-squares similarity from `few` [l, 2] to `target` [l, 2]."""
    rows = np.concatenate(
        [
            np.stack([few[:, 0], -few[:, 1], np.ones(len(few)), np.zeros(len(few))], 1),
            np.stack([few[:, 1], few[:, 0], np.zeros(len(few)), np.ones(len(few))], 1),
        ]
    )
    (a, b, x, y), *_ = np.linalg.lstsq(rows, target.T.ravel(), rcond=None)
    return source @ np.array([[a, b], [-b, a]]) + (x, y)


def test_the_boxes_come_from_the_annotated_points(five, template):
    labeled = label_faces(constant_model(template), five)
    few = get_conversion(IBUG_68, MTFL_5).points(template)
    for face in range(len(five)):
        shape = align(template.astype(float), few.astype(float), five.points[face].astype(float))
        low, high = shape.min(0), shape.max(0)
        side = (high - low).max()
        expected = (low + high) / 2 + side * (template - 0.5)
        np.testing.assert_allclose(labeled.faces.points[face], expected, atol=0.02)
        computed = np.stack([expected[36:42].mean(0), expected[42:48].mean(0), *expected[[30, 48, 54]]])
        distance = np.linalg.norm(computed - five.points[face], axis=1).mean() / side
        assert labeled.distances[face] == pytest.approx(distance, abs=1e-3)
        assert labeled.offsets[face] == pytest.approx((five.points[face] - computed)[:, 0].mean(), abs=0.02)
    assert 0.005 < np.median(labeled.distances) < 0.2


def test_labeled_faces_have_the_scheme_and_boxes_of_the_model(five, template):
    faces = label_faces(constant_model(template), five).faces
    assert faces.scheme is IBUG_68
    assert faces.visible.shape == (len(five), 68)
    assert faces.visible.all()
    assert faces.box_convention == "landmarks"
    low, high = faces.points.min(1), faces.points.max(1)
    np.testing.assert_allclose((faces.boxes[:, :2] + faces.boxes[:, 2:]) / 2, (low + high) / 2, atol=1e-3)
    np.testing.assert_allclose(faces.boxes[:, 2] - faces.boxes[:, 0], (high - low).max(1), rtol=1e-5)
    assert faces.name == "synthetic faces as mtfl5 labeled by always"


def test_several_models_give_the_mean_of_their_points(five, template):
    """All see the same crops, in which the points of the other two are moved."""
    move = np.float32([0.03, -0.02])  # of the crop's side
    moved = template + move
    single = label_faces(constant_model(template), five)
    both = label_faces(constant_model(template), five, others=[constant_model(moved), constant_model(moved)])
    sides = np.ptp(single.faces.points, axis=1).max(1) / np.ptp(template, axis=0).max()  # of the crops
    expected = single.faces.points + 2 / 3 * sides[:, None, None] * move
    np.testing.assert_allclose(both.faces.points, expected, atol=0.02)
    assert np.all(both.distances != single.distances)


def test_faces_that_cannot_be_labeled_are_refused(synthetic, five, template):
    model, hidden = constant_model(template), dataclasses.replace(five, visible=np.eye(len(five), 5) == 0)
    attempts = {
        "labeled by a model of ibug68: no conversion": lambda: label_faces(model, with_scheme(synthetic, LAPA_106)),
        "some of its points are hidden": lambda: label_faces(model, hidden),
        "does not record the position of faces in its boxes": lambda: label_faces(
            constant_model(template, shape_in_box=None), five
        ),
        "a model has mtfl5 and boxes 'landmarks', always ibug68 and .*: their points cannot be averaged": lambda: (
            label_faces(model, five, others=[constant_model(template[:5], scheme=MTFL_5, name="")])
        ),
    }
    for message, attempt in attempts.items():
        with pytest.raises(InputError, match=message):
            attempt()


def with_scheme(faces, scheme):
    """Return the faces with the given scheme and meaningless points."""
    points = np.zeros((len(faces), scheme.points, 2), np.float32)
    visible = np.ones(points.shape[:2], bool)
    return dataclasses.replace(faces, scheme=scheme, points=points, visible=visible, visibility=None)


def test_the_command_packs_the_faces_within_the_distance(capsys, monkeypatch, tmp_path, template):
    monkeypatch.chdir(tmp_path)
    written = write_mtfl(tmp_path / "mtfl")
    constant_model(template).save("teacher")
    faces = load_faces("mtfl", "train", root="mtfl")
    distances = 100 * label_faces(dataclasses.replace(constant_model(template), flip_average=True), faces).distances
    with pytest.raises(SystemExit) as error:
        main(["data", "label", "mtfl", "teacher", "out", "--max_distance", f"{distances.min() - 0.01:.3f}"])
    assert error.value.code == 2
    assert "no prediction on MTFL is within" in capsys.readouterr().err
    second = np.sort(distances)[1]
    main(["data", "label", "mtfl", "teacher", "out", "--max_distance", f"{second + 0.001:.3f}", "--size", "48"])
    output = capsys.readouterr().out
    assert "out: 2 faces of 48 x 48 pixels, 68 points each" in output
    mean_offset = np.median(
        label_faces(dataclasses.replace(constant_model(template), flip_average=True), faces).offsets
    )
    assert f"the annotated points are {mean_offset:+.2f} pixels right" in output
    assert ("do the annotated coordinates count from 1?" in output) == (mean_offset > 0.5)
    packed = read_packed("out", "train")
    assert packed.points.shape == (2, 68, 2)
    assert packed.attributes.keys() == faces.attributes.keys()
    assert len(written["train"]) == 3
    moved = template + np.float32([0.2, 0.0])
    constant_model(moved).save("other")
    main(["data", "label", "mtfl", "teacher", "both", "--others", "other", "--max_distance", "100", "--size", "48"])
    assert f"both: {len(faces)} faces of 48 x 48 pixels" in capsys.readouterr().out
    both = label_faces(constant_model(template), faces, others=[constant_model(moved)])
    assert np.abs(both.distances - distances / 100).min() > 0.01
    assert json.loads(Path("both/manifest.json").read_text())["source"].endswith("mtfl, by teacher, other")
    options = ["--no_flip_average", "--max_distance", "100", "--size", "48"]
    main(["data", "label", "mtfl", "other", "unflipped", *options])
    offset = np.median(label_faces(constant_model(moved), faces).offsets)
    mirrored = np.median(label_faces(dataclasses.replace(constant_model(moved), flip_average=True), faces).offsets)
    assert f"the annotated points are {offset:+.2f} pixels right" in capsys.readouterr().out
    assert abs(offset - mirrored) > 0.1


# Training on several sets


@pytest.fixture
def config():
    return dataclasses.replace(
        load_config("configs/synthetic.py"), data=DataConfig(name="synthetic", train_faces=40), balance=BalanceConfig()
    )


@pytest.fixture
def more_data(tmp_path, synthetic):
    """Ten other faces, packed with the box convention of the synthetic set."""
    pack({"train": synthetic.take(np.arange(10))}, tmp_path / "more", size=64, quality=90, source="drawn")
    return DataConfig(name="packed", root=str(tmp_path / "more"), copies=3)


def test_other_sets_are_added_to_the_training_faces_only(config, more_data):
    single = training_data(config)
    both = training_data(dataclasses.replace(config, extra_data=(more_data,)))
    count = len(single.train.images)
    assert len(both.train.images) == count + 10
    np.testing.assert_array_equal(both.train.images[:count], single.train.images)
    np.testing.assert_array_equal(both.validation.images, single.validation.images)
    np.testing.assert_array_equal(np.bincount(both.order), [1] * count + [3] * 10)
    assert (both.data_name, both.face_count) == ("synthetic faces + synthetic faces", 50)
    assert both.shape == single.shape


def test_copies_multiply_the_counts_of_hsm(config, more_data):
    hsm = BalanceConfig(method="hsm", bins=5, cap=4)
    both = dataclasses.replace(config, extra_data=(more_data,), balance=hsm)
    once = dataclasses.replace(both, extra_data=(dataclasses.replace(more_data, copies=1),))
    counts = [np.bincount(training_data(each).order) for each in (once, both)]
    np.testing.assert_array_equal(counts[1], np.concatenate([counts[0][:-10], 3 * counts[0][-10:]]))
    assert counts[0].max() > 1


def test_other_sets_are_converted_to_the_points_of_the_first(tmp_path, five, config):
    pack({"train": with_boxes(five, "landmarks")}, tmp_path / "five", size=64, quality=90, source="drawn")
    few = DataConfig(name="packed", root=str(tmp_path / "five"))
    many = DataConfig(name="synthetic", train_faces=20, boxes="landmarks")
    data = training_data(dataclasses.replace(config, data=few, extra_data=(many,)))
    assert data.scheme is MTFL_5
    assert data.train.points.shape[1:] == (5, 2)
    with pytest.raises(InputError, match="no conversion from 'mtfl5' to 'ibug68'"):
        training_data(dataclasses.replace(config, data=many, extra_data=(few,)))
    other_boxes = dataclasses.replace(many, boxes="mtfl")
    message = r"by the 'mtfl' convention, synthetic faces .*by 'landmarks': choose a rule .*, such as boxes='landmarks'"
    with pytest.raises(InputError, match=message):
        training_data(dataclasses.replace(config, data=few, extra_data=(other_boxes,)))


def test_photos_are_excluded_by_name(synthetic):
    name = synthetic.photos[3]
    rest = synthetic.without((name,))
    assert name not in rest.photos
    assert len(rest) == len(synthetic) - synthetic.photos.count(name)
    assert synthetic.without(()).photos == synthetic.photos
    assert synthetic.without(("elsewhere/1",)).photos == synthetic.photos
    with pytest.raises(InputError, match="no face remains"):
        synthetic.without(synthetic.photos)
    with pytest.raises(InputError, match="copies=0 must be at least 1"):
        DataConfig(name="synthetic", copies=0)


@pytest.fixture(scope="module")
def real(data_root):
    """Forty frontal faces of MTFL, and their pseudo-labels from the pretrained model with 68 points."""
    faces = load_faces("mtfl", "train", root=str(data_root / "mtfl"))
    frontal = np.flatnonzero([pose == "3 frontal" for pose in faces.poses])[:: len(faces) // 100]
    faces = faces.take(frontal[:40])
    return faces, label_faces(unshifted_w300(), faces)


def unshifted_w300():
    """Return `w300` averaged with the mirror image, which removes the horizontal offset of 300-W's annotation."""
    return dataclasses.replace(Localizer.load("w300"), flip_average=True)


def test_the_pretrained_model_labels_real_faces_within_the_noise_of_annotators(real):
    """1.42 % is the median over all frontal faces. The annotated points determine only the boxes."""
    faces, labeled = real
    assert 0.005 < np.median(labeled.distances) < 0.02
    shifted = dataclasses.replace(faces, points=faces.points + 0.1 * (faces.boxes[:, 2:] - faces.boxes[:, :2])[:, None])
    assert np.median(label_faces(unshifted_w300(), shifted).distances) > 0.05  # the model does not copy its input


def test_mtfl_counts_from_1(real):
    """The model was trained on other annotations, and averaged with the mirror image it has no horizontal bias; neither
    do the points that the reader returns. Without the correction for counting from 1, all five would be a pixel too far
    to the right."""
    faces, labeled = real
    mean_offset = faces.points[..., 0] - get_conversion(IBUG_68, MTFL_5).points(labeled.faces.points)[..., 0]
    assert np.abs(np.median(mean_offset, axis=0)).max() < 0.45  # pixels, each point
    assert abs(np.median(labeled.offsets)) < 0.25
