"""The algebra of perturbation, in NumPy and in JAX: one matrix for the image and its points, each number as it says."""

import cv2
import jax.numpy as jnp
import numpy as np
import pytest

from wing_jax.augment import perturb as ops
from wing_jax.config import PerturbConfig
from wing_jax.input.cutting import cut_crops, uniforms
from wing_jax.schemes import MTFL_5

SIZE, CHIP = 72, 140
PLACES = np.float32([[52.3, 55.2], [86.7, 54.1], [70.2, 74.4], [55.6, 92.9], [85.1, 91.3]])  # of a chip
HARD = PerturbConfig(
    rotation=40.0,
    translation=0.1,
    scale=0.2,
    stretch=0.15,
    flip=0.5,
    blur=0.5,
    colour=0.3,
    noise=9.0,
    occlusion=0.5,
)
COLOURS = np.array([[200, 150, 150], [150, 200, 150], [150, 150, 200], [200, 200, 150], [150, 200, 200]])
NAMESPACES = pytest.mark.parametrize("xp", [np, jnp], ids=["numpy", "jax"])


def dotted(*places, sigma: float = 2.0, side: int = CHIP) -> np.ndarray:
    """A chip with one Gaussian dot for each of `places`, each in a colour of its own."""
    rows, columns = np.mgrid[:side, :side]
    chip = np.zeros((side, side, 3))
    for (x, y), colour in zip(places, COLOURS, strict=True):
        chip += np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * sigma**2))[..., None] * colour
    return np.round(np.clip(chip, 0, 255)).astype(np.uint8)


def dot_near(crop: np.ndarray, place: np.ndarray, *, reach: float) -> tuple[np.ndarray, np.ndarray]:
    """Centroid (x, y) of the brightness within `reach` pixels of `place`, and its colour as fractions."""
    rows, columns = np.mgrid[: crop.shape[0], : crop.shape[1]]
    near = np.hypot(columns - place[0], rows - place[1]) < reach
    crop = crop.astype(float)
    weight = crop.sum(-1) * near
    colour = (crop * near[..., None]).sum((0, 1))
    return np.array([(weight * columns).sum(), (weight * rows).sum()]) / weight.sum(), colour / colour.sum()


def drawn_for(count: int, perturb: PerturbConfig = HARD, *, seed: int = 3, xp=np) -> ops.Draw:
    return ops.draw(xp.asarray(uniforms(seed=seed, first=0, count=count)), perturb)


def plain_frames(count: int) -> np.ndarray:
    """The middle of the chip, at 1.25 chip pixels per pixel of the crop."""
    frame = np.float32([[1.25, 0, 25.5], [0, 1.25, 25.5]])
    return np.broadcast_to(frame, (count, 2, 3)).copy()


@NAMESPACES
def test_dots_drawn_at_the_points_are_found_at_the_points_of_the_crop(xp):
    drawn = drawn_for(40, xp=xp)
    frames = ops.perturbed_frames(xp.asarray(plain_frames(40)), drawn, size=SIZE)
    chips = dotted(*PLACES)[None].repeat(40, 0)
    crops = cut_crops(chips, np.arange(40), np.asarray(frames), size=SIZE)
    points, visible = xp.asarray(PLACES[None].repeat(40, 0)), xp.asarray(np.ones((40, 5), bool))
    seen, _ = ops.points_in_crop(points, visible, frames, drawn.flip, xp.asarray(MTFL_5.flip))
    flipped = np.asarray(drawn.flip)
    assert 5 < flipped.sum() < 35
    for crop, places, mirror in zip(crops, np.asarray(seen), flipped, strict=True):
        for i, place in enumerate(places):
            found, colour = dot_near(crop, place, reach=6)
            np.testing.assert_allclose(found, place, atol=0.1)
            name = MTFL_5.flip[i] if mirror else i  # a mirrored left eye is drawn where the right eye was
            np.testing.assert_allclose(colour, COLOURS[name] / COLOURS[name].sum(), atol=0.01)
    eyes = seen[:, MTFL_5.right_eye[0], 0] - seen[:, MTFL_5.left_eye[0], 0]
    assert (eyes > 0).all()  # left stays left, flipped or not


