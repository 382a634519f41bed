"""The two stages at work: geometry with stages that are right by construction, and a small real network."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wing_jax import localizer as module
from wing_jax.errors import InputError
from wing_jax.localizer import Localizer, Stage
from wing_jax.models import make_model
from wing_jax.schemes import MTFL_5, Scheme

THREE = Scheme(
    name="three", names=("red", "green", "blue"), mirrored=((0, 1),), left_eye=(0,), right_eye=(1,),
    left_outer=0, right_outer=1, lines=((0, 1, 2),), about="a red, a green and a blue dot",
)  # fmt: skip
TEMPLATE = np.array([[0.25, 0.3], [0.75, 0.3], [0.5, 0.75]], np.float32)


class FindsDots:
    """Answers the centre of gravity of each colour channel: a perfect net for pictures of three dots."""

    def apply(self, variables, crops, *, train):
        at = jnp.arange(crops.shape[1], dtype=jnp.float32)
        mass = crops.sum((1, 2))
        x = (crops.sum(1) * at[None, :, None]).sum(1) / mass
        y = (crops.sum(2) * at[None, :, None]).sum(1) / mass
        return jnp.stack([x, y], axis=-1)


class FindsDotsBadly(FindsDots):
    """The same, off by some pixels."""

    def apply(self, variables, crops, *, train):
        off = jnp.array([[3.0, -2.0], [2.0, 3.0], [-2.0, 2.0]])
        return super().apply(variables, crops, train=train) + off[None]


class SeesTheTemplate:
    """Answers the template to whatever it is shown, as if the crop were always perfectly placed."""

    def apply(self, variables, crops, *, train):
        placed = jnp.asarray(TEMPLATE * crops.shape[1] - 0.5)
        return jnp.broadcast_to(placed[None], (len(crops), 3, 2))


def stage_of(model, *, input_size=48, chip_size=96, margin=1.4):
    stage = Stage(network={}, variables={}, input_size=input_size, chip_size=chip_size, margin=margin)
    stage.__dict__["model"] = model  # in place of the cached property
    return stage


def of_stages(*models):
    stages = [stage_of(models[0])]
    stages += [stage_of(model, input_size=64, chip_size=128) for model in models[1:]]
    return Localizer(scheme=THREE, box_convention="landmarks", stages=tuple(stages), template=TEMPLATE)


def turned_template(*, degrees, scale=90.0, centre=(150.3, 120.6)):
    turn = np.exp(1j * np.deg2rad(degrees)) * scale
    z = ((TEMPLATE - 0.5) @ [1, 1j]) * turn + complex(*centre)
    return np.stack([z.real, z.imag], axis=-1)


def dots(points, *, height=260, width=300, sigma=3.0):
    """A picture with a Gaussian dot at each point, one colour channel each."""
    y, x = np.mgrid[:height, :width]
    bells = [np.exp(-((x - px) ** 2 + (y - py) ** 2) / (2 * sigma**2)) for px, py in points]
    return np.round(255 * np.stack(bells, axis=-1)).astype(np.uint8)


def around(points, *, room=4.0):
    return [*(points.min(0) - room), *(points.max(0) + room)]


@pytest.mark.parametrize("models", [(FindsDots(),), (FindsDots(), FindsDots()), (FindsDotsBadly(), FindsDots())])
@pytest.mark.parametrize("degrees", [0, -20, 40])
def test_dots_are_found_in_image_pixels(models, degrees):
    points = turned_template(degrees=degrees)
    found = of_stages(*models).predict(dots(points), [around(points)])
    assert found.dtype == np.float32
    np.testing.assert_allclose(found[0], points, atol=0.1)


def test_the_bad_stage_alone_is_bad():
    points = turned_template(degrees=0)
    found = of_stages(FindsDotsBadly()).predict(dots(points), [around(points)])
    assert np.abs(found[0] - points).max() > 2


@pytest.mark.parametrize("degrees", [0, -35, 60])
def test_second_crop_is_upright_and_placed_on_the_template(degrees):
    """The second stage assumes the template: only a crop without rotation, rightly scaled, brings it back."""
    points = turned_template(degrees=degrees)
    found = of_stages(FindsDots(), SeesTheTemplate()).predict(dots(points), [around(points)])
    np.testing.assert_allclose(found[0], points, atol=0.1)


def test_face_at_the_edge_and_huge_face():
    points = turned_template(degrees=10, centre=(42.0, 40.0))
    found = of_stages(FindsDots(), FindsDots()).predict(dots(points), [around(points)])
    np.testing.assert_allclose(found[0], points, atol=0.15)
    large = turned_template(degrees=10, scale=420.0, centre=(600.5, 500.2))
    picture = dots(large, height=1000, width=1200, sigma=12.0)
    found = of_stages(FindsDots(), FindsDots()).predict(picture, [around(large)])
    np.testing.assert_allclose(found[0], large, atol=0.4)  # 0.1 pixels of its chip


NETWORK = {"name": "plain", "points": 5, "channels": (8, 8), "hidden": 16, "norm": "batch", "precision": "float32"}


def drawn_variables(size):
    model, random = make_model(**NETWORK), np.random.default_rng(size)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jax.ShapeDtypeStruct((1, size, size, 3), jnp.uint8))
    variables = jax.tree.map(lambda leaf: random.normal(0, 0.3, leaf.shape).astype(np.float32), shapes)
    statistics = jax.tree.map(lambda leaf: np.abs(leaf) + 1, variables["batch_stats"])
    # Answers spread over the crop, as a trained net's do, so that the second crop is a sensible one.
    variables["params"]["output"]["bias"] = np.float32([9, 10, 22, 11, 15, 18, 10, 24, 21, 23]) * size / 32
    variables["params"]["output"]["kernel"] *= 0.3
    return {"params": variables["params"], "batch_stats": statistics}


@pytest.fixture(scope="module")
def small():
    """Two stages of drawn weights: any function of the picture shows whether faces and places are mixed up."""
    stages = tuple(
        Stage(network=NETWORK, variables=drawn_variables(size), input_size=size, chip_size=chip, margin=margin)
        for size, chip, margin in ((16, 40, 1.2), (32, 64, 1.25))
    )
    template = np.float32([[0.3, 0.3], [0.7, 0.3], [0.5, 0.55], [0.35, 0.8], [0.65, 0.8]])
    return Localizer(scheme=MTFL_5, box_convention="landmarks", stages=stages, template=template, about={"name": "x"})


@pytest.fixture(scope="module")
def picture():
    """Blocks of colour, so that a change of a hundredth of a pixel changes little."""
    coarse = np.random.default_rng(0).integers(0, 256, (30, 30, 3), dtype=np.uint8)
    return np.kron(coarse, np.ones((8, 8, 1), np.uint8))


BOXES = [[60, 50, 119, 109], [100, 90, 179, 169], [30, 100, 89, 159]]


def test_several_faces_equal_one_at_a_time(small, picture):
    together = small.predict(picture, BOXES)
    alone = np.concatenate([small.predict(picture, [box]) for box in BOXES])
    assert together.shape == (3, 5, 2)
    np.testing.assert_allclose(together, alone, atol=0.02)
    assert np.abs(together[0] - together[1]).max() > 5


def test_more_faces_than_a_batch_holds(small, monkeypatch):
    random = np.random.default_rng(0)
    chips = random.integers(0, 256, (7, 64, 64, 3), dtype=np.uint8)
    boxes = np.float32([16, 16, 47, 47]) + random.uniform(-2, 2, (7, 4)).astype(np.float32)
    whole = small.locate(chips, boxes)
    monkeypatch.setattr(module, "LARGEST_BATCH", 4)
    for ours, theirs in zip(small.locate(chips, boxes), whole, strict=True):
        assert ours.shape == (7, 5, 2)
        np.testing.assert_allclose(ours, theirs, atol=0.02)


def test_moving_image_and_box_moves_the_answer(small, picture):
    moved = np.zeros((300, 320, 3), np.uint8)
    moved[37:277, 53:293] = picture
    shift = np.float32([53, 37])
    inside = [[70, 70, 129, 129], [100, 90, 159, 149]]
    np.testing.assert_allclose(
        small.predict(moved, np.float32(inside) + np.tile(shift, 2)), small.predict(picture, inside) + shift, atol=0.05
    )


def test_boxes_off_the_faces_are_mended_by_the_stages_centre(small, picture):
    first = dataclasses.replace(small.stages[0], centre=(0.1, -0.2))
    mending = dataclasses.replace(small, stages=(first, small.stages[1]))
    box = np.float32([[70, 60, 149, 139]])
    off = np.float32([[-7.9, 15.8, -7.9, 15.8]])  # of the side of 79
    np.testing.assert_allclose(mending.predict(picture, box + off), small.predict(picture, box), atol=0.05)
    assert np.abs(small.predict(picture, box + off) - small.predict(picture, box)).max() > 0.5


def test_mirror_average_is_the_same_for_the_mirror_image(small, picture):
    both = dataclasses.replace(small, flip_average=True)
    box = np.float32([[70, 60, 149, 139]])
    mirrored_box = np.float32([[239 - 149, 60, 239 - 70, 139]])
    plain = both.predict(picture, box)[0]
    mirrored = both.predict(np.ascontiguousarray(picture[:, ::-1]), mirrored_box)[0][MTFL_5.flip]
    np.testing.assert_allclose(np.stack([239 - mirrored[:, 0], mirrored[:, 1]], 1), plain, atol=0.05)
    assert np.abs(plain - small.predict(picture, box)[0]).max() > 0.5  # and averaging does something


def test_answers_do_not_change_through_the_disk(small, picture, tmp_path):
    again = Localizer.load(small.save(tmp_path / "model"))
    np.testing.assert_array_equal(again.predict(picture, BOXES[:1]), small.predict(picture, BOXES[:1]))
    assert again.about == {"name": "x"}
    assert again.describe() == small.describe()
    assert "5 points" in again.describe()


def test_no_box_gives_no_face(small, picture):
    assert small.predict(picture, []).shape == (0, 5, 2)


@pytest.mark.parametrize(
    ("box", "said"),
    [
        ([10, 10, 10, 50], "is empty"),
        ([50, 50, 10, 10], "is empty"),
        ([np.nan, 0, 10, 10], "is empty"),
        ([np.inf, 0, 10, 10], "is empty"),
        ([500, 10, 600, 50], "outside the image of 240 x 240"),
        ([10, -90, 60, -20], "outside the image"),
        ([10, 10, 60], "must be"),
    ],
)
def test_bad_box_is_refused_in_one_line(small, picture, box, said):
    with pytest.raises(InputError, match=said) as error:
        small.predict(picture, [BOXES[0], box] if len(box) == 4 else [box])
    assert "\n" not in str(error.value)


def test_single_flat_box_is_taken(small, picture):
    np.testing.assert_array_equal(small.predict(picture, BOXES[0]), small.predict(picture, BOXES[:1]))


@pytest.mark.parametrize("image", [np.zeros((9, 9), np.uint8), np.zeros((9, 9, 4), np.uint8), np.zeros((9, 9, 3))])
def test_bad_image_is_refused(small, image):
    with pytest.raises(InputError, match="must be RGB uint8"):
        small.predict(image, BOXES)
