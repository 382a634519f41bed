"""Start a stage from a trained model: take its arrays where they fit, and convert its head to other landmarks."""

import dataclasses
import fnmatch
import functools
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Float, Int

from wing_jax import geometry
from wing_jax.choices import Statistics
from wing_jax.data.face_set import FaceSet
from wing_jax.errors import InputError
from wing_jax.inference.bundle import flatten
from wing_jax.inference.localizer import Localizer
from wing_jax.inference.stage import Stage
from wing_jax.models.networks import Variables
from wing_jax.runtime.parameters import check_choice
from wing_jax.schemes import MTFL_5, Scheme
from wing_jax.schemes.conversions import get_conversion
from wing_jax.text import counted, cut, quoted
from wing_jax.train.crops import mean_shape
from wing_jax.train.start_arrays import SourceArrays, load_arrays
from wing_jax.values import Value

LISTED = 120  # characters of a list of arrays in the report


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Start(Value):
    """The trained model that a stage starts from, and how its parameters are trained on.

    Stage 1 starts from the model's first stage, stage 2 from its second. Every array of the same name and shape is
    taken. If the landmarks differ, the head of a network with a method `select_points` is converted: each landmark
    starts from the nearest one of the trained model, by the mean shapes. All other arrays are initialized as without a
    trained model.

    Args:
      model: the name of a pretrained model ("w300", "mtfl"), the folder of a trained one, or a `Localizer`. Or ImageNet
        weights: "efficientnet_lite0", "mobilenet_v2" or a `.pth` or `.safetensors` file
        (`wing_jax.models.load_imagenet`), or any mapping from names to arrays; any stage can start from these.
      freeze: patterns of parameters that are not trained, such as "ConvBlock_0/*"; `*` matches any characters. The
        names are those of `wing_jax.inference.bundle.flatten`, without "params/".
      rates: factors of the learning rate, by pattern. Of several patterns that match, the first one counts.
      head_warmup: number of steps in which only the parameters that were not taken unchanged are trained.
      statistics: "keep": the running statistics of BatchNorm are taken; "renew": they start as without a model.

    Raises:
      InputError: a value is out of range.

    >>> import wing_jax as wj
    >>> start = wj.Start("w300", freeze=["ConvBlock_0/*"], rates={"ConvBlock_*": 0.1})
    >>> wj.StageSpec(model=wj.models.CNN6, start=start).start.freeze
    ('ConvBlock_0/*',)
    """

    model: Any  # str | Path | Localizer | Mapping[str, np.ndarray]
    _: dataclasses.KW_ONLY
    freeze: Sequence[str] = ()
    rates: Mapping[str, float] = dataclasses.field(default_factory=dict)
    head_warmup: int = 0
    statistics: Statistics = "keep"

    def __post_init__(self) -> None:
        if not isinstance(self.model, str | os.PathLike | Localizer | Mapping) or not str(self.model):
            raise InputError(
                f"start={quoted(self.model)}: pass the folder of a trained model, the name of a pretrained one, a "
                "Localizer, or the arrays of wing_jax.models.load_imagenet"
            )
        if isinstance(self.freeze, str) or not all(isinstance(pattern, str) for pattern in self.freeze):
            raise InputError(f"Start: freeze={quoted(self.freeze)} must be a list of patterns")
        object.__setattr__(self, "freeze", tuple(self.freeze))
        for pattern, rate in self.rates.items():
            if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 <= rate < float("inf"):
                raise InputError(f"Start: rates[{quoted(pattern)}]={quoted(rate)} must be 0 or more")
        if type(self.head_warmup) is not int or self.head_warmup < 0:
            raise InputError(f"Start: head_warmup={quoted(self.head_warmup)} must be a whole number of at least 0")
        check_choice("Start: statistics", self.statistics, Statistics)

    @property
    def name(self) -> str:
        """The name of the trained model in messages."""
        if isinstance(self.model, Localizer):
            return self.model.metadata.name or "a Localizer"
        return "a mapping of arrays" if isinstance(self.model, Mapping) else str(self.model)

    @functools.cached_property
    def arrays(self) -> Mapping[str, np.ndarray] | None:
        """The arrays of ImageNet weights or of a mapping; None if `model` is a trained landmark model.

        Raises:
          InputError: they cannot be loaded.
        """
        return load_arrays(self.model)

    @functools.cached_property
    def localizer(self) -> Localizer:
        """The trained model.

        Raises:
          InputError: it cannot be loaded, or `model` is not a landmark model.
        """
        if self.arrays is not None:
            raise InputError(
                f"start={quoted(self.name)} is not a landmark model and has no network, crops or margin: pass the "
                'network of the weights, such as StageSpec(model=...) or the config\'s model.name "mobilenet_v2"'
            )
        return self.model if isinstance(self.model, Localizer) else Localizer.load(self.model)

    def factor(self, name: str) -> float:
        """Return the factor of the learning rate of the parameter `name`, such as "ConvBlock_0/Conv_0/kernel"."""
        if any(fnmatch.fnmatchcase(name, pattern) for pattern in self.freeze):
            return 0.0
        return next((float(rate) for pattern, rate in self.rates.items() if fnmatch.fnmatchcase(name, pattern)), 1.0)

    def check_patterns(self, names: Sequence[str], *, number: int) -> None:
        """Check that each pattern matches one of the parameters `names` of stage `number`.

        Raises:
          InputError: one does not.
        """
        for pattern in (*self.freeze, *self.rates):
            if not fnmatch.filter(names, pattern):
                raise InputError(
                    f"stage {number}: the pattern {quoted(pattern)} matches no parameter: its parameters are "
                    f"{cut(', '.join(names), length=LISTED)}"
                )


