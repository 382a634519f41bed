"""Affine algebra against NumPy's 3 x 3 matrices and general least squares, and properties of crops' transforms."""

import jax
import jax.numpy as jnp
import jax.test_util
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wing_jax import geometry

AFFINES = st.builds(
    lambda scale, degrees, x, y: (scale, degrees, np.float32([x, y])),
    st.floats(0.25, 4),
    st.floats(-180, 180),
    st.floats(-50, 50),
    st.floats(-50, 50),
)
FEW = settings(max_examples=12)
# For JAX arrays; the functions themselves compute with NumPy if all arrays are NumPy's.
similarity, compose, invert, transform = map(
    jax.jit, (geometry.similarity, geometry.compose, geometry.invert, geometry.transform)
)
fit_similarity = jax.jit(geometry.fit_similarity)
crop_of_box = jax.jit(geometry.crop_of_box, static_argnames="size")
crop_of_shape = jax.jit(geometry.crop_of_shape, static_argnames="size")


def to_square(affine) -> np.ndarray:
    """Return the homogeneous 3 x 3 matrix, in float64."""
    return np.vstack([np.asarray(affine, np.float64), [0, 0, 1]])


def apply_with_numpy(affine, points) -> np.ndarray:
    """Apply `affine` to `points` in homogeneous coordinates, with NumPy."""
    return (np.column_stack([points, np.ones(len(points))]) @ to_square(affine).T)[:, :2]


def random_shapes(seed: int, *batch: int, points: int = 7) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(*batch, points, 2)).astype(np.float32) * 20


