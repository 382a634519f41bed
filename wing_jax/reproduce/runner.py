"""Train and measure the models of the paper's experiments, each only once.

Results are saved in the runner's folder as soon as they exist: each trained stage in `stages/`, its curve in `curves/`,
each measured model in `measured/`. A call that was stopped resumes from there, and within a sweep from its newest
checkpoint. Tables share models: a model that is trained or measured is not trained again.
"""

import dataclasses
import functools
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import jax
import numpy as np
from jax.sharding import Mesh

from wing_jax.config import LossConfig, SweepConfig
from wing_jax.config_files import config_of
from wing_jax.data.face_crops import FaceCrops, crop_faces
from wing_jax.data.face_set import FaceSet
from wing_jax.errors import InputError
from wing_jax.evaluation import evaluate
from wing_jax.evaluation.metrics import NORMALIZERS
from wing_jax.from_config.recipe import loss_of, mesh_of
from wing_jax.from_config.sweep import train_trials
from wing_jax.from_config.sweep_runner import Trial
from wing_jax.from_config.train import first_setup, read_split, second_setup, training_data
from wing_jax.inference.bundle import read_bundle, write_bundle
from wing_jax.inference.localizer import Localizer
from wing_jax.inference.stage import Stage
from wing_jax.reproduce.curves import CurvePoint, GradientNoise, add_point, read_curve
from wing_jax.reproduce.recipes import Budget, Recipe, Reproducible, recipe
from wing_jax.runtime.files import read_text, write_atomic
from wing_jax.text import reason
from wing_jax.train.data import TrainingData
from wing_jax.train.setup import StageSetup
from wing_jax.train.spec import Callback
from wing_jax.values import Value


class Method(NamedTuple):
    """A method of the paper's experiments."""

    name: str
    stages: int
    balanced: bool  # whether HSM is used


