"""Models of the paper's experiments: trained together where they can be, measured one by one, and never twice.

What a trial of a table needs is kept below the workshop's folder as soon as it is there: each trained stage under
`stages/`, each measured model under `measured/`. A call that was stopped goes on from there, and within a sweep from
its newest checkpoint; a table that shares trials with another finds them done.
"""

import dataclasses
import functools
import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
from jax.sharding import Mesh

from wing_jax.config import LossConfig, SweepConfig, config_of
from wing_jax.data.face_crops import FaceCrops, crop_faces
from wing_jax.data.face_set import FaceSet
from wing_jax.errors import InputError
from wing_jax.evaluation import evaluate
from wing_jax.evaluation.metrics import NORMALIZERS
from wing_jax.from_config.recipe import mesh_of, recipe_of
from wing_jax.from_config.sweep import train_trials
from wing_jax.from_config.sweep_runner import Trial
from wing_jax.from_config.train import first_setup, read_split, second_setup, training_data
from wing_jax.inference.bundle import read_bundle, write_bundle
from wing_jax.inference.localizer import Localizer
from wing_jax.inference.stage import Stage
from wing_jax.reproduce.recipes import Budget, Recipe, Reproducible, recipe
from wing_jax.runtime.files import read_text, write_whole
from wing_jax.text import reason
from wing_jax.train.data import TrainingData
from wing_jax.train.setup import StageSetup
from wing_jax.train.spec import Callback
from wing_jax.train.stages import template_for
from wing_jax.values import Value


class Method(NamedTuple):
    """A column of the paper's experiments."""

    name: str
    stages: int
    balanced: bool  # by HSM