def as_start(value: Any) -> Start | None:
    """Return the `Start` of a name, a path, a `Localizer` or arrays; a `Start` and None are returned unchanged."""
    return value if value is None or isinstance(value, Start) else Start(value)


def starts_from_landmarks(start: Start | None) -> bool:
    """Return whether `start` is of a trained landmark model, which has crops and margins, unlike other weights."""
    return start is not None and start.arrays is None


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Started(Value):
    """The arrays of a stage that come from a trained model, and the names of all arrays by their origin."""

    arrays: Mapping[str, np.ndarray]  # by name, taken or converted
    taken: tuple[str, ...]  # unchanged from the trained model
    converted: tuple[str, ...]  # from the trained model's head
    new: tuple[str, ...]  # initialized
    unused: tuple[str, ...]  # arrays of the trained model

    def __str__(self) -> str:
        total = len(self.taken) + len(self.converted) + len(self.new)
        head = f"; converted to the new landmarks: {_listed(self.converted)}" if self.converted else ""
        return "\n".join(
            (
                f"{len(self.taken)} of {counted(total, 'array')} taken{head}",
                f"initialized: {_listed(self.new)}",
                f"not used: {_listed(self.unused)}",
            )
        )


def trained_network(start: Start, number: int) -> tuple[Callable[..., Any], int]:
    """Return the network of the trained model's stage `number` and the side of its crops in pixels.

    The network is a function that takes the number of points, as a `StageSpec` takes it.

    Raises:
      InputError: the trained model cannot be loaded or has fewer stages.
    """
    stage = find_stage(start.localizer, start, number)
    return functools.partial(with_points, stage.model, trained_points=start.localizer.scheme.points), stage.input_size


def with_points(model: Any, *, trained_points: int, points: int) -> Any:
    """Return the network `model`, which was trained on `trained_points` points, for another number of `points`.

    Raises:
      InputError: it is not a linen module with a field `points`.
    """
    if points == trained_points:
        return model
    if not isinstance(model, nn.Module) or not hasattr(model, "points"):
        raise InputError(
            f"the network {cut(type(model).__name__)} was trained on {trained_points} points and has no field "
            f"`points`: pass a network for {points} points in StageSpec(model=...)"
        )
    return model.clone(points=points)


