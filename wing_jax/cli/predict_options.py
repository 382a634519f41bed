"""What `wing-jax predict` can be told, of pictures and of videos."""

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
    """Find the landmarks of all faces in pictures, in folders of pictures, in videos or before a camera. Pictures get
    an overlay PNG, a JSON and a .pts a face, and one CSV together; videos an overlay .mp4 and a CSV."""

    model: Annotated[str, tyro.conf.Positional]
    images: Annotated[tuple[str, ...], tyro.conf.Positional] = ()  # pictures, folders and videos
    box: tyro.conf.UseAppendAction[tuple[tuple[float, float, float, float], ...]] = ()
    """x0 y0 x1 y1 in pixels of every picture, instead of a detector's; give it once for each face."""
    detector: str = "auto"  # its name: libfacedetection, mtcnn, or another that is registered; none: the whole picture
    output: str = "predictions"  # folder
    flip: bool = False  # average with the mirror image
    camera: int = -1  # the number of a camera to watch; -1: none
    window: bool = True  # show the camera's picture; end with the key q
    every: int = 10  # of a video: frames between two looks of the detector, which the landmarks bridge; 1: each frame
    smooth: bool = True  # of a video: One-Euro filter against jitter
    min_cutoff: float = 1.0  # of the filter, Hz: its cut-off at rest; lower is steadier
    beta: float = 30.0  # of the filter: higher lags less behind quick movements
    frames: int = 0  # of a video or camera: stop after so many; 0: at its end


def check_boxes(options: PredictOptions) -> None:
    """Raise InputError where a --box is empty or not finite, which is no single picture's fault."""
    for box in options.box:
        left, top, right, bottom = box
        if not (math.isfinite(sum(box)) and right - left >= 2 and bottom - top >= 2):
            said = " ".join(f"{value:g}" for value in box)
            raise InputError(f"--box {said} is empty: give x0 y0 x1 y1 with x1 > x0 and y1 > y0, in pixels")


def landmarker_of(localizer: Localizer, options: PredictOptions) -> FaceLandmarker:
    """The localizer behind the detector that is asked for.

    Raises:
      InputError: the detector is not installed, or does not go with the model.
    """
    return FaceLandmarker(localizer=localizer, detector=get_detector(options.detector))
