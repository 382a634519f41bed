"""An evaluation of five drawn faces, and its report."""

import dataclasses
from html.parser import HTMLParser

import numpy as np

from wing_jax.data.face_set import FaceSet
from wing_jax.data.images import Embedded
from wing_jax.evaluation import Evaluation, evaluate_points
from wing_jax.report import page
from wing_jax.schemes import Scheme

LINES = ((0, 1), (2, 3), (4, 5))
SCHEME = Scheme(
    name="six", names=tuple("abcdef"), mirrored=(), left_eye=(0, 1), right_eye=(2, 3), left_outer=0, right_outer=3,
    lines=LINES, about="",
)  # fmt: skip
FACE = np.array([[20, 30], [30, 28], [50, 28], [60, 30], [40, 45], [40, 60]], np.float32)
METRICS = ("inter-ocular", "inter-pupil", "box-size")


def image_of(face):
    return np.full((90, 80, 3), 40 + face, np.uint8)


def faces(count=5, *, image_of=image_of, **changes) -> FaceSet:
    """Faces of which the first has a hidden eye corner; `image_of` gives the image of each by its number."""
    points = FACE + np.arange(count, dtype=np.float32)[:, None, None]
    visible = np.ones(points.shape[:2], bool)
    visible[0, 3] = False
    poses = ("left", "front", "front", "right", "right")[:count]
    fields = {"poses": poses, "name": "five faces", "boxes": np.tile(np.float32([15, 15, 65, 70]), (count, 1))}
    return FaceSet(
        scheme=SCHEME,
        pictures=tuple(Embedded(f"face {face}", lambda face=face: image_of(face)) for face in range(count)),
        points=points,
        visible=visible,
        box_convention="given",
        photos=tuple(map(str, range(count))),
        subsets=("all",) * count,
        **{**fields, **changes},
    )


def worse_and_worse(points, step):
    """Face i is off by i * step pixels to the right."""
    return points + step * np.arange(len(points), dtype=np.float32)[:, None, None] * np.array([1, 0], np.float32)


def evaluated(truth=None, **changes) -> Evaluation:
    truth = truth or faces()
    predictions = {"stage <1>": worse_and_worse(truth.points, 1.0), "stage 2": worse_and_worse(truth.points, 0.5)}
    return evaluate_points(predictions, truth, **{"metrics": METRICS, **changes})


def with_jitter(truth=None) -> Evaluation:
    """Under two conditions."""
    given, other = evaluated(truth), evaluated(truth, condition="jittered boxes")
    return dataclasses.replace(
        given, measurements=given.measurements + other.measurements, predicted={**given.predicted, **other.predicted}
    )


def write(folder, *, truth=None, faces_a_sheet=3, **changes):
    done = with_jitter(truth)
    arguments = {
        "title": "Wing & <others>",
        "facts": {"model": "tiny", "command": "wing-jax evaluate a&b"},
        "measurements": done.measurements,
        "faces": done.faces,
        "predicted": done.points,
        "faces_a_sheet": faces_a_sheet,
    }
    return page.write_report(folder, **{**arguments, **changes})


class Links(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.links, self.text, self.open = set(), [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.links.update(value for name, value in attributes if name in ("href", "src"))
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)
