"""Configurations: frozen, keyword-only dataclasses of plain values. A config file defines one, named `config`."""

import dataclasses
import functools
import json
import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, get_origin

import cattrs
from cattrs.v import format_exception

from wing_jax.choices import (
    LARGEST_INPUT,
    Center,
    Input,
    Occluded,
    Parallel,
    PictureSize,
    Precision,
    Reduction,
    Stage2Crops,
    Store,
)
from wing_jax.errors import InputError
from wing_jax.runtime import files
from wing_jax.runtime.parameters import freeze_params, hash_with_dicts
from wing_jax.text import quoted, reason

READERS: dict[str, Callable[[str], Any]] = {".toml": tomllib.loads, ".json": json.loads}

LARGEST_BINS = 10_000  # of the pose coefficient
LARGEST_SEED = 2**32 - 1
SHARE = (0, 1)


def check_range(config: object, **limits: tuple[int | float, int | float]) -> None:
    """Raises InputError where a field of `config` does not lie between the two numbers given for it."""
    for name, (low, high) in limits.items():
        value = getattr(config, name)
        if not low <= value <= high:
            raise InputError(f"{name}={value} must lie between {low:,} and {high:,}")


def _check_above(config: object, *names: str, zero: bool = False) -> None:
    """Raises InputError where one of these fields is not a finite number above 0, or, with `zero`, is below it."""
    for name in names:
        value = getattr(config, name)
        if not (0 <= value < float("inf") and (zero or value)):
            finite = "" if abs(value) < float("inf") else ", and finite"
            raise InputError(f"{name}={value} must {'not be below 0' if zero else 'be greater than 0'}{finite}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Where the annotated faces come from."""

    name: str  # a data set that `wing-jax data formats` lists, or one that another package registers
    root: str = ""  # folder or file of the data set; empty: found below WING_JAX_DATA or ../shared/data
    images: str = ""  # folder of the pictures, for lists of your own (coco, imglab, csv); empty: where the list tells
    scheme: str = ""  # of your own data: a TOML file, or a published scheme's name; of published data: convert to it
    boxes: str = "given"  # a rule of `wing_jax.data.boxes`, such as "landmarks"
    occluded: Occluded = "keep"  # points annotated as occluded: keep those with a position, or none
    # Pictures of another size than their annotation file says: refused, or points and boxes moved to the real one.
    picture_size: PictureSize = "check"
    train_faces: int = 0  # synthetic faces to draw for training (synthetic alone)
    test_faces: int = 0  # synthetic faces to draw for the test (synthetic alone)
    store: Store = "pixels"  # the faces' face crops in memory; "jpeg": for sets too large, input="tfdata"
    validation: float = 0.05  # share of the training photos held out to choose the best checkpoint
    without: tuple[str, ...] = ()  # photos not to train on, if they are there; 300-W's are called FOLDER/NAME
    reshaped: int = 0  # copies of each face warped towards the shapes of others like it (`wing_jax.augment.reshaping`)
    copies: int = 1  # how often a face comes in an epoch, beside the faces of other sets (`Config.more`)

    def __post_init__(self) -> None:
        if not 0 < self.validation < 1:
            raise InputError(f"validation={self.validation} must lie between 0 and 1: some faces choose the checkpoint")
        if self.copies < 1:
            raise InputError(f"copies={self.copies} must be at least 1")
        _check_above(self, "reshaped", "train_faces", "test_faces", zero=True)


@dataclasses.dataclass(frozen=True, kw_only=True)
class BalanceConfig:
    """HSM, pose-based data balancing (`wing_jax.balance`)."""

    method: Literal["none", "hsm", "official"] = "none"
    bins: int = 9  # bins of the pose coefficient
    cap: int = 20  # at most so many copies of one face

    def __post_init__(self) -> None:
        if not 1 <= self.bins <= LARGEST_BINS or self.cap < 1:
            raise InputError(f"bins={self.bins}, cap={self.cap}: bins is 1 to {LARGEST_BINS:,}, cap at least 1")


@dataclasses.dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """Random augmentation, drawn anew for every face, duplicates too, in every epoch. Uniform within +- the value.

    What is 0 is left out and costs nothing. The others are applied in the order of the fields, with `aspect` first."""

    rotation: float  # degrees
    translation: float  # fractions of the crop's side, along x and along y
    scale: float  # fraction: the crop's side is divided by 1 +- scale
    aspect: float = 0.0  # fraction: the upright face grows by 1 +- aspect along x and shrinks as much along y
    flip: float = 0.5  # probability
    blur: float = 0.5  # probability of a Gaussian blur
    blur_sigma: float = 1.0  # pixels of the crop
    downscale: float = 0.0  # the crop shows what is left at 1 / (1 + up to this) of its resolution
    color: float = 0.0  # brightness, contrast and channel gains vary by +- this fraction
    noise: float = 0.0  # standard deviation of Gaussian noise in gray levels is drawn up to this
    occlusion: float = 0.0  # probability of one gray rectangle
    occlusion_side: float = 0.4  # its largest side, in fractions of the crop
    jpeg: float = 0.0  # probability of JPEG compression, at a quality of 20 to 90
    # Augmentations that other packages register, behind these: name -> the arguments of its function.
    extra: dict[str, dict[str, float]] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        check_range(self, flip=SHARE, blur=SHARE, occlusion=SHARE, occlusion_side=SHARE, jpeg=SHARE, color=SHARE)
        check_range(self, rotation=(0, 360), scale=(0, 0.9), aspect=(0, 0.9), noise=(0, 255))
        _check_above(self, "translation", "downscale", zero=True)
        _check_above(self, "blur_sigma")

    __hash__ = hash_with_dicts


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """A network by its registered name (`wing_jax.models.MODELS`) and its parameters by theirs, those left out having
    the network's own defaults. Both are checked where the network is made, by `wing_jax.models.make_model`."""

    name: str = "plain"
    # Of "plain" and "voting": channels, hidden, norm, dropout; of "voting": residual. What they are is said there.
    params: dict[str, Any] = dataclasses.field(default_factory=dict)
    output_bias: Literal["zero", "mean_shape"] = "zero"  # "mean_shape" is the stronger recipe
    # Of activations in training; parameters, loss and coordinates stay float32. "auto": bfloat16 on GPU and TPU.
    precision: Precision = "auto"

    def __post_init__(self) -> None:
        freeze_params(self)

    __hash__ = hash_with_dicts


@dataclasses.dataclass(frozen=True, kw_only=True)
class LossConfig:
    """A loss by its registered name (`wing_jax.losses.LOSSES`) and its parameters by theirs, those left out having the
    loss's own defaults. Both are checked where the loss is made, by `wing_jax.losses.make_loss`."""

    name: str = "wing"
    params: dict[str, float] = dataclasses.field(default_factory=dict)  # lengths: pixels of a crop of reference_size
    reference_size: int | None = None  # pixels; None: the loss's own, 256 for soft_wing and 64 for all others
    # A sum over the 2L coordinates and a mean over the batch, as in the paper, or a mean over all of them.
    reduction: Reduction = "sum_over_points_mean_over_batch"

    def __post_init__(self) -> None:
        freeze_params(self)

    __hash__ = hash_with_dicts


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """The rule of the updates, and how its learning rate falls."""

    name: Literal["sgd", "adamw"]
    learning_rate: float
    final_learning_rate: float
    decay: Literal["exponential", "cosine"]
    weight_decay: float
    warmup: int = 0  # steps of linear rise
    momentum: float = 0.9  # sgd
    clip: float = 0.0  # largest global gradient norm; 0: none
    ema: float = 0.0  # decay of the averaged parameters that are evaluated and kept; 0: none

    def __post_init__(self) -> None:
        _check_above(self, "learning_rate")
        _check_above(self, "final_learning_rate", "weight_decay", "warmup", "clip", zero=True)
        if self.decay == "exponential":  # to 0 there is no exponential way
            _check_above(self, "final_learning_rate")
        for name in ("momentum", "ema"):
            if not 0 <= getattr(self, name) < 1:
                raise InputError(f"{name}={getattr(self, name)} must be at least 0 and below 1")


@dataclasses.dataclass(frozen=True, kw_only=True)
class StageConfig:
    """One network and its training."""

    input_size: int  # pixels: the crop's side
    margin: float  # crop side per side of the face box (stage 2: of the mean shape's box)
    model: ModelConfig
    loss: LossConfig
    augment: AugmentConfig
    optimizer: OptimizerConfig
    batch_size: int
    steps: int
    evaluate_every: int  # steps; a checkpoint is written at the same steps
    keep: int = 2  # newest checkpoints kept, beside the best
    # Stage 1. "shape": the crop is centered on the faces, off the boxes' centers by the mean found in training faces.
    # For boxes that hold faces off their center: with flips, the network would learn to answer half-way.
    center: Center = "box"

    def __post_init__(self) -> None:
        _check_above(self, "input_size", "margin", "batch_size", "steps", "evaluate_every", "keep")
        if self.input_size > LARGEST_INPUT:
            raise InputError(f"input_size={self.input_size} must be at most {LARGEST_INPUT:,}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class SecondStageConfig(StageConfig):
    """The second network, on crops that the first stage has turned upright and re-centerd.

    stage2_crops="predicted": the training crops are made by running the trained first stage on `draws` strong
    augmentations of every face; "annotated": they are made from the annotated points. `augment` comes on top of either,
    weaker.
    """

    stage2_crops: Stage2Crops = "predicted"
    draws: int = 8

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_above(self, "draws")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """A whole training."""

    name: str  # the run's folder is output/name
    data: DataConfig
    stage1: StageConfig
    stage2: SecondStageConfig | None = None
    balance: BalanceConfig = BalanceConfig()
    more: tuple[DataConfig, ...] = ()  # other sets to train on besides, converted to the points of `data`
    seed: int = 0
    output: str = "runs"
    devices: int = 0  # devices to train on; 0: all
    parallel: Parallel = "jit"
    # "device": the faces lie in device memory and each step makes its own batch. "tfdata": for faces that do not fit.
    input: Input = "device"
    # "many": every process of a cluster runs this command (docs/how-to/accelerators.md)
    processes: Literal["one", "many"] = "one"
    steps_per_call: int = 0  # steps in one program of the device; 0: 1 on CPU, 250 on GPU and TPU
    large_batch: int = 0  # faces a step, the stages' schedules being rescaled to it (`scaled_to_batch`); 0: as they are

    def __post_init__(self) -> None:
        _check_above(self, "devices", "steps_per_call", "large_batch", zero=True)
        check_range(self, seed=(0, LARGEST_SEED))
        parts = Path(self.name).parts
        if not parts or ".." in parts or Path(self.name).is_absolute() or "\0" in self.name:
            raise InputError(f"name={quoted(self.name)}: the run's folder is output/name: give a name without .. or /")

    @property
    def folder(self) -> Path:
        return Path(self.output) / self.name


@dataclasses.dataclass(frozen=True, kw_only=True)
class GridConfig:
    """The runs of a sweep: all combinations. What is empty is as the first stage says; losses other than the first
    stage's own have their own defaults then. A loss without one of the `params` is run once for all its values."""

    seeds: tuple[int, ...] = ()  # of the first parameters and of dropout; all runs share their batches
    losses: tuple[str, ...] = ()
    # Values to try of parameters, each for the losses that have it. Lengths are pixels of that loss's own reference
    # size: for soft_wing of 256, for others of 64, for the first stage's own loss of what the stage says.
    params: dict[str, tuple[float, ...]] = dataclasses.field(default_factory=dict)
    learning_rates: tuple[float, ...] = ()  # the first; the schedule keeps its shape
    # "vmap": all runs at once; "scan": one after the other within the program; "round_robin": the runs take turns with
    # one compiled step; "auto": "round_robin" on CPU, elsewhere the faster of the others, which is measured first.
    how: Literal["auto", "vmap", "scan", "round_robin"] = "auto"

    def __post_init__(self) -> None:
        freeze_params(self)
        for name, values in self.params.items():
            if not isinstance(values, tuple) or not values:
                raise InputError(f"params.{name}={quoted(values)}: give one value or more to try")
        for seed in self.seeds:
            if not 0 <= seed <= LARGEST_SEED:
                raise InputError(f"seeds={quoted(seed)} must lie between 0 and {LARGEST_SEED:,}")
        for rate in self.learning_rates:
            if not 0 < rate < float("inf"):
                raise InputError(f"learning_rates={rate} must be greater than 0, and finite")

    __hash__ = hash_with_dicts


@dataclasses.dataclass(frozen=True, kw_only=True)
class SweepConfig(Config):
    """Many trainings of the first stage that differ in a few numbers."""

    grid: GridConfig = GridConfig()


def load_config(path: str | Path) -> Config:
    """The config of a file. One ending in .toml or .json, in any case, is a table of fields, the tables of the
    dataclasses within it named as they are here; nothing of it is run, so it may come from anywhere. Any other file is
    run as Python and must define `config`: it is code, so take it only from those you trust.

    Raises:
      InputError: the file is missing, does not run, names an unknown field, or defines no `config`.
    """
    path = Path(path)
    try:
        source = files.read_text(path, encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path}: cannot read this config: give the path of a file (wing-jax config NAME prints one)"
        ) from error
    kind = path.suffix.lower()
    if kind in (".yaml", ".yml"):
        raise InputError(f"{path}: YAML is not read: write the same fields as .toml, .json or Python")
    if kind in READERS:
        try:
            table = READERS[kind](source)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path}: {' '.join(str(error).split())[:200]}") from error
        return config_of(table, where=str(path))
    scope: dict = {"__file__": str(path)}
    try:
        exec(compile(source, str(path), "exec"), scope)
    except Exception as error:
        raise InputError(f"{path}:{_line_of(error, path)}: {_readable(error)}") from error
    if not isinstance(scope.get("config"), Config):
        raise InputError(f"{path}: defines no `config = Config(...)`: see wing-jax config synthetic")
    return scope["config"]


