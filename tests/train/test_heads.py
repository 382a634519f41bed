"""Training on sets with different landmarks: one network, a head for each scheme."""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from wing_jax import geometry
from wing_jax.balance import hsm
from wing_jax.data.load import convert_points, load_faces
from wing_jax.errors import InputError
from wing_jax.inference.localizer import Localizer
from wing_jax.input.on_host import fixed_crops
from wing_jax.models import make_model
from wing_jax.schemes import IBUG_68, MTFL_5, Scheme
from wing_jax.train.data import FaceSource, prepare_data
from wing_jax.train.fit import fit
from wing_jax.train.heads import common_points, join_schemes, join_sets, list_schemes
from wing_jax.train.spec import StageSpec
from wing_jax.train.stages import first_setup

HEADS = (IBUG_68, MTFL_5)


@pytest.fixture(scope="module")
def faces():
    return load_faces("synthetic", "train", count=24)


@pytest.fixture(scope="module")
def five(faces):
    """Other faces, with five points and the tight boxes of these."""
    others = load_faces("synthetic", "train", count=48).take(range(24, 48))
    points = convert_points(others, MTFL_5)
    return dataclasses.replace(
        points, boxes=np.asarray(geometry.tight_box(points.points)), box_convention="landmarks", name="five"
    )


def stage(**changes):
    model = functools.partial(make_model, "plain", channels=(4, 8), hidden=8, norm="batch")
    defaults = {"model": model, "optimizer": optax.sgd(1e-3), "input_size": 32, "steps": 1, "batch_size": 8}
    return StageSpec(**{**defaults, "augment": [], "ema": 0.0, "crops_per_face": 1, **changes})


def test_the_joined_scheme_has_the_points_of_all():
    joined = join_schemes(HEADS)
    assert joined.points == 73
    assert joined.names[68] == f"mtfl5: {MTFL_5.names[0]}"
    assert (joined.left_outer, joined.right_outer) == (IBUG_68.left_outer, IBUG_68.right_outer)
    np.testing.assert_array_equal(joined.flip[:68], IBUG_68.flip)
    np.testing.assert_array_equal(joined.flip[68:] - 68, MTFL_5.flip)
    assert join_schemes(HEADS[:1]) is IBUG_68


def test_joined_sets_show_only_their_own_points(faces, five):
    first, second = join_sets([faces, five], HEADS)
    np.testing.assert_array_equal(first.points[:, :68], faces.points)
    np.testing.assert_array_equal(second.points[:, 68:], five.points)
    assert first.visible[:, :68].all()
    assert not first.visible[:, 68:].any()
    assert not second.visible[:, :68].any()
    np.testing.assert_array_equal(second.visible[:, 68:], five.visible)
    assert list_schemes([faces, five, faces]) == HEADS


def test_boxes_are_converted_to_the_first_sets_convention(faces, five):
    """Against the tight boxes of the same faces' 68 points, which the conversion does not see."""
    others = load_faces("synthetic", "train", count=48).take(range(24, 48))
    _, converted = join_sets([faces, five], HEADS)
    expected = np.asarray(geometry.tight_box(others.points))
    sides = [np.asarray(geometry.larger_side(boxes))[:, 0] for boxes in (converted.boxes, expected)]
    assert np.median(sides[0] / sides[1]) == pytest.approx(1, abs=0.1)
    shift = np.asarray(geometry.box_center(converted.boxes) - geometry.box_center(expected)) / sides[1][:, None]
    np.testing.assert_allclose(np.median(shift, axis=0), 0, atol=0.08)
    assert np.median(sides[1] / geometry.larger_side(five.boxes)[:, 0]) > 1.5  # before the conversion


def test_the_balance_sees_points_that_all_sets_have(faces, five):
    points, visible, scheme = common_points([faces, five])
    assert scheme == MTFL_5
    assert points.shape == (48, 5, 2)
    assert visible.all()
    np.testing.assert_allclose(points[:24], convert_points(faces, MTFL_5).points)
    points, _, scheme = common_points([faces, faces])
    assert (points.shape, scheme) == ((48, 68, 2), IBUG_68)