@NAMESPACES
def test_frames_by_their_meaning(xp):
    def one(**changes) -> np.ndarray:
        still = {"flip": False, "degrees": 0.0, "scale": 1.0, "stretch": 1.0, "translation": (0.0, 0.0)}
        values = dict.fromkeys(ops.Draw._fields, 0.0) | still | changes
        kinds = {"flip": bool}
        drawn = ops.Draw(**{n: xp.asarray(np.array([v], kinds.get(n, np.float32))) for n, v in values.items()})
        return np.asarray(ops.perturbed_frames(xp.asarray(np.eye(2, 3, dtype=np.float32)[None]), drawn, size=101))[0]

    def seen(frame: np.ndarray, place) -> np.ndarray:
        return np.linalg.solve(frame[:, :2], np.subtract(place, frame[:, 2]))

    np.testing.assert_allclose(one(), np.eye(2, 3), atol=1e-5)
    np.testing.assert_allclose(seen(one(flip=True), (10, 20)), (90, 20), atol=1e-4)
    np.testing.assert_allclose(seen(one(degrees=90.0), (60, 50)), (50, 60), atol=1e-4)  # x towards y
    np.testing.assert_allclose(seen(one(scale=2.0), (60, 50)), (70, 50), atol=1e-4)
    np.testing.assert_allclose(seen(one(translation=(0.1, -0.2)), (60, 50)), (70.1, 29.8), atol=1e-4)
    np.testing.assert_allclose(seen(one(stretch=2.0), (60, 70)), (70, 60), atol=1e-4)  # wider and flatter
    np.testing.assert_allclose(seen(one(stretch=2.0, degrees=90.0), (60, 70)), (40, 70), atol=1e-4)  # as if upright
    together = one(flip=True, degrees=30.0, scale=2.0, translation=(0.1, 0.0))
    x, y = cv2.getRotationMatrix2D((50, 50), -30.0, 2.0) @ (60, 50, 1)  # OpenCV counts y towards x
    np.testing.assert_allclose(seen(together, (60, 50)), (100 - x + 10.1, y), atol=1e-3)


@NAMESPACES
def test_draws_stay_within_their_limits_and_fill_them(xp):
    drawn = ops.Draw(*(np.asarray(value) for value in drawn_for(4000, xp=xp)))

    def spans(values, low, high):
        assert low <= values.min() < low + 0.05 * (high - low)
        assert high >= values.max() > high - 0.05 * (high - low)

    spans(drawn.degrees, -40, 40)
    spans(drawn.scale, 0.8, 1.2)
    spans(drawn.stretch, 0.85, 1.15)
    spans(drawn.translation, -0.1, 0.1)
    spans(drawn.contrast, 0.7, 1.3)
    spans(drawn.noise, 0, 9)
    spans(drawn.shade, 0, 255)
    assert abs(drawn.gain - 1).max() <= 0.3
    assert abs(drawn.flip.mean() - 0.5) < 0.04
    assert abs(drawn.blur.mean() - 0.5) < 0.04
    sides = drawn.occluder[:, 2:] - drawn.occluder[:, :2]
    shown = (sides > 0).all(1)
    assert abs(shown.mean() - 0.5) < 0.04
    spans(sides[shown], 0, 0.4)
    assert drawn.occluder.min() >= 0
    assert drawn.occluder.max() <= 1
    single = (drawn.degrees, drawn.scale, drawn.stretch, drawn.contrast, drawn.noise, drawn.shade)
    numbers = np.stack([*single, *drawn.translation.T])
    off_diagonal = np.corrcoef(numbers) - np.eye(len(numbers))
    assert np.abs(off_diagonal).max() < 0.08  # drawn apart from each other


def test_numpy_and_jax_draw_and_place_alike_in_float32():
    numpy, jax = drawn_for(64), drawn_for(64, xp=jnp)
    for name, mine, theirs in zip(ops.Draw._fields, numpy, jax, strict=True):
        assert mine.dtype == theirs.dtype, name
        np.testing.assert_allclose(mine, theirs, rtol=1e-6, atol=1e-6, err_msg=name)
    frames = plain_frames(64)
    placed = ops.perturbed_frames(frames, numpy, size=SIZE)
    assert placed.dtype == np.float32
    np.testing.assert_allclose(placed, ops.perturbed_frames(jnp.asarray(frames), jax, size=SIZE), rtol=1e-5, atol=1e-4)


def test_visibility_is_mirrored_with_the_names():
    visible = np.array([[True, False, True, False, True]] * 2)
    flip = np.array([False, True])
    _, seen = ops.points_in_crop(PLACES[None].repeat(2, 0), visible, plain_frames(2), flip, MTFL_5.flip)
    np.testing.assert_array_equal(seen[0], visible[0])
    np.testing.assert_array_equal(seen[1], visible[1][MTFL_5.flip])


@pytest.mark.parametrize("sigma", [0.6, 1.0, 2.3])
def test_the_taps_are_opencvs(sigma):
    width = 2 * int(np.ceil(3 * sigma)) + 1
    np.testing.assert_allclose(ops.gaussian_taps(sigma), cv2.getGaussianKernel(width, sigma)[:, 0], atol=1e-6)


@pytest.mark.parametrize(("step", "samples"), [(0.4, 1), (1.0, 1), (1.25, 1), (1.7, 2), (3.2, 3)])
def test_crops_that_shrink_their_chip_are_supersampled(step, samples):
    assert ops.supersampling(np.float32([[[0, -step, 3], [step, 0, 4]]])) == samples