def find_source(
    start: Start, *, heads: Sequence[Scheme], mean: Float[np.ndarray, "points 2"], number: int
) -> SourceArrays:
    """Return the arrays that stage `number` can start from.

    Args:
      start: how to start.
      heads: the schemes of the network's points, in order.
      mean: their mean shape in pixels of the network's crop.
      number: the number of the stage.

    Raises:
      InputError: they cannot be loaded, or the trained model has fewer stages.
    """
    if start.arrays is not None:
        return SourceArrays(arrays=start.arrays, about="it has " + _listed(list(start.arrays)))
    localizer = start.localizer
    stage = find_stage(localizer, start, number)
    arrays, converted = flatten(stage.variables), dict[str, np.ndarray]()
    select = getattr(stage.model, "select_points", None)
    if tuple(heads) != (localizer.scheme,) and select is not None:
        index, offset = _nearest_of_heads(localizer, heads, mean)
        selected = flatten(select(stage.variables, index, offset, size=stage.input_size))
        converted = {name: array for name, array in selected.items() if array is not arrays[name]}
    return SourceArrays(arrays=arrays, converted=converted, about=f"its stage {number} is {_describe(stage)}")


def match_arrays(shapes: Variables, source: SourceArrays, start: Start, *, number: int) -> Started:
    """Find the arrays of `source` that fit a network.

    Args:
      shapes: the shapes of the network's variables (`wing_jax.models.networks.shapes_of`).
      source: from `find_source`.
      start: how to start.
      number: the number of the stage, for messages.

    Raises:
      InputError: no parameter fits, or a pattern matches no parameter.
    """
    converted, available = source.converted, source.arrays
    if start.statistics == "renew":
        available = {name: array for name, array in available.items() if name.startswith("params/")}
    arrays, origins = dict[str, np.ndarray](), {"taken": [], "converted": [], "new": []}
    expected = flatten(shapes)
    start.check_patterns(
        [name.removeprefix("params/") for name in expected if name.startswith("params/")], number=number
    )
    for name, leaf in expected.items():
        array = converted.get(name, available.get(name))
        fits = array is not None and np.shape(array) == leaf.shape and _same_kind(array, leaf)
        origins["new" if not fits else "converted" if name in converted else "taken"].append(name)
        if fits:
            arrays[name] = np.asarray(array)
    if not any(arrays[name].ndim > 1 for name in origins["taken"]):  # a bias alone fits by chance
        raise InputError(
            f"stage {number}: no layer of the model {quoted(start.name)} fits this network: {source.about}: use the "
            "same network, or omit start"
        )
    return Started(
        arrays=arrays,
        unused=tuple(name for name in available if name not in arrays),
        **{origin: tuple(names) for origin, names in origins.items()},
    )


def _nearest_of_heads(
    localizer: Localizer, heads: Sequence[Scheme], mean: Float[np.ndarray, "points 2"]
) -> tuple[Int[np.ndarray, "points"], Float[np.ndarray, "points 2"]]:
    """Return `nearest_points` of each head, joined; the points of the trained scheme are taken as they are."""
    ends = np.cumsum([scheme.points for scheme in heads])
    found = [
        (np.arange(scheme.points), np.zeros_like(part))
        if scheme == localizer.scheme
        else nearest_points(localizer, scheme, part)
        for scheme, part in zip(heads, np.split(mean, ends[:-1]), strict=True)
    ]
    indices, offsets = zip(*found, strict=True)
    return np.concatenate(indices), np.concatenate(offsets)


def nearest_points(
    localizer: Localizer, scheme: Scheme, mean: Float[np.ndarray, "points 2"]
) -> tuple[Int[np.ndarray, "points"], Float[np.ndarray, "points 2"]]:
    """Return for each landmark of `scheme` the nearest one of the trained model, and its position relative to that.

    Both are found on the mean shapes (`align_template`); positions are in the unit of `mean`.
    """
    aligned = align_template(localizer, scheme, mean)
    index = np.linalg.norm(mean[:, None] - aligned[None], axis=-1).argmin(1)
    return index, mean - aligned[index]


