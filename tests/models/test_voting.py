"""The voting network: the combination of votes against NumPy, shapes, and that it learns."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from wing_jax.models import VotingRegressor, make_model
from wing_jax.models.voting import WINDOW, combine_votes

SIZE = 64
compiled = jax.jit(combine_votes, static_argnames="size")


def sample_votes(seed, side=8, points=3):
    rng = np.random.default_rng(seed)
    votes = rng.normal(0, 1, (2, side * side, 3, points)).astype(np.float32)
    return votes, rng.uniform(10, 50, (2, points, 2)).astype(np.float32)


def combine(votes, regressed):
    """`counted`, where what is seen at a place are its votes themselves."""
    features, points = votes.reshape(*votes.shape[:2], -1), votes.shape[3]
    kernel = np.eye(3 * points, dtype=np.float32).reshape(-1, 3, points)
    bias = np.zeros((3, points), np.float32)
    return compiled(features, kernel, bias, regressed, size=SIZE)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_the_result_is_the_weighted_mean_of_the_votes(seed):
    votes, regressed = sample_votes(seed)
    side, step = 8, SIZE / 8
    expected = np.zeros((2, 3, 2))
    for face in range(2):
        for point in range(3):
            total = 0.0
            for row in range(side):
                for column in range(side):
                    cell = np.array([(column + 0.5) * step - 0.5, (row + 0.5) * step - 0.5])
                    vote = votes[face, row * side + column, :, point].astype(float)
                    squared_distance = ((cell - regressed[face, point]) ** 2).sum()
                    weight = np.exp(vote[0] - squared_distance / (2 * (WINDOW * SIZE) ** 2))
                    expected[face, point] += weight * (cell + step * vote[1:])
                    total += weight
            expected[face, point] /= total
    np.testing.assert_allclose(combine(votes, regressed), expected, rtol=1e-4)


@pytest.mark.slow
def test_the_covariance_is_that_of_the_votes():
    votes, regressed = sample_votes(0)
    features, kernel = votes.reshape(2, 64, -1), np.eye(9, dtype=np.float32).reshape(-1, 3, 3)
    bias = np.arange(9, dtype=np.float32).reshape(3, 3) / 10
    run = jax.jit(lambda *arguments: combine_votes(*arguments, size=SIZE, covariance=True))
    points, covariance = run(features, kernel, bias, regressed)
    line = (np.arange(8) + 0.5) * 8 - 0.5
    cells = np.stack([np.tile(line, 8), np.repeat(line, 8)], 1)
    for face in range(2):
        for point in range(3):
            vote = votes[face, :, :, point] + bias[:, point]
            squared_distance = ((cells - regressed[face, point]) ** 2).sum(1)
            weights = np.exp(vote[:, 0] - squared_distance / (2 * (WINDOW * SIZE) ** 2))
            places = cells + 8 * vote[:, 1:]
            np.testing.assert_allclose(points[face, point], np.average(places, axis=0, weights=weights), rtol=1e-4)
            expected = np.cov(places.T, aweights=weights, ddof=0)
            np.testing.assert_allclose(covariance[face, point], expected, rtol=1e-3, atol=1e-2)


@pytest.mark.slow
def test_gradients_match_a_plain_implementation():
    rng = np.random.default_rng(0)
    shapes = (2, 64, 6), (6, 3, 4), (3, 4), (2, 4, 2)
    features, kernel, bias, regressed = (jnp.asarray(rng.normal(0, 0.5, shape), jnp.float32) for shape in shapes)
    weights_of_loss = jnp.asarray(rng.normal(size=(2, 4, 2)), jnp.float32)
    line = (np.arange(8) + 0.5) * 8 - 0.5
    cells = jnp.asarray(np.stack([np.tile(line, 8), np.repeat(line, 8)], 1)[None, :, None], jnp.float32)

    def plain(features, kernel, bias, regressed):
        votes = jnp.einsum("bps,skn->bpkn", features, kernel, precision="highest") + bias[None, None]
        squared_distance = jnp.square(cells - regressed[:, None]).sum(-1)
        weights = jax.nn.softmax(votes[:, :, 0] - squared_distance / (2 * (WINDOW * SIZE) ** 2), axis=1)
        return (weights[..., None] * (cells + 8 * votes[:, :, 1:].swapaxes(2, 3))).sum(1)

    def slopes(answer):
        arguments = features, kernel, bias, regressed * 20 + 32
        function = jax.grad(lambda *arguments: (answer(*arguments) * weights_of_loss).sum(), (0, 1, 2, 3))
        return jax.jit(function)(*arguments)

    for gradient, expected in zip(
        slopes(lambda *arguments: combine_votes(*arguments, size=SIZE)), slopes(plain), strict=True
    ):
        np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


@pytest.mark.slow
def test_equal_votes_keep_the_regressed_point():
    regressed = np.float32([[[31.5, 31.5], [25.0, 36.0]]])
    np.testing.assert_allclose(combine(np.zeros((1, 256, 3, 2), np.float32), regressed), regressed, atol=0.05)


@pytest.mark.slow
def test_one_vote_with_a_large_weight_decides():
    votes = np.zeros((1, 64, 3, 1), np.float32)
    votes[0, 2 * 8 + 5] = np.array([[50.0], [0.25], [-0.5]])  # row 2, column 5
    answer = combine(votes, np.float32([[[30.0, 30.0]]]))
    np.testing.assert_allclose(answer[0, 0], [5.5 * 8 - 0.5 + 2, 2.5 * 8 - 0.5 - 4], atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize(("size", "channels"), [(64, (4, 8, 8, 8, 8)), (128, (4, 4, 8, 8, 8, 8))])
def test_shapes_and_names(size, channels):
    model = make_model("voting", points=5, channels=channels, hidden=8, norm="batch")
    assert isinstance(model, VotingRegressor)
    variables = jax.eval_shape(model.init, jax.random.key(0), np.zeros((1, size, size, 3), np.uint8))
    answer = jax.eval_shape(model.apply, variables, np.zeros((3, size, size, 3), np.uint8))
    assert answer.shape == (3, 5, 2)
    assert answer.dtype == jnp.float32
    assert variables["params"]["votes"]["kernel"].shape == (8, 15)
    larger = [
        make_model("voting", points=5, channels=channels, hidden=8, norm="batch", **more)
        for more in ({"residual": 2}, {"grid": 32})
    ]
    trees = [jax.eval_shape(m.init, jax.random.key(0), np.zeros((1, size, size, 3), np.uint8)) for m in larger]
    convolutions = [sum(name.startswith("Conv_") for name in tree["params"]) for tree in (variables, *trees)]
    assert convolutions[1:] == [convolutions[0] + 4, convolutions[0] + 1]  # two blocks; one level of the pyramid
    assert [m.cells(size) for m in (model, larger[1])] == [16, 32]


@pytest.mark.slow
def test_it_learns_the_position_of_a_bright_spot():
    rng, size = np.random.default_rng(0), 32
    model = VotingRegressor(points=1, channels=(8, 8, 16), hidden=16, norm="batch", residual=1)
    spots = rng.uniform(4, 27, (256, 2)).astype(np.float32)
    line = np.arange(size)
    squared_distance = (line[None, None] - spots[:, :1, None]) ** 2 + (line[None, :, None] - spots[:, 1:, None]) ** 2
    images = (255 * np.exp(-squared_distance / 9))[..., None].repeat(3, -1).astype(np.uint8)
    variables = jax.jit(model.init)(jax.random.key(0), images[:1])
    optimizer = optax.adam(1e-2)

    @jax.jit
    def step(params, stats, optimizer_state, images, target):
        def loss(params):
            model_variables = {"params": params, "batch_stats": stats}
            answer, changed = model.apply(model_variables, images, train=True, mutable=["batch_stats"])
            return jnp.abs(answer[:, 0] - target).mean(), changed["batch_stats"]

        (value, new_stats), slope = jax.value_and_grad(loss, has_aux=True)(params)
        update, optimizer_state = optimizer.update(slope, optimizer_state, params)
        return optax.apply_updates(params, update), new_stats, optimizer_state, value

    state = variables["params"], variables["batch_stats"], jax.jit(optimizer.init)(variables["params"])
    values = []
    for _ in range(100):
        batch = rng.choice(256, 8, replace=False)
        *state, value = step(*state, images[batch], spots[batch])
        values.append(float(value))
    assert np.mean(values[-10:]) < 1.5  # pixels; always predicting the middle has an error of 6
