"""The options of `wing-jax predict`."""

import dataclasses
import math
from typing import Annotated

import tyro

from wing_jax.errors import InputError
from wing_jax.inference.detectors import get_detector
from wing_jax.inference.face_landmarker import FaceLandmarker
from wing_jax.inference.localizer import Localizer


@dataclasses.dataclass(frozen=True, kw_only=True)
class PredictOptions:
    """Find the landmarks of all faces in pictures, folders of pictures, videos or a camera's frames.

    A picture gets an overlay PNG, a JSON and a .pts per face, and all pictures share one CSV; a video gets an overlay
    .mp4 and a CSV.
    """

    # a pretrained model (mtfl, w300) or the folder of a trained model
    model: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")]
    images: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="[IMAGE|FOLDER|VIDEO ...]")] = ()
    """pictures, folders and videos"""
    box: tyro.conf.UseAppendAction[tuple[tuple[float, float, float, float], ...]] = ()
    """x0 y0 x1 y1 in pixels: use this box in every picture instead of a detector; repeat it for more faces."""
    # libfacedetection, mtcnn or another registered detector; auto: the first one installed; none: the complete picture
    # is the box
    detector: str = "auto"
    # search pictures without a face, or without a valid one, again: turned by 90, 180 and 270 degrees
    any_angle: bool = True
    output: str = "predictions"  # folder for the results
    flip_average: bool = False  # average the prediction with that of the mirrored image
    # pictures: try faces that are not valid again, with the crop turned, moved and resized
    retry_invalid: bool = True
    camera: int = -1  # index of the camera to use, from 0; -1: none
    window: bool = True  # show the camera's picture in a window; press q to stop
    # video: number of frames between two runs of the detector; faces are tracked in between; 1: every frame
    detect_every: int = 10
    smooth: bool = True  # video: smooth the landmarks with a One-Euro filter
    min_cutoff: float = 1.0  # cut-off frequency of the filter at rest, in Hz; lower is steadier
    beta: float = 30.0  # speed coefficient of the filter; a higher one reduces lag in fast movements
    max_frames: int = 0  # video or camera: stop after this many frames; 0: do not stop early


def check_boxes(options: PredictOptions) -> None:
    """Raise InputError if a --box is empty or not finite, before any picture is read."""
    for box in options.box:
        left, top, right, bottom = box
        if not (math.isfinite(sum(box)) and right - left >= 2 and bottom - top >= 2):
            values = " ".join(f"{value:g}" for value in box)
            raise InputError(f"--box {values} is empty: pass x0 y0 x1 y1 with x1 > x0 and y1 > y0, in pixels")


def landmarker_of(localizer: Localizer, options: PredictOptions) -> FaceLandmarker:
    """Combine the localizer with the detector of the options.

    Raises:
      InputError: the detector is not installed, or cannot be used with the model.
    """
    detector = get_detector(options.detector)
    return FaceLandmarker(localizer=localizer, detector=detector, any_angle=options.any_angle)
