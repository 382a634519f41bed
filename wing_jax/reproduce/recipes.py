"""The training settings for each budget and data set that all cells of a table share."""

import dataclasses
from typing import Any, Literal

from wing_jax.config import (
    AugmentConfig,
    BalanceConfig,
    Config,
    DataConfig,
    LossConfig,
)
from wing_jax.evaluation import leading_metrics
from wing_jax.losses import LOSSES
from wing_jax.presets.recipes import Fields, adamw, paper_recipe, plain, strong_recipe

Budget = Literal["trial", "short", "long", "paper"]
Reproducible = Literal["mtfl", "w300", "aflw", "synthetic"]
BUDGETS: dict[str, str] = {
    "trial": "a minute or two, to check that everything works; the results mean nothing",
    "short": "for two CPU cores: the paper's CNN-6 and a narrow CNN-7, 64,000 faces per stage",
    "long": "four times as long as short, with the learning rates tuned at short",
    "paper": "the paper's training: 120,000 steps of 8 faces for each stage",
}
RATES_OF: dict[str, Budget] = {"long": "short"}  # budgets too long for tuning
SLOWER_L2 = 0.1  # the paper's learning rate for L2, in multiples of that of the other losses (its table 1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """The training of both stages, and how the learning rate of each loss is chosen."""

    name: str
    budget: str
    config: Config  # with the Wing loss; multiples refer to its learning rates
    metric: str  # of the results, an NME
    tuned: bool  # each loss's learning rate by the rule of `wing_jax.reproduce.rates`; else the paper's
    noise: float = 0.0  # standard deviation of the noise in the training points, as a fraction of the box side

    @property
    def records_curves(self) -> bool:
        """Whether the errors in the course of each training run are recorded, which takes a second each time."""
        return self.budget in ("long", "paper")

    def loss(self, name: str, *, number: int = 1) -> LossConfig:
        """Return the loss of that name for stage `number`, with Wing's lengths if it has them in the same unit.

        Raises:
          InputError: no loss has this name.
        """
        stage = self.config.stage1 if number == 1 else self.config.stage2
        assert stage is not None
        loss = LOSSES[name]
        if not loss.rescaled or loss.reference_size != LOSSES["wing"].reference_size:
            return LossConfig(name=name, reduction=stage.loss.reduction)
        params = {key: value for key, value in stage.loss.params.items() if key in loss.parameters}
        return dataclasses.replace(stage.loss, name=name, params=params)


def recipe(data: Reproducible, budget: Budget, *, root: str = "", seed: int = 0) -> Recipe:
    """Return the training of `budget` on `data`, which is in the folder `root`.

    "paper" is the paper's training: SGD with momentum 0.9 and weight decay 5e-4, 120,000 steps of 8 faces, CNN-6 from
    3e-5 to 3e-7 (L2: 3e-6 to 3e-8), CNN-7 from 1e-5 to 1e-7. "short" has 500 steps of 128 faces, which is too few for
    SGD. It uses AdamW, BatchNorm, an output that starts at the mean shape, averaged parameters, a narrow second stage,
    and a learning rate tuned for each loss. "long" is the same with four times the steps.
    """
    counts = _FACES[budget] if data == "synthetic" else {}
    make = paper_recipe if budget == "paper" else _short_recipe
    config = make(
        name=f"{data}-{budget}",
        data=DataConfig(name=data, root=root, **counts),
        balance=BalanceConfig(method="official" if data == "aflw" and budget == "paper" else "hsm", bins=9, cap=20),
        stage1={"margin": _MARGINS[data][0], "augment": _PERTURB[data][0], **_SCHEDULES[budget]},
        stage2={"margin": _MARGINS[data][1], "augment": _PERTURB[data][1], **_SCHEDULES[budget]},
        seed=seed,
    )
    metric = "inter-pupil" if data == "w300" else leading_metrics(data)[0]
    return Recipe(name=config.name, budget=budget, config=config, metric=metric, tuned=budget != "paper")


def _short_recipe(*, stage1: Fields, stage2: Fields, **fields: Any) -> Config:
    """Return the stronger recipe with a narrow second stage on annotated crops, for few and large batches."""
    return strong_recipe(
        optimizer=adamw(learning_rate=1e-2, warmup=25, ema=0.96),
        stage1={"center": "shape", **stage1},
        stage2={"model": plain((16, 32, 64, 128, 256, 512)), "stage2_crops": "annotated", **stage2},
        **fields,
    )


_FACES: dict[str, dict[str, Any]] = {
    "trial": {"train_faces": 200, "test_faces": 100},
    "short": {"train_faces": 4_000, "test_faces": 1_000},
    "long": {"train_faces": 4_000, "test_faces": 1_000},
    "paper": {"train_faces": 20_000, "test_faces": 4_386},
}


_SCHEDULES: dict[str, dict[str, Any]] = {  # the paper's recipe has a schedule; "evaluate_every" sets a curve's points
    "trial": {"batch_size": 8, "steps": 60, "evaluate_every": 20},
    "short": {"batch_size": 128, "steps": 500, "evaluate_every": 100},
    "long": {"batch_size": 128, "steps": 2_000, "evaluate_every": 400},
    "paper": {"evaluate_every": 2_500},
}
# Sides of the crops per side of the box (first stage) and of the mean shape (second), as in `configs/`.
_MARGINS: dict[str, tuple[float, float]] = {
    "mtfl": (1.1, 1.9),
    "w300": (1.2, 1.25),
    "aflw": (1.0, 1.25),
    "synthetic": (1.3, 1.25),
}
# For the first and the second stage. 5 % is the paper's; MTFL's training and test boxes differ by more.
_PAPER_PERTURB = (
    AugmentConfig(rotation=30.0, translation=0.05, scale=0.05),
    AugmentConfig(rotation=10.0, translation=0.05, scale=0.05),
)
_PERTURB: dict[str, tuple[AugmentConfig, AugmentConfig]] = {
    "mtfl": (
        AugmentConfig(rotation=30.0, translation=0.12, scale=0.2),
        AugmentConfig(rotation=10.0, translation=0.05, scale=0.08),
    ),
    "w300": _PAPER_PERTURB,
    "aflw": _PAPER_PERTURB,
    "synthetic": _PAPER_PERTURB,
}