METHODS = (
    Method("CNN-6", 1, False),
    Method("CNN-6 + HSM", 1, True),
    Method("CNN-6/7", 2, False),
    Method("CNN-6/7 + HSM", 2, True),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Variant:
    """One model of a method: its loss (with the lengths of the first stage), learning rate multiple and seed."""

    loss: LossConfig
    rate: float  # multiple of the recipe's learning rates
    seed: int


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class TrialResult(Value):
    """The results of a model on the test faces."""

    summary: list[dict]  # the last stage's results by each metric, as in results.json
    nmes: np.ndarray  # fractions for each face, by the recipe's metric; NaN = left out
    validation_nme: float  # of the last stage; fraction, normalized by the distance of the eyes

    def nme(self, metric: str, *, group: tuple[str, str] | None = None) -> float | None:
        """Return the mean NME in percent of all faces, or of those with a (group, label); None if there are none."""
        (entry,) = (entry for entry in self.summary if entry["metric"] == metric)
        if group is not None:
            entry = entry["groups"].get(group[0], {}).get(group[1], {})
        return entry.get("mean")


class ExperimentRunner:
    """Trains and measures models by one recipe; `stages/` and `measured/` in its folder have the results.

    The `callbacks` are called during its sweeps (`wing_jax.from_config.sweep.sweep`).
    """

    def __init__(self, recipe: Recipe, *, output: str | Path, callbacks: Sequence[Callback] = ()):
        self.recipe, self.folder = recipe, Path(output) / recipe.name
        self._callbacks = callbacks
        self._test_crops: dict[int, FaceCrops] = {}
        self._claim_folder()

    def _claim_folder(self) -> None:
        """Create the folder, or check that it has the same recipe.

        Config fields added by a later version of this package do not make a different recipe.

        Raises:
          InputError: the folder has the results of another recipe.
        """
        path = self.folder / "recipe.json"
        if path.exists():
            if read_recipe(path) != self.recipe:
                raise InputError(f"{path}: this folder has the results of another recipe: pass a different --output")
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        _write_json(path, dataclasses.asdict(self.recipe))

    def at(self, budget: Budget) -> "ExperimentRunner":
        """Return the runner of the same data at another budget, in the same --output."""
        data = self.recipe.config.data
        return ExperimentRunner(
            recipe(cast(Reproducible, data.name), budget, root=data.root), output=self.folder.parent
        )

    @functools.cached_property
    def mesh(self) -> Mesh:
        """The devices for training."""
        return mesh_of(self.recipe.config)

    def with_noise(self, noise: float) -> "ExperimentRunner":
        """Return the runner of the same recipe with noise in the training points; 0 returns this runner."""
        if not noise:
            return self
        noisy = dataclasses.replace(self.recipe, name=f"{self.recipe.name}-noise{noise:g}", noise=noise)
        return ExperimentRunner(noisy, output=self.folder.parent, callbacks=self._callbacks)

    @functools.cached_property
    def data(self) -> TrainingData:
        """The training faces, balanced by HSM, with the recipe's noise."""
        return add_noise(training_data(self.recipe.config), self.recipe.noise, seed=self.recipe.config.seed)

    @functools.cached_property
    def test(self) -> FaceSet:
        """The test faces."""
        data = self.recipe.config.data
        return read_split(data, "test", count=data.test_faces)

    def test_crops(self, size: int) -> FaceCrops:
        """Return the face crops of the test faces, cut once for each size."""
        if size not in self._test_crops:
            self._test_crops[size] = crop_faces(self.test, size=size, workers=os.cpu_count() or 1)
        return self._test_crops[size]

    def setup(self, number: int, *, balanced: bool) -> StageSetup:
        """Return the training of stage `number`; its crops come from boxes and annotation, so all models share them."""
        data = self.data if balanced else self.data.unbalanced()
        if number == 1:
            return first_setup(self.recipe.config, data)
        return second_setup(self.recipe.config, data, None, self.mean)

    @functools.cached_property
    def template(self) -> np.ndarray:
        """The mean shape in the crops of the second stage (of the first stage if there is no second)."""
        return self.mean if self.recipe.config.stage2 is None else self.data.template(self.mean)

    @functools.cached_property
    def mean(self) -> np.ndarray:
        """The mean shape in fractions of the first stage's crops."""
        return self.setup(1, balanced=False).mean

    def train(self, methods: Sequence[Method], variants: Sequence[Variant]) -> None:
        """Train the missing stages; those of the same stage number and balance are trained as one sweep."""
        for number in (1, 2):
            for balanced in (False, True):
                using = [method for method in methods if method.balanced == balanced and method.stages >= number]
                needed = [v for v in variants if any(not self._is_measured(method, v) for method in using)]
                self._train_stages(number, balanced, needed)

    def measure(self, method: Method, variant: Variant) -> TrialResult:
        """Return the results of the trained model on the test faces."""
        folder = self._measured_folder(method, variant)
        if not self._is_measured(method, variant):
            self._measure(method, variant, folder)
        record = json.loads(read_text(folder / "measured.json"))
        return TrialResult(nmes=np.load(folder / "nmes.npy", allow_pickle=False), **record)

    def curve(self, number: int, balanced: bool, variant: Variant) -> list[CurvePoint]:
        """Return the curve of the training run of stage `number`.

        Raises:
          InputError: it was not recorded.
        """
        path = self._curve_path(number, balanced, self.trial(number, variant))
        if points := read_curve(path):
            return points
        raise InputError(f"{path}: no curve: pass a different --output, to train again")

    def localizer(self, method: Method, variant: Variant) -> Localizer:
        """Return the trained model."""
        stages = tuple(self._stage(number, method.balanced, variant)[0] for number in range(1, method.stages + 1))
        name = f"{method.name}, {self.trial(1, variant).label}"
        return self.data.localizer(stages, self.template, name=name)

    def validation_nme(self, method: Method, variant: Variant) -> float:
        """Return the last stage's NME on the held-out training faces (fraction); infinite if training diverged."""
        value = self._stage(method.stages, method.balanced, variant)[1]
        return value if np.isfinite(value) else np.inf

    def _measure(self, method: Method, variant: Variant, folder: Path) -> None:
        localizer, faces = self.localizer(method, variant), self.test
        face_crops = self.test_crops(localizer.stages[-1].face_crop_size)
        order = sorted(NORMALIZERS, key=lambda name: name != self.recipe.metric)
        evaluation = evaluate(localizer, faces, metrics=order, crops=face_crops).select(stage=f"stage {method.stages}")
        localizer.save(folder / "model")
        np.save(folder / "nmes.npy", evaluation.measurements[0].values, allow_pickle=False)
        record = {"summary": evaluation.to_dict()["results"], "validation_nme": self.validation_nme(method, variant)}
        _write_json(folder / "measured.json", record)

    def _train_stages(self, number: int, balanced: bool, variants: Sequence[Variant]) -> None:
        trials = [self.trial(number, variant) for variant in variants]
        missing = [
            trial for trial in dict.fromkeys(trials) if not (self._stage_folder(number, balanced, trial)).exists()
        ]
        if not missing:
            return
        labels = json.dumps([number, balanced, *(trial.label for trial in missing)])
        work = self.folder / "sweeps" / hashlib.sha256(labels.encode()).hexdigest()[:16]
        config = _sweep_config(self.recipe)
        setup = self.setup(number, balanced=balanced)
        trained = train_trials(
            setup,
            missing,
            config,
            self.mesh,
            folder=work,
            callbacks=self._callbacks,
            on_validation=self._recorder(setup, balanced, dict(zip(trials, variants, strict=True)), missing)
            if self.recipe.records_curves
            else None,
        )
        for index, trial in enumerate(missing):
            stage = trained.stage(index)
            manifest = {"stage": stage.to_table(), "validation_nme": _finite(float(trained.nmes[index]))}
            write_bundle(self._stage_folder(number, balanced, trial), manifest, {"stage": stage.variables})
        shutil.rmtree(work / "checkpoints")

    def _recorder(
        self, setup: StageSetup, balanced: bool, variants: Mapping[Trial, Variant], trials: Sequence[Trial]
    ) -> Callable[[int, Sequence[Any], np.ndarray], None]:
        """Return the function that adds a point to the curve of each trial."""
        noise, number = GradientNoise(setup), setup.number

        def record(step: int, variables: Sequence[Any], nmes: np.ndarray) -> None:
            for trial, of_trial, nme in zip(trials, variables, nmes, strict=True):
                earlier = [self._stage(1, balanced, variants[trial])[0]] if number == 2 else []
                stages = (*earlier, setup.trained(jax.device_get(of_trial)))
                point = CurvePoint(
                    step=step,
                    faces=step * setup.spec.batch_size,
                    validation_nme=float(nme),
                    test_nme=self._test_nme(stages),
                    gradient_cosine=noise.cosine(
                        trial.loss, loss_of(trial.loss, input_size=setup.spec.input_size), of_trial
                    ),
                )
                add_point(self._curve_path(number, balanced, trial), point)

        return record

    def _test_nme(self, stages: tuple[Stage, ...]) -> float:
        """Return the NME of the last stage on the test faces, a fraction by the recipe's metric."""
        localizer = self.data.localizer(stages, self.template, name="in training")
        crops = self.test_crops(stages[-1].face_crop_size)
        evaluation = evaluate(localizer, self.test, metrics=[self.recipe.metric], crops=crops)
        return float(np.nanmean(evaluation.select(stage=f"stage {len(stages)}").measurements[0].values))

    def _stage(self, number: int, balanced: bool, variant: Variant) -> tuple[Stage, float]:
        """Return the trained stage and its validation NME."""
        manifest, arrays = read_bundle(self._stage_folder(number, balanced, self.trial(number, variant)))
        nme = manifest["validation_nme"]
        return Stage.from_table(manifest["stage"], arrays["stage"]), np.inf if nme is None else nme

    def trial(self, number: int, variant: Variant) -> Trial:
        """Return the trial of a sweep that trains stage `number`.

        The first stage uses the loss lengths of the variant, the second those of the recipe, because its crops have
        another scale.
        """
        stage = self.recipe.config.stage1 if number == 1 else self.recipe.config.stage2
        assert stage is not None
        loss = variant.loss
        if number == 2:
            loss = self.recipe.loss(loss.name, number=2)
        return Trial(seed=variant.seed, loss=loss, learning_rate=variant.rate * stage.optimizer.learning_rate)

    def _measured_folder(self, method: Method, variant: Variant) -> Path:
        return self.folder / "measured" / _folder_name(method.name) / self.trial(1, variant).label

    def _is_measured(self, method: Method, variant: Variant) -> bool:
        return (self._measured_folder(method, variant) / "measured.json").exists()

    def _curve_path(self, number: int, balanced: bool, trial: Trial) -> Path:
        return self.folder / "curves" / f"stage{number}{'-hsm' if balanced else ''}" / f"{trial.label}.csv"

    def _stage_folder(self, number: int, balanced: bool, trial: Trial) -> Path:
        return self.folder / "stages" / f"stage{number}{'-hsm' if balanced else ''}" / trial.label


def add_noise(data: TrainingData, noise: float, *, seed: int) -> TrainingData:
    """Add normal noise to the training points; its standard deviation is `noise` times the side of the face's box."""
    if not noise:
        return data
    boxes = data.train.boxes
    sides = np.sqrt(np.prod(boxes[:, 2:] - boxes[:, :2], axis=1))[:, None, None]
    sample = np.random.default_rng(seed).standard_normal(data.train.points.shape)
    points = (data.train.points + noise * sides * sample).astype(np.float32)
    return dataclasses.replace(data, train=dataclasses.replace(data.train, points=points))


def _sweep_config(recipe: Recipe) -> SweepConfig:
    fields = {field.name: getattr(recipe.config, field.name) for field in dataclasses.fields(recipe.config)}
    return SweepConfig(**fields)


def _folder_name(name: str) -> str:
    """Return the folder name of a method."""
    return name.lower().replace(" + ", "-").replace("/", "")


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


def read_recipe(path: Path) -> Recipe:
    """Read the recipe in a runner's folder.

    Raises:
      InputError: the file is not a valid recipe.
    """
    try:
        record = json.loads(read_text(path))
        return Recipe(config=config_of(record.pop("config"), location="config"), **record)
    except (OSError, ValueError, RecursionError, AttributeError, TypeError, KeyError) as error:
        raise InputError(f"{path}: not a valid recipe ({reason(error)}): pass a different --output") from error


def _write_json(path: Path, value: dict) -> None:
    """Write `value` atomically."""
    write_atomic(path, json.dumps(value, indent=1, allow_nan=False) + "\n")
