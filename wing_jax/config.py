"""Configs: frozen, keyword-only dataclasses of plain values. A config file defines one, named `config`."""

import dataclasses
from pathlib import Path
from typing import Any, Literal

from wing_jax.choices import (
    LARGEST_INPUT,
    Center,
    Input,
    Occluded,
    OutputBias,
    Parallel,
    PictureSize,
    Precision,
    Reduction,
    Stage2Crops,
    Statistics,
    Store,
)
from wing_jax.errors import InputError
from wing_jax.runtime.parameters import check_above, check_range, freeze_params, hash_with_dicts
from wing_jax.text import quoted

LARGEST_BINS = 10_000  # of the pose coefficient
LARGEST_SEED = 2**32 - 1
UNIT = (0, 1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataConfig:
    """The source of annotated faces."""

    name: str  # a name that `wing-jax data formats` lists, or one that another package registers
    root: str = ""  # folder or file of the data set; empty: its usual folder in WING_JAX_DATA or ../shared/data
    images: str = ""  # folder of the pictures of your own coco, imglab or csv file; empty: the paths in that file
    # your own data: its scheme, a TOML file or a published scheme's name; a published set: the scheme to convert its
    # points to
    scheme: str = ""
    # "given": the boxes of the data set; or a key of `wing_jax.data.boxes.RULES`, such as "landmarks"
    boxes: str = "given"
    occluded: Occluded = "keep"  # points annotated as occluded: keep those with a position, or ignore all
    # for a picture whose size differs from its annotation: "check": reject it; "rescale": rescale its points and boxes
    picture_size: PictureSize = "check"
    train_faces: int = 0  # synthetic faces to render for training (only for "synthetic")
    test_faces: int = 0  # synthetic faces to render for testing (only for "synthetic")
    store: Store = "pixels"  # how face crops are stored in memory; "jpeg": for large sets, only with input="tfdata"
    validation: float = 0.05  # fraction of the training photos held out to choose the best checkpoint
    exclude: tuple[str, ...] = ()  # names of photos to exclude from training, if present; for 300-W, FOLDER/NAME
    # number of additional copies of each face, warped to the shapes of similar faces (`wing_jax.augment.reshaping`)
    reshaped: int = 0
    copies: int = 1  # how often each face occurs in an epoch, relative to the sets of `Config.extra_data`
    # landmarks of a set of `Config.extra_data`: "convert": to the scheme of `Config.data`; "own_head": they are learned
    # by an output of their own, and saved as a second model
    landmarks: Literal["convert", "own_head"] = "convert"

    def __post_init__(self) -> None:
        if not 0 < self.validation < 1:
            raise InputError(
                f"validation={self.validation} must be a fraction above 0 and below 1: these faces choose the "
                f"checkpoint"
            )
        if self.copies < 1:
            raise InputError(f"copies={self.copies} must be at least 1")
        check_above(self, "reshaped", "train_faces", "test_faces", zero=True)


@dataclasses.dataclass(frozen=True, kw_only=True)
class BalanceConfig:
    """Pose-based data balancing, also called hard sample mining (HSM) (`wing_jax.balance`)."""

    method: Literal["none", "hsm", "official"] = "none"  # hsm: balance poses; none: do not
    bins: int = 9  # number of bins of the pose coefficient
    cap: int = 20  # maximum number of copies of one face

    def __post_init__(self) -> None:
        if not 1 <= self.bins <= LARGEST_BINS or self.cap < 1:
            raise InputError(
                f"bins={self.bins}, cap={self.cap}: bins must be 1 to {LARGEST_BINS:,}, and cap at least 1"
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """Random augmentation, sampled for every face (and duplicate) in every epoch, uniformly within +- the value.

    Operations set to 0 are skipped and cost nothing. The others run in the order of the fields, with `aspect` first.
    """

    rotation: float  # degrees
    translation: float  # fractions of the crop's side, along x and along y
    scale: float  # fraction; the crop's side is divided by a random factor of 1 +- scale
    # fraction; the face's width is multiplied by a random factor of 1 +- aspect, and its height divided by it
    aspect: float = 0.0
    flip: float = 0.5  # probability
    blur: float = 0.5  # probability of a Gaussian blur
    blur_sigma: float = 1.0  # standard deviation of the blur, in pixels of the crop
    downscale: float = 0.0  # the crop is reduced by a random factor from 1 to 1 + this value, and enlarged again
    color: float = 0.0  # brightness, contrast and channel gains vary by +- this fraction
    noise: float = 0.0  # largest standard deviation of Gaussian noise, in gray levels
    occlusion: float = 0.0  # probability of one gray rectangle
    occlusion_side: float = 0.4  # largest side of the rectangle, as a fraction of the crop's side
    jpeg: float = 0.0  # probability of JPEG compression, at a quality of 20 to 90
    # registered augmentations of other packages, applied last: {name: {argument: value}}
    extra: dict[str, dict[str, float]] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        check_range(self, flip=UNIT, blur=UNIT, occlusion=UNIT, occlusion_side=UNIT, jpeg=UNIT, color=UNIT)
        check_range(self, rotation=(0, 360), scale=(0, 0.9), aspect=(0, 0.9), noise=(0, 255))
        check_above(self, "translation", "downscale", zero=True)
        check_above(self, "blur_sigma")

    __hash__ = hash_with_dicts


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """A network: its registered name and parameters, both checked by `wing_jax.models.make_model`."""

    # registered name of the network; "trained": the network of the trained model that the stage starts from
    name: str = "plain"
    # For "plain" and "voting": channels, hidden, norm, dropout; for "voting": residual, grid; see the classes.
    params: dict[str, Any] = dataclasses.field(default_factory=dict)
    # start of training: "mean_shape": the network predicts the mean shape; "zero": its initial parameters are left
    # unchanged
    output_bias: OutputBias = "zero"
    # dtype of activations in training; parameters, loss and points are float32. "auto": bfloat16 on GPU and TPU
    precision: Precision = "auto"

    def __post_init__(self) -> None:
        freeze_params(self)

    __hash__ = hash_with_dicts


@dataclasses.dataclass(frozen=True, kw_only=True)
class LossConfig:
    """A loss: its registered name and parameters, both checked by `wing_jax.losses.make_loss`."""

    name: str = "wing"  # registered name of the loss
    # parameters of the loss by name; lengths are in pixels of a crop of reference_size
    params: dict[str, float] = dataclasses.field(default_factory=dict)
    reference_size: int | None = None  # pixels; None: the default of the loss, 256 for soft_wing, else 64
    # sum over the 2L coordinates and mean over the batch, as in the paper; or "mean" over both
    reduction: Reduction = "sum_over_points_mean_over_batch"

    def __post_init__(self) -> None:
        freeze_params(self)

    __hash__ = hash_with_dicts


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """The optimizer and its learning rate schedule."""

    name: Literal["sgd", "adamw"]  # the optimizer
    learning_rate: float  # initial learning rate, after the warm-up
    final_learning_rate: float  # learning rate of the last step
    decay: Literal["exponential", "cosine"]  # how the learning rate falls
    weight_decay: float  # decoupled from the gradient for adamw
    warmup: int = 0  # number of steps in which the learning rate rises linearly
    momentum: float = 0.9  # momentum; only for name="sgd"
    clip: float = 0.0  # largest global gradient norm; 0: none
    ema: float = 0.0  # decay of the averaged parameters, which are evaluated and saved; 0: none

    def __post_init__(self) -> None:
        check_above(self, "learning_rate")
        check_above(self, "final_learning_rate", "weight_decay", "warmup", "clip", zero=True)
        if self.decay == "exponential":  # cannot reach 0
            check_above(self, "final_learning_rate")
        for name in ("momentum", "ema"):
            if not 0 <= getattr(self, name) < 1:
                raise InputError(f"{name}={getattr(self, name)} must be at least 0 and below 1")


@dataclasses.dataclass(frozen=True, kw_only=True)
class StartConfig:
    """The trained model that a stage starts from, and how its parameters are trained (`wing_jax.Start`)."""

    # name of a pretrained model, folder of a trained one, or ImageNet weights: "efficientnet_lite0", "mobilenet_v2" or
    # a file (.pth, .safetensors); empty: `Config.start`, or none
    model: str = ""
    freeze: tuple[str, ...] = ()  # patterns of parameters that are not trained, such as "ConvBlock_0/*"
    rates: dict[str, float] = dataclasses.field(default_factory=dict)  # factors of the learning rate, by pattern
    head_warmup: int = 0  # number of steps in which only the parameters that were not taken unchanged are trained
    statistics: Statistics = "keep"  # running statistics of BatchNorm: "keep": the trained model's; "renew": new ones

    __hash__ = hash_with_dicts


@dataclasses.dataclass(frozen=True, kw_only=True)
class StageConfig:
    """One stage: a network and its training."""

    input_size: int  # side of the crop in pixels; 0: that of the trained model, for the network "trained"
    # side of the crop as a multiple of the face box's larger side (stage 2: of the mean shape's box); 0: that of the
    # trained model which the stage starts from, or 1.2 (stage 2: 1.12)
    margin: float
    model: ModelConfig  # the network
    loss: LossConfig  # the loss that training minimizes
    augment: AugmentConfig  # random changes of the training crops
    optimizer: OptimizerConfig  # the optimizer and its learning rates
    batch_size: int  # faces per step, over all devices
    steps: int  # number of training steps
    evaluate_every: int  # steps between validations, and between checkpoints
    keep_checkpoints: int = 2  # number of newest checkpoints to keep, in addition to the best
    start: StartConfig = StartConfig()
    # Center of stage 1's crop: "box": the center of the box; "shape": the mean position of the training faces in their
    # boxes, for boxes that are not centered on the face (with flips, the network would learn the mean of both sides).
    center: Center = "box"

    def __post_init__(self) -> None:
        check_above(self, "batch_size", "steps", "evaluate_every", "keep_checkpoints")
        check_above(self, "input_size", zero=self.model.name == "trained")
        check_above(self, "margin", zero=True)
        if self.input_size > LARGEST_INPUT:
            raise InputError(f"input_size={self.input_size} must be at most {LARGEST_INPUT:,}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class SecondStageConfig(StageConfig):
    """The second network, on crops that the first stage has rotated upright and re-centered.

    stage2_crops="predicted": the training crops are made by running the trained first stage on `crops_per_face` strong
    augmentations of every face by stage 1's `augment`; "annotated": from the annotated points. In training, this
    stage's own, weaker `augment` is applied to either.
    """

    stage2_crops: Stage2Crops = "predicted"  # crops placed by the trained stage 1, or by the annotated points
    crops_per_face: int = 8  # with predicted crops: augmented crops of each face

    def __post_init__(self) -> None:
        super().__post_init__()
        check_above(self, "crops_per_face")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """A complete training run."""

    name: str  # name of the run; its folder is output/name
    data: DataConfig
    stage1: StageConfig
    stage2: SecondStageConfig | None = None
    balance: BalanceConfig = BalanceConfig()
    # trained model that the stages start from: the name of a pretrained one, a folder, or ImageNet weights
    # (`StartConfig.model`); empty: none
    start: str = ""
    extra_data: tuple[DataConfig, ...] = ()  # additional data sets to train on (`DataConfig.landmarks`)
    seed: int = 0  # seed of initialization, shuffling and augmentation
    output: str = "runs"  # folder of all runs
    devices: int = 0  # devices to train on; 0: all
    parallel: Parallel = "jit"  # how a step runs on several devices; jit uses shard_map
    # "device": faces and batches are made in device memory; "tfdata": on the host, if they do not fit
    input: Input = "device"
    # "one"; or "many", if each process of a cluster runs this command
    processes: Literal["one", "many"] = "one"
    steps_per_call: int = 0  # steps in one compiled program; 0: 1 on CPU, 250 on GPU and TPU
    large_batch: int = 0  # faces per step; steps and learning rates are rescaled to it; 0: keep batch_size

    def __post_init__(self) -> None:
        check_above(self, "devices", "steps_per_call", "large_batch", zero=True)
        check_range(self, seed=(0, LARGEST_SEED))
        parts = Path(self.name).parts
        if not parts or ".." in parts or Path(self.name).is_absolute() or "\0" in self.name:
            raise InputError(
                f"name={quoted(self.name)}: the folder of the run is output/name: use a relative name without .."
            )

    @property
    def folder(self) -> Path:
        return Path(self.output) / self.name


@dataclasses.dataclass(frozen=True, kw_only=True)
class GridConfig:
    """The runs of a sweep: all combinations of the fields.

    An empty field keeps the first stage's value. A loss other than the first stage's uses its default parameters. A
    loss without one of the `params` is run once.
    """

    seeds: tuple[int, ...] = ()  # random seeds of initialization and dropout; all runs train on the same batches
    losses: tuple[str, ...] = ()  # names of losses
    # values to try for each parameter, in the losses that have it. Lengths are in pixels of that loss's reference size:
    # 256 for soft_wing, 64 for others, and the reference size of the first stage for its loss.
    params: dict[str, tuple[float, ...]] = dataclasses.field(default_factory=dict)
    learning_rates: tuple[float, ...] = ()  # initial learning rates; the schedule keeps its shape
    # "vmap": all runs at once; "scan": one after the other within one program; "round_robin": the runs take turns with
    # one compiled step; "auto": on CPU "round_robin" (on one core "scan"), elsewhere the faster of the other two, which
    # is measured first.
    execution: Literal["auto", "vmap", "scan", "round_robin"] = "auto"

    def __post_init__(self) -> None:
        freeze_params(self)
        for name, values in self.params.items():
            if not isinstance(values, tuple) or not values:
                raise InputError(f"params.{name}={quoted(values)}: pass a list of one or more values")
        for seed in self.seeds:
            if not 0 <= seed <= LARGEST_SEED:
                raise InputError(f"seeds={quoted(seed)} must be between 0 and {LARGEST_SEED:,}")
        for rate in self.learning_rates:
            if not 0 < rate < float("inf"):
                raise InputError(f"learning_rates={rate} must be greater than 0, and finite")

    __hash__ = hash_with_dicts


@dataclasses.dataclass(frozen=True, kw_only=True)
class SweepConfig(Config):
    """Many training runs of the first stage that differ in a few settings."""

    grid: GridConfig = GridConfig()
