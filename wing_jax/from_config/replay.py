"""Replay of a step that diverged, from the checkpoint before it, to inspect its faces, losses and gradient.

All random numbers of a step depend on the seed and the step only, so repeating the steps from the checkpoint on gives
the same numbers (on a GPU within rounding). Nothing has to be saved during training.
"""

import dataclasses
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, UInt8

from wing_jax.config import Config
from wing_jax.config_files import config_of
from wing_jax.errors import InputError
from wing_jax.from_config.recipe import mesh_of, settings_of
from wing_jax.from_config.train import first_setup, second_setup, training_data
from wing_jax.input.sampling import BatchIndices, EpochSampler
from wing_jax.runtime import devices, files
from wing_jax.text import quoted
from wing_jax.train.checkpoints import Checkpoints
from wing_jax.train.loop import spans
from wing_jax.train.setup import StageSetup, TrainSettings, make_runner, train_stage
from wing_jax.types import Batch
from wing_jax.values import Value


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Replayed(Value):
    """The batch of `n` faces of a replayed step, with the network's predictions before the update."""

    title: str  # folder, stage and step
    message: str  # the message of the divergence
    checkpoint: int  # step of the checkpoint it was replayed from
    pictures: tuple[str, ...]  # names
    images: UInt8[np.ndarray, "n size size 3"]
    points: Float[np.ndarray, "n points 2"]  # pixels of the crop
    visible: Bool[np.ndarray, "n points"]
    predicted: Float[np.ndarray, "n points 2"]  # pixels of the crop
    losses: Float[np.ndarray, "n"]  # sum over the face's visible coordinates
    gradients: dict[str, float]  # norm of each parameter's gradient

    @property
    def worst(self) -> list[int]:
        """Indices of the faces, by decreasing loss; losses that are not finite come first."""
        return np.argsort(-np.where(np.isfinite(self.losses), self.losses, np.inf), kind="stable").tolist()


@devices.default_settings()
def replay(record: str | Path) -> Replayed:
    """Train in memory from the newest checkpoint to the step of `record`, and return that step.

    `record` is a `diverged-STEP.json` file of a training run whose data and checkpoints still exist.

    Raises:
      InputError: the file is invalid, data or checkpoints are missing, or another process is training in the folder.
    """
    stage, step, message, config = _read_record(Path(record))
    with devices.only_trainer(config.folder):  # so that the checkpoints do not change
        return _replay(record, stage, step, message, config)


def _replay(record: str | Path, stage: int, step: int, message: str, config: Config) -> Replayed:
    settings = settings_of(config, mesh_of(config))
    setup = _setup(config, stage, settings)
    spec, runner, state = setup.spec, make_runner(setup, settings), setup.state(seed=config.seed)
    with Checkpoints(config.folder / f"stage{stage}" / "checkpoints", keep=spec.keep_checkpoints) as checkpoints:
        state, first = checkpoints.restore_newest(state)
    if first >= step:
        raise InputError(
            f"{record}: the training run has since reached step {first}: step {step} can no longer be replayed"
        )
    placed = runner.place(state)
    for start, last in spans(first, step - 1, evaluate_every=spec.validation_steps, longest=spec.steps):
        placed, _ = runner.advance(placed, start, last)
    state, faces = runner.whole(placed), setup.faces_of(step, seed=config.seed)
    batch = _make_batch(setup, config, step)
    objective = jax.value_and_grad(setup.objective(seed=config.seed), has_aux=True)
    collections = {name: value for name, value in state.variables.items() if name != "params"}
    (_, (_, predicted, _)), gradient = jax.jit(objective)(state.variables["params"], collections, batch, state.step)
    losses = np.asarray(spec.scaled_loss()(predicted, jnp.asarray(batch.points)))
    return Replayed(
        title=f"{config.folder}, stage {stage}, step {step}",
        message=message,
        checkpoint=first,
        pictures=tuple(setup.names[index] for index in faces),
        images=np.asarray(batch.images),
        points=np.asarray(batch.points),
        visible=np.asarray(batch.visible),
        predicted=np.asarray(predicted),
        losses=np.where(np.asarray(batch.visible)[..., None], losses, 0).sum((1, 2)),
        gradients={
            "/".join(str(getattr(key, "key", key)) for key in path): float(np.linalg.norm(np.asarray(leaf)))
            for path, leaf in jax.tree.leaves_with_path(gradient)
        },
    )


def _read_record(path: Path) -> tuple[int, int, str, Config]:
    try:
        record = json.loads(files.read_text(path))
        stage, step, message = record["stage"], record["step"], record["message"]
        table = record["config"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(f"{path}: cannot be read: pass the diverged-STEP.json file of a training run") from error
    if stage not in (1, 2) or type(step) is not int or step < 1 or not isinstance(message, str):
        raise InputError(f"{path}: not a diverged-STEP.json file: stage {quoted(stage)}, step {quoted(step)}")
    config = dataclasses.replace(config_of(table, location=str(path)), processes="one", parallel="jit", devices=1)
    if stage == 2 and config.stage2 is None:
        raise InputError(
            f"{path}: not a valid diverged-STEP.json file: it is of stage 2, but its config has no second stage"
        )
    return stage, step, message, config


def _setup(config: Config, stage: int, settings: TrainSettings) -> StageSetup:
    data = training_data(config)
    first = first_setup(config, data)
    if stage == 1:
        return first
    result = train_stage(first, settings, folder=config.folder)  # the stage is finished, so this only reads it
    return second_setup(config, data, first.trained(result.variables), first.mean)


def _make_batch(setup: StageSetup, config: Config, step: int) -> Batch:
    if config.input == "tfdata":
        return setup.host_input(seed=config.seed)(step - 1)
    batches, faces = setup.device_input(seed=config.seed), setup.faces()
    sampler = EpochSampler(np.asarray(faces.order), batch_size=batches.batch_size, seed=batches.seed)
    indices = sampler(step - 1, 1)
    return jax.jit(batches.batch)(faces, BatchIndices(*(values[0] for values in indices)))
