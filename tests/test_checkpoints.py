"""Checkpoints: which are kept, which is best, what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wing_jax.errors import InputError
from wing_jax.train.checkpoints import Checkpoints
from wing_jax.train.optimizer import make_optimizer
from wing_jax.train.state import TrainState


def make_state(*, points=5, value=0.0, step=0, average=True):
    params = {
        "output": {"kernel": jnp.full((4, 2 * points), value), "bias": jnp.zeros(2 * points)},
        "Dense_0": {"kernel": jnp.full((3, 4), value, jnp.float32)},
    }
    variables = {"params": params, "batch_stats": {"norm": {"mean": jnp.full(4, value)}}}
    return TrainState(
        step=jnp.asarray(step, jnp.int32),
        variables=variables,
        optimizer=make_optimizer("adamw", lambda _: 0.1, weight_decay=0.1).init(params),
        averaged=jax.tree.map(lambda x: x + 1, variables) if average else None,
    )


def write(folder, nmes, **kind):
    """One checkpoint for each NME, at steps 10, 20 and so on."""
    with Checkpoints(folder, keep=2) as checkpoints:
        for i, nme in enumerate(nmes, 1):
            checkpoints.save(10 * i, make_state(value=float(i), step=10 * i, **kind), validation_nme=nme)


def steps_in(folder):
    return sorted(int(path.name) for path in folder.iterdir() if path.name.isdigit())


def test_new_folder_holds_none(tmp_path):
    with Checkpoints(tmp_path / "new") as checkpoints:
        assert checkpoints.newest is None
        assert checkpoints.best is None


@pytest.mark.parametrize(
    ("nmes", "best", "kept"),
    [
        ([0.3, 0.1, 0.2, 0.4, 0.5], 20, [20, 40, 50]),
        ([0.5, 0.4, 0.3, 0.2, 0.1], 50, [40, 50]),
        ([0.1, 0.2, 0.3, 0.4, 0.5], 10, [10, 40, 50]),
    ],
)
def test_the_newest_two_and_the_best_are_kept(tmp_path, nmes, best, kept):
    write(tmp_path, nmes)
    assert steps_in(tmp_path) == kept
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.newest == 50
        assert checkpoints.best == best


@pytest.mark.parametrize("average", [True, False])
def test_restored_state_equals_the_saved_one(tmp_path, average):
    write(tmp_path, [0.2, 0.1], average=average)
    with Checkpoints(tmp_path) as checkpoints:
        restored = checkpoints.restore(20, make_state(average=average))
    expected = make_state(value=2.0, step=20, average=average)
    assert jax.tree.structure(restored) == jax.tree.structure(expected)
    for ours, theirs in zip(jax.tree.leaves(restored), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(ours, theirs)
        assert ours.dtype == theirs.dtype


def test_checkpoint_of_another_scheme_is_refused_in_one_line(tmp_path):
    write(tmp_path, [0.2])
    with Checkpoints(tmp_path) as checkpoints, pytest.raises(InputError) as refused:
        checkpoints.restore(10, make_state(points=68))
    message = str(refused.value)
    assert "\n" not in message
    for said in (str(tmp_path / "10"), "params/output/", "10", "136", "--name"):
        assert said in message


def test_save_writes_the_values_of_its_moment(tmp_path):
    """The write goes on in the background while training donates the very arrays it was given."""
    spoil = jax.jit(lambda state: jax.tree.map(lambda x: x * 0 - 1, state), donate_argnums=0)
    state = make_state(value=7.0, step=10)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(10, state, validation_nme=0.1)
        jax.block_until_ready(spoil(state))
        restored = checkpoints.restore(10, make_state())
    for ours, theirs in zip(jax.tree.leaves(restored), jax.tree.leaves(make_state(value=7.0, step=10)), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_checkpoint_that_a_kill_left_half_written_is_passed_over(tmp_path):
    write(tmp_path, [0.3, 0.2])
    half = tmp_path / "30.orbax-checkpoint-tmp-0"
    half.mkdir()
    (half / "metadata").write_text("{")
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.newest == 20
        np.testing.assert_array_equal(checkpoints.restore(20, make_state()).step, 20)