def random_affines(seed: int, *batch: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    return np.asarray(
        similarity(
            scale=jnp.asarray(random.uniform(0.5, 2, batch), jnp.float32),
            degrees=jnp.asarray(random.uniform(-180, 180, batch), jnp.float32),
            translation=jnp.asarray(random.normal(size=(*batch, 2)), jnp.float32),
        )
    )


@pytest.mark.slow
def test_a_quarter_turn_maps_x_to_y():
    turn = geometry.similarity(scale=2.0, degrees=90.0, translation=(10.0, 20.0))
    np.testing.assert_allclose(turn, [[0, -2, 10], [2, 0, 20]], atol=1e-6)
    np.testing.assert_allclose(transform(turn, jnp.array([[1.0, 0.0]])), [[10, 22]], atol=1e-5)


def test_similarity_broadcasts_its_arguments():
    turn = geometry.similarity(scale=2.0, degrees=jnp.zeros((3,)), translation=jnp.ones((3, 2)))
    np.testing.assert_array_equal(turn, np.broadcast_to(np.float32([[2, 0, 1], [0, 2, 1]]), (3, 2, 3)))


@pytest.mark.slow
@FEW
@given(AFFINES, AFFINES)
def test_compose_invert_and_transform_agree_with_numpy(first, second):
    outer, inner = (
        similarity(scale=scale, degrees=degrees, translation=shift) for scale, degrees, shift in (first, second)
    )
    points = random_shapes(0)
    np.testing.assert_allclose(to_square(compose(outer, inner)), to_square(outer) @ to_square(inner), atol=2e-3)
    np.testing.assert_allclose(to_square(invert(outer)), np.linalg.inv(to_square(outer)), rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(transform(outer, points), apply_with_numpy(outer, points), atol=1e-3)


@FEW
@given(AFFINES)
def test_the_inverse_undoes_an_affine(numbers):
    scale, degrees, shift = numbers
    affine = similarity(scale=scale, degrees=degrees, translation=shift)
    back = transform(invert(affine), transform(affine, random_shapes(1)))
    np.testing.assert_allclose(back, random_shapes(1), atol=2e-3)
    np.testing.assert_allclose(compose(invert(affine), affine), np.eye(2, 3), atol=1e-3)


def test_invert_works_for_any_affine():
    affine = np.float32([[2, 1, 5], [-0.5, 3, -7]])
    np.testing.assert_allclose(to_square(geometry.invert(affine)), np.linalg.inv(to_square(affine)), atol=1e-6)


@pytest.mark.parametrize("weighted", [False, True])
def test_fit_similarity_is_the_least_squares_solution(weighted):
    source, target = random_shapes(2), random_shapes(3)
    weights = np.random.default_rng(4).uniform(0.1, 1, 7).astype(np.float32) if weighted else np.ones(7, np.float32)
    # The unknowns (a, b, u, v) of x' = a x - b y + u, y' = b x + a y + v; rows are scaled by the root of the weight.
    x, y = source.T.astype(np.float64)
    ones, zeros = np.ones(7), np.zeros(7)
    rows = np.concatenate([np.stack([x, -y, ones, zeros], 1), np.stack([y, x, zeros, ones], 1)])
    root = np.sqrt(np.tile(weights, 2))
    a, b, u, v = np.linalg.lstsq(rows * root[:, None], np.concatenate(target.T) * root, rcond=None)[0]
    fitted = geometry.fit_similarity(source, target, weights if weighted else None)
    np.testing.assert_allclose(fitted, [[a, -b, u], [b, a, v]], rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@FEW
@given(AFFINES, st.integers(0, 1000))
def test_fit_similarity_finds_the_similarity_that_was_applied(numbers, seed):
    scale, degrees, shift = numbers
    affine = similarity(scale=scale, degrees=degrees, translation=shift)
    fitted = fit_similarity(random_shapes(seed), transform(affine, random_shapes(seed)))
    np.testing.assert_allclose(fitted, affine, atol=5e-3)


@FEW
@given(st.integers(0, 1000))
def test_fit_similarity_never_reflects(seed):
    mirrored = random_shapes(seed) * np.float32([-1, 1])
    fitted = np.asarray(geometry.fit_similarity(random_shapes(seed), mirrored))
    assert np.linalg.det(fitted[:, :2]) >= 0
    np.testing.assert_allclose([fitted[0, 0], fitted[0, 1]], [fitted[1, 1], -fitted[1, 0]], atol=1e-6)


def test_points_of_weight_zero_are_ignored():
    source, target = random_shapes(5), random_shapes(5) * 2 + 3
    target[0] = 1e4
    fitted = geometry.fit_similarity(source, target, np.float32([0, 1, 1, 1, 1, 1, 1]))
    np.testing.assert_allclose(fitted, [[2, 0, 3], [0, 2, 3]], atol=1e-4)


def test_fit_similarity_is_finite_if_all_points_coincide():
    fitted = geometry.fit_similarity(np.ones((4, 2), np.float32), random_shapes(6, points=4))
    assert np.isfinite(fitted).all()


def test_the_tight_box_contains_only_visible_points():
    points = np.float32([[3, 9], [1, 4], [-100, 500]])
    np.testing.assert_array_equal(geometry.tight_box(points), [-100, 4, 3, 500])
    np.testing.assert_array_equal(geometry.tight_box(points, np.array([True, True, False])), [1, 4, 3, 9])


@pytest.mark.slow
@FEW
@given(st.floats(-100, 100), st.floats(-100, 100), st.floats(1, 200), st.floats(1, 200), st.floats(0.5, 3))
def test_crop_of_box_is_a_square_around_the_box_center(x, y, width, height, margin):
    to_image = crop_of_box(jnp.float32([x, y, x + width, y + height]), size=64, margin=margin)
    side = margin * max(width, height)
    center = np.array([x + width / 2, y + height / 2])
    edges = transform(to_image, jnp.float32([[-0.5, -0.5], [63.5, 63.5]]))  # the crop's outer corners
    np.testing.assert_allclose(edges, [center - side / 2, center + side / 2], atol=2e-3)


def test_crop_of_box_is_shifted_by_fractions_of_the_larger_side():
    box = jnp.float32([10, 20, 50, 100])  # 40 x 80, center (30, 60)
    to_image = geometry.crop_of_box(box, size=64, margin=1.5, center=(0.1, -0.25))
    edges = transform(to_image, jnp.float32([[-0.5, -0.5], [63.5, 63.5]]))
    np.testing.assert_allclose(edges, [[38 - 60, 40 - 60], [38 + 60, 40 + 60]], atol=1e-4)


def test_transform_of_a_box_of_the_complete_image_is_the_identity():
    to_image = geometry.crop_of_box(jnp.float32([-0.5, -0.5, 63.5, 63.5]), size=64)
    np.testing.assert_allclose(to_image, np.eye(2, 3), atol=1e-6)


@FEW
@given(AFFINES)
def test_rotating_and_scaling_a_shape_does_not_change_its_crop(numbers):
    scale, degrees, shift = numbers
    shape, template = random_shapes(7), (random_shapes(8) / 100 + 0.5).astype(np.float32)
    motion = similarity(scale=scale, degrees=degrees, translation=shift)
    to_image = geometry.crop_of_shape(shape, template, size=128)
    moved_shape = transform(motion, shape)
    np.testing.assert_allclose(
        crop_of_shape(moved_shape, template, size=128),
        compose(motion, to_image),
        rtol=1e-3,
        atol=5e-3,
    )


@pytest.mark.slow
def test_a_shape_similar_to_the_template_is_mapped_onto_it():
    template = np.float32([[0.2, 0.3], [0.8, 0.3], [0.5, 0.8]])
    motion = similarity(scale=1.7, degrees=25.0, translation=(40.0, 30.0))
    shape = transform(motion, template * 100)
    to_image = crop_of_shape(shape, template, size=64)
    in_crop = transform(invert(to_image), shape)
    np.testing.assert_allclose(geometry.crop_fractions(in_crop, size=64), template, atol=1e-5)


def test_crop_fractions_go_from_edge_to_edge():
    np.testing.assert_array_equal(geometry.crop_fractions(jnp.float32([[-0.5, 63.5]]), size=64), [[0, 1]])


OPERATIONS = {
    "compose": (geometry.compose, (random_affines(0, 5), random_affines(1, 5))),
    "invert": (geometry.invert, (random_affines(0, 5),)),
    "transform": (geometry.transform, (random_affines(0, 5), random_shapes(1, 5))),
    "fit_similarity": (geometry.fit_similarity, (random_shapes(0, 5), random_shapes(1, 5))),
    "tight_box": (geometry.tight_box, (random_shapes(0, 5),)),
    "crop_of_box": (
        lambda boxes: geometry.crop_of_box(boxes, size=64, margin=1.3),
        (np.float32([[1, 2, 30, 50]] * 5) * np.arange(1, 6, dtype=np.float32)[:, None],),
    ),
    "crop_of_shape": (
        lambda points: geometry.crop_of_shape(points, jnp.asarray(random_shapes(2) / 100), size=64),
        (random_shapes(0, 5),),
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", OPERATIONS)
def test_jit_equals_eager_vmap_equals_batch_and_the_dtype_is_float32(name):
    operation, arguments = OPERATIONS[name]
    arguments = tuple(jnp.asarray(argument) for argument in arguments)
    eager = operation(*arguments)
    assert eager.dtype == jnp.float32
    np.testing.assert_allclose(jax.jit(operation)(*arguments), eager, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(jax.jit(jax.vmap(operation))(*arguments), eager, rtol=1e-5, atol=1e-4)
    compiled = jax.jit(operation)
    one_by_one = [compiled(*(np.asarray(argument)[i] for argument in arguments)) for i in range(5)]
    np.testing.assert_allclose(np.stack(one_by_one), eager, rtol=1e-5, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", OPERATIONS)
def test_gradients_equal_finite_differences(name):
    operation, arguments = OPERATIONS[name]
    arguments = tuple(jnp.asarray(argument[:1]) for argument in arguments)
    jax.test_util.check_grads(jax.jit(operation), arguments, order=1, modes=("rev",), atol=0.05, rtol=0.05, eps=1e-2)


@pytest.mark.slow
def test_the_gradient_is_finite_if_all_points_coincide():
    gradient = jax.grad(lambda source: fit_similarity(source, jnp.asarray(random_shapes(1))).sum())
    assert np.isfinite(gradient(jnp.ones((7, 2)))).all()
