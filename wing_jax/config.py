"""Configs: frozen, keyword-only dataclasses of plain values. A config file defines one, named `config`."""

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

PARSERS: dict[str, Callable[[str], Any]] = {".toml": tomllib.loads, ".json": json.loads}

LARGEST_BINS = 10_000  # of the pose coefficient
LARGEST_SEED = 2**32 - 1
UNIT = (0, 1)


def check_range(config: object, **limits: tuple[int | float, int | float]) -> None:
    """Raise InputError if a field of `config` is outside its `(low, high)` limits."""
    for name, (low, high) in limits.items():
        value = getattr(config, name)
        if not low <= value <= high:
            raise InputError(f"{name}={value} must be between {low:,} and {high:,}")


def _check_above(config: object, *names: str, zero: bool = False) -> None:
    """Raise InputError unless each of these fields is a finite number above 0; with `zero`, 0 is allowed."""
    for name in names:
        value = getattr(config, name)
        if not (0 <= value < float("inf") and (zero or value)):
            finite = "" if abs(value) < float("inf") else ", and finite"
            raise InputError(f"{name}={value} must {'not be below 0' if zero else 'be greater than 0'}{finite}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataConfig:
    """The source of annotated faces."""

    name: str  # a data set that `wing-jax data formats` lists, also those that other packages register
    root: str = ""  # folder or file of the data set; empty: searched in WING_JAX_DATA or ../shared/data
    images: str = ""  # folder of the pictures of your own coco, imglab or csv file; empty: the paths in that file
    scheme: str = ""  # of your own data: a TOML file or a published scheme's name; of published data: convert to it
    boxes: str = "given"  # a rule of `wing_jax.data.boxes`, such as "landmarks"
    occluded: Occluded = "keep"  # points annotated as occluded: keep those with a position, or ignore all
    # For a picture whose size differs from its annotation: refuse it, or rescale points and boxes to the real size.
    picture_size: PictureSize = "check"
    train_faces: int = 0  # synthetic faces to render for training (only for "synthetic")
    test_faces: int = 0  # synthetic faces to render for the test (only for "synthetic")
    store: Store = "pixels"  # face crops in memory; "jpeg": for large sets, with input="tfdata"
    validation: float = 0.05  # fraction of the training photos held out to choose the best checkpoint
    exclude: tuple[str, ...] = ()  # photos to leave out of training, if present; for 300-W, FOLDER/NAME
    reshaped: int = 0  # copies of each face, warped to the shapes of similar faces (`wing_jax.augment.reshaping`)
    copies: int = 1  # how often each face occurs in an epoch, relative to the sets of `Config.extra_data`

    def __post_init__(self) -> None:
        if not 0 < self.validation < 1:
            raise InputError(f"validation={self.validation} must be between 0 and 1: these faces choose the checkpoint")
        if self.copies < 1:
            raise InputError(f"copies={self.copies} must be at least 1")
        _check_above(self, "reshaped", "train_faces", "test_faces", zero=True)


@dataclasses.dataclass(frozen=True, kw_only=True)
class BalanceConfig:
    """HSM, pose-based data balancing (`wing_jax.balance`)."""

    method: Literal["none", "hsm", "official"] = "none"
    bins: int = 9  # bins of the pose coefficient
    cap: int = 20  # maximum copies of one face

    def __post_init__(self) -> None:
        if not 1 <= self.bins <= LARGEST_BINS or self.cap < 1:
            raise InputError(f"bins={self.bins}, cap={self.cap}: bins is 1 to {LARGEST_BINS:,}, cap at least 1")


@dataclasses.dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """Random augmentation, sampled anew for every face, also for duplicates, in every epoch. Uniform within +- value.

    Operations set to 0 are skipped and cost nothing. The others run in the order of the fields, with `aspect` first."""

    rotation: float  # degrees
    translation: float  # fractions of the crop's side, along x and along y
    scale: float  # fraction; the crop's side is divided by 1 +- scale
    aspect: float = 0.0  # fraction; the upright face grows by 1 +- aspect along x and shrinks by the same along y
    flip: float = 0.5  # probability
    blur: float = 0.5  # probability of a Gaussian blur
    blur_sigma: float = 1.0  # pixels of the crop
    downscale: float = 0.0  # the crop is reduced to 1 / (1 + up to this) of its resolution and enlarged again
    color: float = 0.0  # brightness, contrast and channel gains vary by +- this fraction
    noise: float = 0.0  # largest standard deviation of Gaussian noise, in gray levels
    occlusion: float = 0.0  # probability of one gray rectangle
    occlusion_side: float = 0.4  # its largest side, as a fraction of the crop
    jpeg: float = 0.0  # probability of JPEG compression, at a quality of 20 to 90
    # Augmentations that other packages register, applied after these: name -> arguments of its function.
    extra: dict[str, dict[str, float]] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        check_range(self, flip=UNIT, blur=UNIT, occlusion=UNIT, occlusion_side=UNIT, jpeg=UNIT, color=UNIT)
        check_range(self, rotation=(0, 360), scale=(0, 0.9), aspect=(0, 0.9), noise=(0, 255))
        _check_above(self, "translation", "downscale", zero=True)
        _check_above(self, "blur_sigma")

    __hash__ = hash_with_dicts


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """A network: its registered name (`wing_jax.models.MODELS`) and its parameters; missing ones have the network's
    defaults. `wing_jax.models.make_model` checks both when it makes the network."""

    name: str = "plain"
    # For "plain" and "voting": channels, hidden, norm, dropout; for "voting": residual. See the classes for details.
    params: dict[str, Any] = dataclasses.field(default_factory=dict)
    output_bias: Literal["zero", "mean_shape"] = "zero"  # "mean_shape": the stronger recipe
    # Of activations in training; parameters, loss and coordinates are always float32. "auto": bfloat16 on GPU and TPU.
    precision: Precision = "auto"

    def __post_init__(self) -> None:
        freeze_params(self)

    __hash__ = hash_with_dicts


@dataclasses.dataclass(frozen=True, kw_only=True)
class LossConfig:
    """A loss: its registered name (`wing_jax.losses.LOSSES`) and its parameters; missing ones have the loss's
    defaults. `wing_jax.losses.make_loss` checks both when it makes the loss."""

    name: str = "wing"
    params: dict[str, float] = dataclasses.field(default_factory=dict)  # lengths: pixels of a crop of reference_size
    reference_size: int | None = None  # pixels; None: the loss's default, 256 for soft_wing and 64 for all others
    # A sum over the 2L coordinates and a mean over the batch, as in the paper; or a mean over both.
    reduction: Reduction = "sum_over_points_mean_over_batch"

    def __post_init__(self) -> None:
        freeze_params(self)

    __hash__ = hash_with_dicts


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """The optimizer and its learning rate schedule."""

    name: Literal["sgd", "adamw"]
    learning_rate: float
    final_learning_rate: float
    decay: Literal["exponential", "cosine"]
    weight_decay: float
    warmup: int = 0  # steps of linear rise
    momentum: float = 0.9  # sgd
    clip: float = 0.0  # largest global gradient norm; 0: none
    ema: float = 0.0  # decay of the averaged parameters, which are evaluated and saved; 0: none

    def __post_init__(self) -> None:
        _check_above(self, "learning_rate")
        _check_above(self, "final_learning_rate", "weight_decay", "warmup", "clip", zero=True)
        if self.decay == "exponential":  # cannot reach 0
            _check_above(self, "final_learning_rate")
        for name in ("momentum", "ema"):
            if not 0 <= getattr(self, name) < 1:
                raise InputError(f"{name}={getattr(self, name)} must be at least 0 and below 1")


@dataclasses.dataclass(frozen=True, kw_only=True)
class StageConfig:
    """One network and how it is trained."""

    input_size: int  # pixels: the crop's side
    margin: float  # crop side per side of the face box (stage 2: of the mean shape's box)
    model: ModelConfig
    loss: LossConfig
    augment: AugmentConfig
    optimizer: OptimizerConfig
    batch_size: int
    steps: int
    evaluate_every: int  # steps; a checkpoint is saved at the same steps
    keep_checkpoints: int = 2  # newest checkpoints to keep, in addition to the best
    # Stage 1. "shape": the crop is centered on the face: moved off the box's center by the mean offset of the training
    # faces. For boxes that are not centered on the face; with flips, the network would learn an average of both sides.
    center: Center = "box"

    def __post_init__(self) -> None:
        _check_above(self, "input_size", "margin", "batch_size", "steps", "evaluate_every", "keep_checkpoints")
        if self.input_size > LARGEST_INPUT:
            raise InputError(f"input_size={self.input_size} must be at most {LARGEST_INPUT:,}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class SecondStageConfig(StageConfig):
    """The second network, on crops that the first stage has rotated upright and re-centered.

    stage2_crops="predicted": the training crops are made by running the trained first stage on `draws` strong
    augmentations of every face; "annotated": they are made from the annotated points. In both cases `augment`, which is
    weaker, is applied to them.
    """

    stage2_crops: Stage2Crops = "predicted"
    draws: int = 8

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_above(self, "draws")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """A complete training."""

    name: str  # the run's folder is output/name
    data: DataConfig
    stage1: StageConfig
    stage2: SecondStageConfig | None = None
    balance: BalanceConfig = BalanceConfig()
    extra_data: tuple[DataConfig, ...] = ()  # more sets to train on, converted to the points of `data`
    seed: int = 0
    output: str = "runs"
    devices: int = 0  # devices to train on; 0: all
    parallel: Parallel = "jit"
    # "device": the faces are in device memory and each step makes its batch. "tfdata": for faces that do not fit.
    input: Input = "device"
    # "many": each process of a cluster runs this command (docs/how-to/accelerators.md)
    processes: Literal["one", "many"] = "one"
    steps_per_call: int = 0  # steps in one compiled program; 0: 1 on CPU, 250 on GPU and TPU
    large_batch: int = 0  # faces per step; rescales the schedules of the stages (`scaled_to_batch`); 0: unchanged

    def __post_init__(self) -> None:
        _check_above(self, "devices", "steps_per_call", "large_batch", zero=True)
        check_range(self, seed=(0, LARGEST_SEED))
        parts = Path(self.name).parts
        if not parts or ".." in parts or Path(self.name).is_absolute() or "\0" in self.name:
            raise InputError(f"name={quoted(self.name)}: the run's folder is output/name: use no .. and no first /")

    @property
    def folder(self) -> Path:
        return Path(self.output) / self.name


@dataclasses.dataclass(frozen=True, kw_only=True)
class GridConfig:
    """The runs of a sweep: all combinations. Empty fields take the values of the first stage; losses other than that of
    the first stage then have their defaults. A loss without one of the `params` is run once for all its values."""

    seeds: tuple[int, ...] = ()  # of initialization and dropout; all runs share their batches
    losses: tuple[str, ...] = ()
    # Values to try for parameters, each for the losses that have it. Lengths are pixels of that loss's reference size:
    # 256 for soft_wing, 64 for others, and the reference size of the first stage for its loss.
    params: dict[str, tuple[float, ...]] = dataclasses.field(default_factory=dict)
    learning_rates: tuple[float, ...] = ()  # initial learning rates; the schedule keeps its shape
    # "vmap": all runs at once; "scan": one after the other within one program; "round_robin": the runs take turns with
    # one compiled step; "auto": "round_robin" on CPU, elsewhere the faster of the other two, which is measured first.
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
    """Many trainings of the first stage that differ in a few settings."""

    grid: GridConfig = GridConfig()


def load_config(path: str | Path) -> Config:
    """Load the config of a file.

    A .toml or .json file (in upper or lower case) is a table of fields, with a table for each dataclass in it, named as
    here. It is not executed, so it may come from anywhere. Any other file is executed as Python and must define
    `config`; load such files only from sources you trust.

    Raises:
      InputError: the file is missing, fails to run, has an unknown field, or defines no `config`.
    """
    path = Path(path)
    try:
        source = files.read_text(path, encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path}: cannot read this config: pass the path of a config file (wing-jax config NAME prints one)"
        ) from error
    ending = path.suffix.lower()
    if ending in (".yaml", ".yml"):
        raise InputError(f"{path}: YAML is not supported: write the same fields as .toml, .json or Python")
    if ending in PARSERS:
        try:
            table = PARSERS[ending](source)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path}: {' '.join(str(error).split())[:200]}") from error
        return config_of(table, where=str(path))
    scope: dict = {"__file__": str(path)}
    try:
        exec(compile(source, str(path), "exec"), scope)
    except Exception as error:
        raise InputError(f"{path}:{_find_line(error, path)}: {_format_error(error)}") from error
    if not isinstance(scope.get("config"), Config):
        raise InputError(f"{path}: defines no `config = Config(...)`: see wing-jax config synthetic")
    return scope["config"]