def config_of(table: Any, *, where: str) -> Config:
    """The config of plain values, as `dataclasses.asdict` gives them; one with a `grid` is a SweepConfig.

    Raises:
      InputError: a field is unknown or missing, or its value does not fit; the message begins with `where`.
    """
    if not isinstance(table, dict):
        raise InputError(f"{where}: holds no table of fields: see wing_jax.config.Config")
    try:
        return _converter().structure(table, SweepConfig if "grid" in table else Config)
    except (cattrs.BaseValidationError, AttributeError, TypeError, ValueError, RecursionError) as error:
        said = cattrs.transform_error(error, path="config", format_exception=_said)
        raise InputError(f"{where}: {' '.join(said[0].split())[:400]}") from error


def _said(error: BaseException, wanted: Any) -> str:
    if isinstance(error, AttributeError):
        return "no table of fields"
    if isinstance(error, ValueError) or "not in literal" in str(error):
        return str(error).replace("literal typing.Literal", "")
    return format_exception(error, wanted)


@functools.cache
def _converter() -> cattrs.Converter:
    """Plain values to dataclasses, without guessing: "3" is no number, 1 no bool and "abc" no list of letters."""
    converter = cattrs.Converter(forbid_extra_keys=True)
    structure_tuple = converter.get_structure_hook(tuple[int, ...])

    def exactly(*kinds: type) -> Callable:
        def hook(value: Any, wanted: type) -> Any:
            if type(value) not in kinds or value in (float("inf"), float("-inf")) or value != value:
                raise ValueError(f"{value!r:.40} is no {wanted.__name__}")
            return wanted(value)

        return hook

    def entries(value: Any, wanted: Any) -> Any:
        if not isinstance(value, list | tuple):
            raise ValueError(f"{quoted(value)} is no list")
        return structure_tuple(value, wanted)

    converter.register_structure_hook_func(lambda kind: get_origin(kind) is tuple, entries)
    for kind, kinds in ((int, (int,)), (float, (float, int)), (str, (str,)), (bool, (bool,))):
        converter.register_structure_hook(kind, exactly(*kinds))
    return converter


def _line_of(error: Exception, path: Path) -> int:
    if isinstance(error, SyntaxError):
        return error.lineno or 0
    line, step = 0, error.__traceback__
    while step:
        line = step.tb_lineno if step.tb_frame.f_code.co_filename == str(path) else line
        step = step.tb_next
    return line


def _readable(error: Exception) -> str:
    unknown = re.search(r"(\w+)\.__init__\(\) got an unexpected keyword argument '(\w+)'", str(error))
    if not unknown:
        return f"{type(error).__name__}: {reason(error, length=300)}"
    kind, field = unknown.groups()
    fields = ", ".join(f.name for f in dataclasses.fields(globals()[kind])) if kind in globals() else "?"
    return f"{kind} has no field {quoted(field)}: use one of {fields}"
