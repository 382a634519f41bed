"""The two-stage localizer: landmarks from pictures and face boxes."""

import dataclasses
import functools
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
from jaxtyping import Array, Float

from wing_jax.data.arguments import BoxesLike, ImageLike, as_images, split_boxes
from wing_jax.data.face_crops import Images, crop_squares, cut_square, square_transforms, to_face_crop, to_image
from wing_jax.errors import InputError
from wing_jax.inference.batching import batch_ranges
from wing_jax.inference.bundle import read_bundle, write_bundle
from wing_jax.inference.checks import check_boxes
from wing_jax.inference.crop_sources import CropSource, HostCrops, Model, PhotoParts, Requests
from wing_jax.inference.forward import ForwardSpec, Located
from wing_jax.inference.metadata import Metadata
from wing_jax.inference.prediction import Prediction
from wing_jax.inference.retry import retry
from wing_jax.inference.stage import Stage, is_custom
from wing_jax.inference.uncertainty import Calibration
from wing_jax.models import cpu_kernel
from wing_jax.runtime.processes import check_fork, check_jax
from wing_jax.schemes import SCHEMES, Scheme, get_scheme
from wing_jax.text import counted, cut, quoted, reason
from wing_jax.values import Value

# Faces, powers of two. Larger batches are slower: on CPU they exceed the caches.
LARGEST_BATCH = {"cpu": 64, "other": 256}
RETRY_BATCH = {"cpu": 8, "other": 64}  # of one size, so that one program is compiled


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Localizer(Value):
    """A one- or two-stage landmark localizer; an immutable value, safe to share.

    Args:
      scheme: the landmark scheme of its points.
      box_convention: the convention of the boxes that it was trained on.
      stages: the trained networks, in order.
      template: the mean shape `[points, 2]` in fractions of the second stage's crop.
      flip_average: average each crop's landmarks with those of its mirror image: slightly better, twice as slow.
      cut_on: where face crops are cut from photos: on the "host" by OpenCV, on the "device" by
        `wing_jax.augment.warp.cut_squares`, or "auto": on the host if the device is a CPU. The results differ by
        hundredths of a pixel of the face crop. Squares wider than 8,192 pixels are always cut on the host.
      largest_batch: the maximum number of faces per batch, a power of two; 0: 64 on CPU, else 256.
      metadata: details of the training data and the boxes.
      calibration: how sure the last network's landmarks are; None: unknown.
      retry_invalid: whether to try faces that are not valid again, with the first crop turned, moved and resized
        (`wing_jax.inference.retry`): up to 17 further passes for such a face, none for a valid one. Needs a
        calibration.

    >>> Localizer.load("mtfl").predict(np.zeros((64, 80, 3), np.uint8), [[10, 10, 50, 50]]).shape
    (1, 5, 2)
    """

    scheme: Scheme
    box_convention: str
    stages: tuple[Stage, ...]
    template: Float[np.ndarray, "points 2"]
    flip_average: bool = False
    cut_on: Literal["auto", "host", "device"] = "auto"
    largest_batch: int = 0
    metadata: Metadata = dataclasses.field(default_factory=Metadata)
    calibration: Calibration | None = None
    retry_invalid: bool = True

    @classmethod
    def load(cls, path: str | Path, *, model: Any = None) -> "Localizer":
        """Load a saved model (a bundle: `model.json` and `weights.npz`).

        Args:
          path: its folder (or a folder with the bundle in its subfolder `model`, such as the folder of a training run),
            or the name of a pretrained model (`wing_jax.pretrained`): "w300" has 68 points, "mtfl" 5.
          model: the model that the bundle was saved with, needed if it is not a registered one, because code is never
            loaded from a bundle. It is used for each stage whose model is not registered, or for all stages if all
            models are registered; a list has one entry per stage (None: the registered model).

        Raises:
          InputError: there is no bundle, it is corrupted, a model is needed and missing, or `model` does not match.

        >>> Localizer.load("mtfl").scheme.points
        5
        """
        check_fork()
        if not isinstance(path, str | os.PathLike) or not str(path):
            raise InputError(f"path={quoted(path)}: pass the folder of a model, or the name of a pretrained model")
        manifest, arrays = read_bundle(path)
        try:
            scheme, tables = _scheme(manifest["scheme"]), list(manifest["stages"])
            return cls(
                scheme=scheme,
                box_convention=manifest["box_convention"],
                stages=tuple(
                    Stage.from_table(table, arrays[f"stage{number}"], points=scheme.points, model=custom)
                    for number, (table, custom) in enumerate(zip(tables, _models(model, tables), strict=True), 1)
                ),
                template=arrays["template"]["shape"],
                metadata=Metadata.from_table(manifest["metadata"]),
                calibration=_calibration(manifest, arrays),
            )
        except InputError as error:
            raise InputError(f"{path}: {error}") from error
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{path}: incomplete or invalid model ({reason(error)}): copy the bundle again") from error

    def save(self, path: str | Path, *, half: bool = False) -> Path:
        """Write the bundle: `model.json`, the description, and `weights.npz`, in float32, or float16 with `half`.

        For a model that is not registered, only the arrays and the name of the class are stored. Returns the folder.

        Raises:
          InputError: `path` is not a path, or a variable of the model is not an array.
        """
        if not isinstance(path, str | os.PathLike):
            raise InputError(f"path={quoted(path)}: pass the path of a folder to save the model in")
        manifest = {
            "scheme": self.scheme.name if self.scheme.name in SCHEMES else self.scheme.to_table(),
            "box_convention": self.box_convention,
            "stages": [stage.to_table() for stage in self.stages],
            "metadata": self.metadata.to_table(),
        }
        arrays = {f"stage{number}": stage.variables for number, stage in enumerate(self.stages, 1)}
        arrays["template"] = {"shape": self.template}
        if self.calibration is not None:
            manifest["calibration"] = self.calibration.to_table()
            arrays["calibration"] = {"weights": self.calibration.weights}
        return write_bundle(path, manifest, arrays, half=half)

    def __repr__(self) -> str:
        return f"<Localizer: {cut(self.describe(), length=250)}>"

    def describe(self) -> str:
        """Return a one-line summary: scheme, stages, input sizes and box convention."""
        sizes = " then ".join(f"{stage.input_size} x {stage.input_size}" for stage in self.stages)
        return (
            f"{self.scheme.points} points ({self.scheme.name}), {counted(len(self.stages), 'stage')} on {sizes} "
            f"pixels, boxes in the {self.box_convention!r} convention"
        )

    def predict(self, image: ImageLike, boxes: BoxesLike) -> Float[np.ndarray, "faces points 2"]:
        """Find the landmarks of the faces in `boxes` (x0, y0, x1, y1 in pixels) of one RGB uint8 `image`.

        `wing_jax.data.arguments` lists the other types of images (a path, a PIL image, a JAX array) and boxes. Returns
        float32 (x, y) in pixels of `image`, with 0 at the center of the first pixel.

        Raises:
          InputError: `image` is not an image, or a box is not four numbers, empty, not finite or completely outside
            the image.
        """
        return self.predict_batch([image], [boxes])[0]

    def predict_batch(self, images: Any, boxes: Any) -> list[Float[np.ndarray, "faces points 2"]]:
        """Find the landmarks of the faces of several photos, of any sizes, in batches across photos.

        `images` is a list, an iterator or an array `[n, height, width, 3]`. `boxes` has for each image the boxes
        `[faces, 4]`, empty for an image without a face. Returns for each image the result of `predict`.

        Raises:
          InputError: the numbers of images and entries of `boxes` differ, or as for `predict`; the message names the
            image.
        """
        located, transforms, ends = self._locate_photos(images, boxes, covariance=False)
        points = to_image(transforms, np.asarray(located.points[-1]))
        return [points[start:end] for start, end in ends]

    def predict_details(self, images: Any, boxes: Any) -> list[Prediction]:
        """Find the landmarks as `predict_batch`, and how sure they are.

        Without a calibration (`Localizer.calibration`), the predictions have only the points.

        Raises:
          InputError: as for `predict_batch`.

        >>> localizer = Localizer.load("w300")
        >>> (prediction,) = localizer.predict_details([np.zeros((64, 80, 3), np.uint8)], [[[10, 10, 50, 50]]])
        >>> prediction.points.shape, prediction.spread.shape, prediction.valid
        ((1, 68, 2), (1, 68), array([False]))
        """
        located, transforms, ends = self._locate_photos(images, boxes, covariance=self.calibration is not None)
        points = to_image(transforms, np.asarray(located.points[-1]))
        covariance, errors = self._uncertainty(located)
        scales = transforms[:, 0, 0, None, None, None] ** 2
        return [
            Prediction(
                points=points[start:end],
                scheme=self.scheme,
                calibration=self.calibration,
                covariance=None if covariance is None else covariance[start:end] * scales[start:end],
                expected_error=None if errors is None else errors[start:end],
            )
            for start, end in ends
        ]

    def _locate_photos(
        self, images: Any, boxes: Any, *, covariance: bool
    ) -> tuple[Located, Float[np.ndarray, "faces 2 3"], list[tuple[int, int]]]:
        """Return the result in face crops, their transforms to the images, and the range of each image's faces."""
        check_jax()
        images = as_images(images)
        total = len(images)
        checked = [
            check_boxes(rows, image, name="the boxes" if total == 1 else f"the boxes of image {number} of {total}")
            for number, (image, rows) in enumerate(zip(images, split_boxes(boxes, total), strict=True), 1)
        ]
        photos = [image for image, rows in zip(images, checked, strict=True) for _ in rows]
        face_boxes = np.concatenate([np.zeros((0, 4), np.float32), *checked])
        squares = crop_squares(face_boxes)
        transforms = square_transforms(squares, size=self.stages[-1].face_crop_size)
        in_face_crop = to_face_crop(transforms, face_boxes.reshape(-1, 2, 2)).reshape(-1, 4)
        sizes = np.array([photo.shape[1::-1] for photo in photos], np.int64).reshape(-1, 2)
        size, limit = self.stages[-1].face_crop_size, self._batch_limit
        parts = PhotoParts(get_photo=photos.__getitem__, sizes=sizes, squares=squares, size=size, limit=limit)
        crops = HostCrops(lambda face: cut_square(photos[face], squares[face], size=size), limit)
        source = parts if self._cuts_on_device and parts.affordable else crops
        located = self._locate(source, in_face_crop, covariance=covariance)
        ends = np.cumsum([len(rows) for rows in checked]).tolist()
        return located, transforms, [(end - len(rows), end) for rows, end in zip(checked, ends, strict=True)]

    def locate(self, face_crops: Images, boxes: Float[np.ndarray, "n 4"]) -> list[Float[np.ndarray, "n points 2"]]:
        """Find the landmarks after each stage, in face crops.

        Face crops are square images around the boxes, from which each stage cuts its crop; here they have the size that
        the last stage needs. `boxes` and the results are in pixels of the face crops.
        """
        return list(np.asarray(self.locate_details(face_crops, boxes, covariance=False).points))

    def locate_details(
        self, face_crops: Images, boxes: Float[np.ndarray, "n 4"], *, covariance: bool = True
    ) -> Located:
        """Return the complete result in face crops; see `locate`. `covariance`: whether to include covariances."""
        check_jax()
        size, count, limit = self.stages[-1].face_crop_size, len(face_crops), self._batch_limit
        source: CropSource = HostCrops(face_crops.__getitem__, limit)
        if self._cuts_on_device:
            squares = np.full((count, 3), (0, 0, size))
            source = PhotoParts(
                get_photo=face_crops.__getitem__,
                sizes=np.full((count, 2), size),
                squares=squares,
                size=size,
                limit=limit,
            )
        return self._locate(source, boxes, covariance=covariance)

    def warm_up(self, *, sizes: Sequence[int] = (1, 32), face_side: int = 200) -> dict[int, float]:
        """Compile `predict_batch` for `sizes` faces at once. Returns the seconds that each size took.

        Batches are split into or padded to powers of two, so pass powers of two only. `face_side`, the
        longer side of the boxes in pixels, matters only if the device cuts the face crops.

        Raises:
          InputError: a size is not a whole number above 0, or `face_side` is below 4.
        """
        if not isinstance(sizes, Iterable) or not all(isinstance(s, int | np.integer) and s > 0 for s in sizes):
            raise InputError(f"sizes={quoted(sizes)}: pass whole numbers of faces above 0, such as (1, 32)")
        if not isinstance(face_side, int | np.integer) or face_side < 4:
            raise InputError(f"face_side={quoted(face_side)}: pass the side of the boxes in whole pixels, 4 or more")
        blank = np.zeros((2 * face_side, 2 * face_side, 3), np.uint8)
        box = face_side * np.array([[0.5, 0.5, 1.5, 1.5]], np.float32) - 0.5
        seconds = {}
        for size in sizes:
            started = time.perf_counter()
            self.predict(blank, np.repeat(box, size, axis=0))
            seconds[size] = time.perf_counter() - started
        return seconds

    @property
    def _batch_limit(self) -> int:
        return 1 << (self.largest_batch.bit_length() - 1) if self.largest_batch > 0 else _for_backend(LARGEST_BATCH)

    @property
    def _cuts_on_device(self) -> bool:
        return jax.default_backend() != "cpu" if self.cut_on == "auto" else self.cut_on == "device"

    def _uncertainty(self, located: Located) -> tuple[Float[np.ndarray, "n points 2 2"] | None, np.ndarray | None]:
        """Return the covariances, in squared pixels of the face crop, and the expected errors; None if unknown."""
        evidence = located.evidence
        if self.calibration is None or (evidence is None and located.points.shape[1]):
            return None, None
        if evidence is None:  # no faces
            return np.zeros((0, self.scheme.points, 2, 2), np.float32), np.zeros(0, np.float32)
        return self.calibration.covariance(evidence, size=self.stages[-1].input_size), located.expected_error

    def _locate(self, source: CropSource, boxes: Float[np.ndarray, "n 4"], *, covariance: bool) -> Located:
        """Locate the faces of `source`, and those that are not valid again."""
        calibration = self.calibration if self.retry_invalid else None
        spec = self._specs[covariance or calibration is not None]
        model = Model(spec, self._weights, self._shape, self._coefficients if spec.covariance else None)
        count = len(boxes)
        requests = Requests(faces=np.arange(count), boxes=boxes, degrees=np.zeros(count, np.float32))
        located = self._in_batches(source, model, requests)
        if calibration is None:
            return located
        return retry(
            lambda more: self._in_batches(source, model, more, bucket=_for_backend(RETRY_BATCH)),
            requests,
            located,
            limit=calibration.limit,
        )

    def _in_batches(self, source: CropSource, model: Model, requests: Requests, *, bucket: int = 0) -> Located:
        """Return the results of all requests; a batch is read after the next one was dispatched.

        `bucket`: the faces of every batch; 0: as `batch_ranges` chooses. The CPU kernel is used if it is built
        (`wing_jax.models.cpu_kernel`).
        """
        cpu_kernel.load(build=False)
        points = self.scheme.points
        results = [Located(np.zeros((len(self.stages), 0, points, 2), np.float32))]
        waiting: list[tuple[Located, int]] = []
        for rows, size in batch_ranges(len(requests), largest=source.largest_batch, bucket=bucket):
            # Allow the implicit transfer under any transfer guard: `jax.device_put` would take 0.1 ms more.
            with jax.transfer_guard_host_to_device("allow"):
                waiting.append((source.locate(model, requests, rows, size), len(rows)))
            if len(waiting) > 1:
                batch, number = waiting.pop(0)
                results.append(batch.read(number))
        results += [batch.read(number) for batch, number in waiting]
        return Located.concatenate(results)

    @functools.cached_property
    def _specs(self) -> dict[bool, ForwardSpec]:
        """The programs without and, if the last network estimates them, with covariances."""
        mirrored = tuple(self.scheme.flip.tolist()) if self.flip_average else None
        stages, estimated = tuple(stage.forward for stage in self.stages), self.stages[-1].network.estimates_covariance
        return {
            wanted: ForwardSpec(stages=stages, mirrored=mirrored, covariance=wanted and estimated)
            for wanted in (False, True)
        }

    @functools.cached_property
    def _shape(self) -> Array:
        return jax.device_put(self.template)

    @functools.cached_property
    def _coefficients(self) -> Array | None:
        return None if self.calibration is None else jax.device_put(self.calibration.weights)

    @property
    def _weights(self) -> tuple[Mapping[str, Any], ...]:
        return tuple(stage.on_device for stage in self.stages)


def _for_backend(sizes: Mapping[str, int]) -> int:
    return sizes.get(jax.default_backend(), sizes["other"])


def _models(model: Any, tables: Sequence[Any]) -> list[Any]:
    """Return the custom model of each stage from the argument `model` of `Localizer.load`; None: the registered one."""
    if isinstance(model, list | tuple) and not hasattr(model, "apply"):
        if len(model) != len(tables):
            raise InputError(f"model= has {len(model)} models, the bundle {len(tables)} stages: pass one for each")
        return list(model)
    custom = [is_custom(table) for table in tables]
    return [model if flag or not any(custom) else None for flag in custom]


def _calibration(manifest: Mapping[str, Any], arrays: Mapping[str, Any]) -> Calibration | None:
    if "calibration" not in manifest:
        return None
    return Calibration.from_table(manifest["calibration"], arrays["calibration"]["weights"])


def _scheme(value: str | dict) -> Scheme:
    """Return a published scheme by its name, or a custom one from its table."""
    return get_scheme(value) if isinstance(value, str) else Scheme.from_table(value)