def align_template(
    localizer: Localizer, scheme: Scheme, mean: Float[np.ndarray, "points 2"]
) -> Float[np.ndarray, "trained_points 2"]:
    """Return the mean shape of the trained model, aligned to the mean shape `mean` of `scheme`.

    They are aligned by the eyes, nose and corners of the mouth if both schemes have a conversion to them, else by the
    two points that normalize errors.
    """
    pairs = [(localizer.template, localizer.scheme), (mean, scheme)]
    try:
        anchors = [get_conversion(owner, MTFL_5).points(shape[None])[0] for shape, owner in pairs]
    except ValueError:
        anchors = [shape[[owner.left_outer, owner.right_outer]] for shape, owner in pairs]
    return np.asarray(geometry.transform(geometry.fit_similarity(*anchors), localizer.template), np.float32)


def trained_margin(start: Start, number: int, faces: FaceSet) -> float:
    """Return the margin of stage `number` for crops of `faces` in which a face is as large as the trained stage's.

    It is that of the trained stage, converted by the mean shapes if the landmarks or the convention of boxes differ.
    `start` is of a landmark model.

    Raises:
      InputError: the trained model cannot be loaded, or has fewer stages.
    """
    localizer = start.localizer
    stage, shape = find_stage(localizer, start, number), localizer.metadata.shape_in_box
    same_scheme = faces.scheme == localizer.scheme
    same_boxes = shape is None or (same_scheme and faces.box_convention == localizer.box_convention)
    if (number == 1 and same_boxes) or (number == 2 and same_scheme):
        return stage.margin
    in_boxes = geometry.transform(geometry.invert(geometry.crop_of_box(faces.boxes, size=1)), faces.points)
    fractions = np.asarray(geometry.crop_fractions(in_boxes, size=1))
    mean = mean_shape(fractions, faces.visible, flip=faces.scheme.flip)
    side = _side(mean)
    trained_side = side if same_scheme else _side(align_template(localizer, faces.scheme, mean))
    return stage.margin * trained_side / (shape.side if number == 1 and shape is not None else side)


def train_parts(
    optimizer: optax.GradientTransformation, start: Start, started: Started
) -> optax.GradientTransformation:
    """Return `optimizer` with the factors of `start`, and with its warm-up of the parameters that were not taken."""
    warmup = start.head_warmup
    taken = set(started.taken)

    def init(params: Any) -> Any:
        return optimizer.init(params), jnp.zeros((), jnp.int32)

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        inner, count = state
        updates, inner = optimizer.update(updates, inner, params)

        def scale(path: Any, leaf: Any) -> Any:
            name = "/".join(str(getattr(key, "key", getattr(key, "idx", key))) for key in path)
            factor = start.factor(name)
            if warmup and f"params/{name}" in taken:
                return jnp.where(count < warmup, jnp.zeros_like(leaf), factor * leaf)
            return factor * leaf

        return jax.tree_util.tree_map_with_path(scale, updates), (inner, count + 1)

    return optax.GradientTransformation(init, update)


def find_stage(localizer: Localizer, start: Start, number: int) -> Stage:
    """Return stage `number` of the trained model.

    Raises:
      InputError: it has fewer stages.
    """
    if len(localizer.stages) < number:
        raise InputError(
            f"start={quoted(start.name)}: it has {counted(len(localizer.stages), 'stage')}, so stage {number} cannot "
            "start from it: pass start in the StageSpec of the first stage only"
        )
    return localizer.stages[number - 1]


def _side(shape: Float[np.ndarray, "points 2"]) -> float:
    return float(geometry.larger_side(geometry.tight_box(shape)).item())


def _describe(stage: Stage) -> str:
    model = stage.to_table()["model"]
    return ", ".join(f"{name}={value}" for name, value in model.items() if name != "points")


def _same_kind(array: Any, leaf: Any) -> bool:
    return jnp.issubdtype(array.dtype, jnp.floating) == jnp.issubdtype(leaf.dtype, jnp.floating)


def _listed(names: Sequence[str]) -> str:
    return cut(", ".join(name.removeprefix("params/") for name in names), length=LISTED) if names else "none"
