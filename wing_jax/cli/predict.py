"""`wing-jax predict MODEL IMAGE... --box x0 y0 x1 y1`"""

import dataclasses
import json
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from rich.console import Console

from wing_jax.cli.options import parse
from wing_jax.data.images import read_image, write_image
from wing_jax.data.points_file import write_pts
from wing_jax.errors import InputError
from wing_jax.localizer import Localizer
from wing_jax.report.draw import PREDICTED, draw_points


@dataclasses.dataclass(frozen=True, kw_only=True)
class PredictOptions:
    """Find the landmarks of the faces in the boxes; for each image write an overlay PNG, a JSON and a .pts a face."""

    model: Annotated[str, tyro.conf.Positional]
    images: Annotated[tuple[str, ...], tyro.conf.Positional]
    box: tyro.conf.UseAppendAction[tuple[tuple[float, float, float, float], ...]] = ()
    """x0 y0 x1 y1 in pixels; give it once for each face. None: the whole image is taken as the box."""
    output: str = "predictions"  # folder
    flip: bool = False  # average with the mirror image


def run(arguments: list[str]) -> None:
    """Predict, write the files and say where they are."""
    options = parse(PredictOptions, arguments, command="predict")
    if not options.images:
        raise InputError("no image given: wing-jax predict MODEL IMAGE... --box x0 y0 x1 y1")
    localizer = dataclasses.replace(Localizer.load(options.model), flip_average=options.flip)
    console = Console(highlight=False, soft_wrap=True)
    console.print(localizer.describe())
    folder = Path(options.output)
    for path in map(Path, options.images):
        image = read_image(path)
        boxes = options.box or ((0.0, 0.0, image.shape[1] - 1.0, image.shape[0] - 1.0),)
        points = localizer.predict(image, boxes)
        written = write_prediction(folder / path.stem, image, boxes, points, localizer)
        console.print(f"{path}: {len(points)} face(s) -> {written}")


def write_prediction(stem: Path, image, boxes, points: np.ndarray, localizer: Localizer) -> Path:
    """Write STEM.png, STEM.json and a `.pts` file a face (STEM.pts, or STEM_1.pts ... for several faces)."""
    overlay = image
    for face in points:
        overlay = draw_points(overlay, face, colour=PREDICTED, lines=localizer.scheme.lines, radius=_radius(face))
    write_image(stem.with_name(f"{stem.name}.png"), overlay)
    faces = [{"box": list(map(float, box)), "points": face.tolist()} for box, face in zip(boxes, points, strict=True)]
    facts = {"scheme": localizer.scheme.name, "coordinates": "x, y in pixels, 0-based pixel centres", "faces": faces}
    stem.with_name(f"{stem.name}.json").write_text(json.dumps(facts, indent=1) + "\n")
    for number, face in enumerate(points, 1):
        name = f"{stem.name}.pts" if len(points) == 1 else f"{stem.name}_{number}.pts"
        write_pts(stem.with_name(name), face)
    return stem.with_name(f"{stem.name}.png")


def _radius(face: np.ndarray) -> float:
    """Dots that suit the face's size in pixels."""
    return float(np.clip(np.ptp(face, axis=0).max() / 120, 1.2, 8))