@pytest.mark.slow
def test_the_mean_shapes_of_the_heads_fit_each_other(faces, five):
    """In the crops of both stages, the eyes, nose and mouth of both heads are at about the same places."""
    spec = [stage(), stage()]
    sources = [FaceSource(faces=faces), FaceSource(faces=five)]
    data = prepare_data(sources, spec, validation=0.2, balance=hsm(bins=3, cap=3), seed=0)
    setup = first_setup(spec[0], data, augment=())
    for mean in (setup.mean, data.template(setup.mean)):
        own, five_points = mean[:68], mean[68:]
        expected = np.stack([own[36:42].mean(0), own[42:48].mean(0), own[30], own[48], own[54]])
        eyes = np.linalg.norm(expected[1] - expected[0])
        assert np.linalg.norm(five_points - expected, axis=1).max() < 0.25 * eyes
    own = data.template(setup.mean)[:68]
    assert float(geometry.larger_side(geometry.tight_box(own)).item()) == pytest.approx(1 / 1.12, abs=1e-4)


@pytest.mark.slow
def test_one_training_gives_a_localizer_for_each_scheme(faces, five, tmp_path):
    result = fit([faces, five], [stage(), stage()], quiet=True, device_count=1, folder=tmp_path)
    assert result.localizer.scheme == IBUG_68
    assert list(result.heads) == ["mtfl5"]
    picture, boxes = faces.picture(0), faces.boxes[:1]
    for localizer, folder, points in ((result.localizer, "model", 68), (result.heads["mtfl5"], "model-mtfl5", 5)):
        predicted = localizer.predict(picture, boxes)
        assert predicted.shape == (1, points, 2)
        np.testing.assert_array_equal(Localizer.load(tmp_path / folder).predict(picture, boxes), predicted)
    assert np.isfinite(result.validation_nme)


@pytest.mark.slow
def test_a_head_learns_from_its_own_faces_only(faces, five):
    """The gradient of a head's weights is zero for a batch of the other set's faces."""
    spec = stage()
    sources = [FaceSource(faces=faces), FaceSource(faces=five)]
    data = prepare_data(sources, [spec], validation=0.2, balance=None, seed=0)
    setup = first_setup(spec, data, augment=())
    variables, objective = setup.state(seed=0).variables, setup.objective(seed=0)
    collections = {name: value for name, value in variables.items() if name != "params"}
    batch = fixed_crops(data.train, setup.transforms[:, 0], size=32)
    count = len(data.train.images) - len(five)
    for rows, own, other in ((slice(count), slice(68), slice(68, 73)), (slice(count, None), slice(68, 73), slice(68))):
        part = jax.tree.map(lambda array, rows=rows: jnp.asarray(array[rows]), batch)
        gradient, _ = jax.grad(objective, has_aux=True)(variables["params"], collections, part, jnp.int32(0))
        by_point = np.asarray(gradient["output"]["kernel"]).reshape(-1, 73, 2)
        assert np.abs(by_point[:, own]).max() > 0
        assert np.abs(by_point[:, other]).max() == 0


class OneHead(nn.Module):
    """A network without a method `select_points`."""

    points: int


@pytest.mark.slow
def test_sets_that_cannot_be_joined_are_errors_in_one_line(faces, five):
    two = Scheme.make("two", ["left", "right"], mirrored=[("left", "right")], normalization=("left", "right"))
    eyes = dataclasses.replace(five, scheme=two, points=five.points[:, :2], visible=five.visible[:, :2], name="eyes")
    first = FaceSource(faces=faces)
    for sources, stages, message in [
        ([first, FaceSource(faces=eyes)], [stage()], "eyes: no conversion from 'two' to 'mtfl5'"),
        ([first, FaceSource(faces=five, reshaped=1)], [stage()], "reshaped: works on sets of one scheme only"),
        ([first, FaceSource(faces=five)], [stage(), stage(stage2_crops="annotated")], "works on sets of one scheme"),
        ([first, FaceSource(faces=five)], [stage(model=OneHead)], "has no method `select_points`"),
    ]:
        with pytest.raises(InputError, match=message):
            prepare_data(sources, stages, validation=0.2, balance=None, seed=0)
    with pytest.raises(InputError, match=r"validation: five has the scheme mtfl5, .* has ibug68: pass faces with the"):
        prepare_data([first], [stage()], validation=five, balance=None, seed=0)
