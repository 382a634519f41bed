"""How each budget trains on each data set. Everything that differs between a table's cells is left out here."""

import dataclasses
from typing import Any, Literal

from wing_jax.config import (
    BalanceConfig,
    Config,
    DataConfig,
    LossConfig,
    ModelConfig,
    OptimizerConfig,
    PerturbConfig,
    SecondStageConfig,
    StageConfig,
)
from wing_jax.evaluation.measure import leading_normalisation
from wing_jax.losses import LOSSES

Budget = Literal["trial", "short", "long", "paper"]
Reproducible = Literal["mtfl", "w300", "aflw", "synthetic"]
BUDGETS: dict[str, str] = {
    "trial": "a minute or two, to see that everything works: the figures mean nothing",
    "short": "for two CPU cores: the paper's CNN-6 and a narrow CNN-7, 64,000 faces a stage",
    "long": "four times short, by the learning rates that were tuned at short",
    "paper": "the paper's own training: 120,000 steps of 8 faces for each stage",
}
RATES_OF: dict[str, Budget] = {"long": "short"}  # budgets too long to tune by themselves
WING = {1: {"width": 10.0, "epsilon": 2.0}, 2: {"width": 15.0, "epsilon": 3.0}}  # Wing's, pixels of the stage's crop
SLOWER_L2 = 0.1  # the paper's learning rate for L2, in multiples of that of the other losses (its table 1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """Both stages' training, and how a learning rate is found for each loss."""

    name: str
    budget: str
    config: Config  # its loss is Wing; its learning rates are what multiples are taken of
    normalisation: str  # of the figures
    tuned: bool  # each loss's learning rate by the rule of `wing_jax.reproduce.rates`; else the paper's

    def loss(self, name: str, *, number: int = 1) -> LossConfig:
        """The loss of that name for stage `number`, with Wing's lengths where it takes any and has no other measure.

        Raises:
          InputError: no loss is called so.
        """
        stage = self.config.stage1 if number == 1 else self.config.stage2
        assert stage is not None
        loss = LOSSES[name]
        if not loss.rescaled or loss.reference_size != LOSSES["wing"].reference_size:
            return LossConfig(name=name, reduction=stage.loss.reduction)
        params = {key: value for key, value in stage.loss.params.items() if key in loss.parameters}
        return dataclasses.replace(stage.loss, name=name, params=params)


def recipe(data: Reproducible, budget: Budget, *, root: str = "", seed: int = 0) -> Recipe:
    """The training of `budget` on `data`, found below `root`.

    "paper" is the paper's: SGD with momentum 0.9 and weight decay 5e-4, 120,000 steps of 8 faces, CNN-6 from 3e-5 to
    3e-7 (L2: 3e-6 to 3e-8), CNN-7 from 1e-5 to 1e-7. "short" has 500 steps of 128 faces, within which SGD gets
    nowhere near: AdamW, BatchNorm, an output that begins at the mean shape, averaged parameters, a narrow second stage,
    and a learning rate tuned for each loss. "long" is the same with four times the steps.
    """
    first, second = _stages(data, budget)
    drawn = _FACES[budget] if data == "synthetic" else {}
    config = Config(
        name=f"{data}-{budget}",
        data=DataConfig(name=data, root=root, **drawn),
        balance=BalanceConfig(method="official" if data == "aflw" and budget == "paper" else "hsm", bins=9, cap=20),
        stage1=first,
        stage2=second,
        seed=seed,
    )
    normalisation = "inter-pupil" if data == "w300" else leading_normalisation(data)
    return Recipe(name=config.name, budget=budget, config=config, normalisation=normalisation, tuned=budget != "paper")


_FACES: dict[str, dict[str, Any]] = {
    "trial": {"train_faces": 200, "test_faces": 100},
    "short": {"train_faces": 4_000, "test_faces": 1_000},
    "long": {"train_faces": 4_000, "test_faces": 1_000},
    "paper": {"train_faces": 20_000, "test_faces": 4_386},
}


def _stages(data: Reproducible, budget: Budget) -> tuple[StageConfig, SecondStageConfig]:
    """Both stages; between the budgets length, networks and optimiser differ, between the data the crops."""
    crop, strong, weak = _CROPS[data], *_PERTURB[data]
    paper, length = budget == "paper", _LENGTHS[budget]
    first = StageConfig(
        input_size=64,  # pixels
        margin=crop["margin"],
        centre="box" if paper else "shape",
        model=_network((32, 64, 128, 256, 512), paper=paper),
        loss=_wing(1, paper=paper),
        perturb=strong,
        optimizer=_sgd(3e-5, 3e-7) if paper else _ADAMW,
        **length,
    )
    second = SecondStageConfig(
        input_size=128,  # pixels
        margin=crop["second_margin"],
        model=_network((64, 64, 128, 256, 512, 512) if paper else (16, 32, 64, 128, 256, 512), paper=paper),
        loss=_wing(2, paper=paper),
        perturb=weak,
        optimizer=_sgd(1e-5, 1e-7) if paper else _ADAMW,
        crops="direct",
        **length,
    )
    return first, second


def _network(channels: tuple[int, ...], *, paper: bool) -> ModelConfig:
    if paper:
        return ModelConfig(params={"channels": channels})
    return ModelConfig(params={"channels": channels, "norm": "batch"}, output_bias="mean_shape")


def _wing(number: int, *, paper: bool) -> LossConfig:
    reduction = "sum_over_points_mean_over_batch" if paper else "mean"
    return LossConfig(name="wing", reference_size=64 * number, params=WING[number], reduction=reduction)


def _sgd(first: float, last: float) -> OptimizerConfig:
    return OptimizerConfig(
        name="sgd",
        learning_rate=first,
        final_learning_rate=last,
        decay="exponential",
        weight_decay=5e-4,
        momentum=0.9,
    )


_ADAMW = OptimizerConfig(
    name="adamw",
    learning_rate=1e-2,
    final_learning_rate=1e-4,
    decay="cosine",
    weight_decay=5e-2,
    warmup=25,  # steps
    ema=0.96,
)
_LENGTHS: dict[str, dict[str, Any]] = {
    "trial": {"batch_size": 8, "steps": 60, "evaluate_every": 20},
    "short": {"batch_size": 128, "steps": 500, "evaluate_every": 100},
    "long": {"batch_size": 128, "steps": 2_000, "evaluate_every": 400},
    "paper": {"batch_size": 8, "steps": 120_000, "evaluate_every": 5_000},
}
# Sides of the crops per side of the box (first stage) and of the mean shape (second), as in `configs/`.
_CROPS: dict[str, dict[str, float]] = {
    "mtfl": {"margin": 1.1, "second_margin": 1.9},
    "w300": {"margin": 1.2, "second_margin": 1.25},
    "aflw": {"margin": 1.0, "second_margin": 1.25},
    "synthetic": {"margin": 1.3, "second_margin": 1.25},
}
# Of the first and of the second stage. 5 % is the paper's; MTFL's boxes of training and test differ by more.
_PAPER_PERTURB = (
    PerturbConfig(rotation=30.0, translation=0.05, scale=0.05),
    PerturbConfig(rotation=10.0, translation=0.05, scale=0.05),
)
_PERTURB: dict[str, tuple[PerturbConfig, PerturbConfig]] = {
    "mtfl": (
        PerturbConfig(rotation=30.0, translation=0.12, scale=0.2),
        PerturbConfig(rotation=10.0, translation=0.05, scale=0.08),
    ),
    "w300": _PAPER_PERTURB,
    "aflw": _PAPER_PERTURB,
    "synthetic": _PAPER_PERTURB,
}