METHODS = (
    Method("CNN-6", 1, False),
    Method("CNN-6 + HSM", 1, True),
    Method("CNN-6/7", 2, False),
    Method("CNN-6/7 + HSM", 2, True),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Variant:
    """What differs between the models of one method: the loss (its lengths are those of the first stage), the multiple
    of the recipe's learning rates, and the seed."""

    loss: LossConfig
    rate: float
    seed: int


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class TrialResult(Value):
    """A model on the test faces."""

    summary: list[dict]  # the last stage's results by each metric, as in results.json
    nmes: np.ndarray  # fractions, a face each, by the recipe's metric; NaN = left out
    validation_nme: float  # of the last stage; fraction, by the eyes' distance

    def nme(self, metric: str, *, group: tuple[str, str] | None = None) -> float | None:
        """Mean NME in per cent, of all faces or of those with a (group, label); None where there are none."""
        (entry,) = (entry for entry in self.summary if entry["metric"] == metric)
        if group is not None:
            entry = entry["groups"].get(group[0], {}).get(group[1], {})
        return entry.get("mean")


class ExperimentRunner:
    """Trains and measures by one recipe, in one folder: `stages/` and `measured/`, the latter with each whole model.

    The `callbacks` are those of its sweeps (`wing_jax.from_config.sweep.sweep`).
    """

    def __init__(self, recipe: Recipe, *, output: str | Path, callbacks: Sequence[Callback] = ()):
        self.recipe, self.folder = recipe, Path(output) / recipe.name
        self._callbacks = callbacks
        self._test_crops: dict[int, FaceCrops] = {}
        self._claim_folder()

    def _claim_folder(self) -> None:
        """Raises InputError where the folder holds the work of another recipe. What a later version of this package
        added to configs is no difference, as in a run's folder."""
        path = self.folder / "recipe.json"
        if path.exists():
            if read_recipe(path) != self.recipe:
                raise InputError(f"{path}: this folder holds the work of another recipe: give another --output")
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        _write(path, dataclasses.asdict(self.recipe))

    def at(self, budget: Budget) -> "ExperimentRunner":
        """The runner of the same data at another budget, in the folder beside."""
        data = self.recipe.config.data
        return ExperimentRunner(
            recipe(cast(Reproducible, data.name), budget, root=data.root), output=self.folder.parent
        )

    @functools.cached_property
    def mesh(self) -> Mesh:
        """The devices at work."""
        return mesh_of(self.recipe.config)

    @functools.cached_property
    def data(self) -> TrainingData:
        """The training faces, balanced by HSM."""
        return training_data(self.recipe.config)

    @functools.cached_property
    def test(self) -> FaceSet:
        """The test faces."""
        data = self.recipe.config.data
        return read_split(data, "test", count=data.test_faces)

    def test_crops(self, size: int) -> FaceCrops:
        """The test faces' face crops, cut once for each size."""
        if size not in self._test_crops:
            self._test_crops[size] = crop_faces(self.test, size=size, workers=os.cpu_count() or 1)
        return self._test_crops[size]

    def setup(self, number: int, *, balanced: bool) -> StageSetup:
        """The training of stage `number`, with every crop made from box and annotation, so that all models share it."""
        data = self.data if balanced else self.data.unbalanced()
        if number == 1:
            return first_setup(self.recipe.config, data)
        return second_setup(self.recipe.config, data, None, self.mean)

    @functools.cached_property
    def template(self) -> np.ndarray:
        """The mean shape in the crops of the second stage (of the first, where there is no second)."""
        stages = recipe_of(self.recipe.config).stages
        return self.mean if len(stages) == 1 else template_for(stages[1], self.mean)

    @functools.cached_property
    def mean(self) -> np.ndarray:
        """The mean shape in fractions of the first stage's crops."""
        return self.setup(1, balanced=False).mean

    def train(self, methods: Sequence[Method], variants: Sequence[Variant]) -> None:
        """Train whatever stages are missing, those of one stage and balance as one sweep."""
        for number in (1, 2):
            for balanced in (False, True):
                if any(method.balanced == balanced and method.stages >= number for method in methods):
                    self._train_stages(number, balanced, variants)

    def measure(self, method: Method, variant: Variant) -> TrialResult:
        """The trained model on the test faces."""
        place = self.folder / "measured" / _words(method.name) / self.trial(1, variant).label
        if not (place / "measured.json").exists():
            self._measure(method, variant, place)
        told = json.loads(read_text(place / "measured.json"))
        return TrialResult(nmes=np.load(place / "nmes.npy", allow_pickle=False), **told)

    def localizer(self, method: Method, variant: Variant) -> Localizer:
        """The trained model."""
        stages = tuple(self._stage(number, method.balanced, variant)[0] for number in range(1, method.stages + 1))
        name = f"{method.name}, {self.trial(1, variant).label}"
        return self.data.localizer(stages, self.template, name=name)

    def validation_nme(self, method: Method, variant: Variant) -> float:
        """What the last stage of the model reached on the held-out training faces (fraction); infinite where its
        training diverged."""
        value = self._stage(method.stages, method.balanced, variant)[1]
        return value if np.isfinite(value) else np.inf

    def _measure(self, method: Method, variant: Variant, place: Path) -> None:
        localizer, faces = self.localizer(method, variant), self.test
        face_crops = self.test_crops(localizer.stages[-1].face_crop_size)
        order = sorted(NORMALIZERS, key=lambda name: name != self.recipe.metric)
        evaluation = evaluate(localizer, faces, metrics=order, crops=face_crops).select(stage=f"stage {method.stages}")
        localizer.save(place / "model")
        np.save(place / "nmes.npy", evaluation.measurements[0].values, allow_pickle=False)
        told = {"summary": evaluation.to_dict()["results"], "validation_nme": self.validation_nme(method, variant)}
        _write(place / "measured.json", told)

    def _train_stages(self, number: int, balanced: bool, variants: Sequence[Variant]) -> None:
        trials = [self.trial(number, variant) for variant in variants]
        missing = [trial for trial in dict.fromkeys(trials) if not (self._place(number, balanced, trial)).exists()]
        if not missing:
            return
        labels = json.dumps([number, balanced, *(trial.label for trial in missing)])
        work = self.folder / "sweeps" / hashlib.sha256(labels.encode()).hexdigest()[:16]
        config = _sweep_config(self.recipe)
        setup = self.setup(number, balanced=balanced)
        trained = train_trials(setup, missing, config, self.mesh, folder=work, callbacks=self._callbacks)
        for index, trial in enumerate(missing):
            stage = trained.stage(index)
            manifest = {"stage": stage.to_table(), "validation_nme": _finite(float(trained.nmes[index]))}
            write_bundle(self._place(number, balanced, trial), manifest, {"stage": stage.variables})
        shutil.rmtree(work / "checkpoints")

    def _stage(self, number: int, balanced: bool, variant: Variant) -> tuple[Stage, float]:
        """The trained stage and its validation NME."""
        manifest, arrays = read_bundle(self._place(number, balanced, self.trial(number, variant)))
        nme = manifest["validation_nme"]
        return Stage.from_table(manifest["stage"], arrays["stage"]), np.inf if nme is None else nme

    def trial(self, number: int, variant: Variant) -> Trial:
        """The run of a sweep that trains stage `number`. The first stage has the variant's own lengths; the second the
        recipe's, for they are pixels of another crop."""
        stage = self.recipe.config.stage1 if number == 1 else self.recipe.config.stage2
        assert stage is not None
        loss = variant.loss
        if number == 2:
            loss = self.recipe.loss(loss.name, number=2)
        return Trial(seed=variant.seed, loss=loss, learning_rate=variant.rate * stage.optimizer.learning_rate)

    def _place(self, number: int, balanced: bool, trial: Trial) -> Path:
        return self.folder / "stages" / f"stage{number}{'-hsm' if balanced else ''}" / trial.label


def _sweep_config(recipe: Recipe) -> SweepConfig:
    fields = {field.name: getattr(recipe.config, field.name) for field in dataclasses.fields(recipe.config)}
    return SweepConfig(**fields)


def _words(name: str) -> str:
    """A method's name as a folder's."""
    return name.lower().replace(" + ", "-").replace("/", "")


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


def read_recipe(path: Path) -> Recipe:
    """The recipe that a workshop's folder records.

    Raises:
      InputError: the file holds none.
    """
    try:
        said = json.loads(read_text(path))
        return Recipe(config=config_of(said.pop("config"), where="config"), **said)
    except (OSError, ValueError, RecursionError, AttributeError, TypeError, KeyError) as error:
        raise InputError(f"{path}: holds no recipe ({reason(error)}): give another --output") from error


def _write(path: Path, value: dict) -> None:
    """Whole or not at all."""
    write_whole(path, json.dumps(value, indent=1, allow_nan=False) + "\n")