def config_of(table: Any, *, where: str) -> Config:
    """Make a config from plain values, the output of `dataclasses.asdict`; with a `grid` it is a SweepConfig.

    Raises:
      InputError: a field is unknown or missing, or its value is invalid; the message begins with `where`.
    """
    if not isinstance(table, dict):
        raise InputError(f"{where}: expected a table of fields: see wing_jax.config.Config")
    try:
        return _converter().structure(table, SweepConfig if "grid" in table else Config)
    except (cattrs.BaseValidationError, AttributeError, TypeError, ValueError, RecursionError) as error:
        messages = cattrs.transform_error(error, path="config", format_exception=_format_field_error)
        raise InputError(f"{where}: {' '.join(messages[0].split())[:400]}") from error


def _format_field_error(error: BaseException, expected: Any) -> str:
    if isinstance(error, AttributeError):
        return "expected a table of fields"
    if isinstance(error, ValueError) or "not in literal" in str(error):
        return str(error).replace("literal typing.Literal", "")
    return format_exception(error, expected)


@functools.cache
def _converter() -> cattrs.Converter:
    """Return the converter from plain values to dataclasses. It is strict: "3" is not a number, 1 not a bool."""
    converter = cattrs.Converter(forbid_extra_keys=True)
    structure_tuple = converter.get_structure_hook(tuple[int, ...])

    def accept_only(*kinds: type) -> Callable:
        def hook(value: Any, expected: type) -> Any:
            if type(value) not in kinds or value in (float("inf"), float("-inf")) or value != value:
                raise ValueError(f"expected {expected.__name__}, got {value!r:.40}")
            return expected(value)

        return hook

    def structure_entries(value: Any, expected: Any) -> Any:
        if not isinstance(value, list | tuple):
            raise ValueError(f"expected a list, got {quoted(value)}")
        return structure_tuple(value, expected)

    converter.register_structure_hook_func(lambda kind: get_origin(kind) is tuple, structure_entries)
    for kind, kinds in ((int, (int,)), (float, (float, int)), (str, (str,)), (bool, (bool,))):
        converter.register_structure_hook(kind, accept_only(*kinds))
    return converter


def _find_line(error: Exception, path: Path) -> int:
    if isinstance(error, SyntaxError):
        return error.lineno or 0
    line, step = 0, error.__traceback__
    while step:
        line = step.tb_lineno if step.tb_frame.f_code.co_filename == str(path) else line
        step = step.tb_next
    return line


def _format_error(error: Exception) -> str:
    match = re.search(r"(\w+)\.__init__\(\) got an unexpected keyword argument '(\w+)'", str(error))
    if not match:
        return f"{type(error).__name__}: {reason(error, length=300)}"
    kind, field = match.groups()
    fields = ", ".join(f.name for f in dataclasses.fields(globals()[kind])) if kind in globals() else "?"
    return f"{kind} has no field {quoted(field)}: use one of {fields}"
