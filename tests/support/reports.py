"""An evaluation of five synthetic faces, and its report."""

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


def make_faces(count=5, *, image_of=image_of, **changes) -> FaceSet:
    """Return faces of which the first has a hidden eye corner; `image_of` returns the image for an index."""
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


def shift_increasingly(points, step):
    """Shift the points of face i by i * step pixels to the right."""
    return points + step * np.arange(len(points), dtype=np.float32)[:, None, None] * np.array([1, 0], np.float32)


def make_evaluation(truth=None, **changes) -> Evaluation:
    truth = truth or make_faces()
    predictions = {"stage <1>": shift_increasingly(truth.points, 1.0), "stage 2": shift_increasingly(truth.points, 0.5)}
    return evaluate_points(predictions, truth, **{"metrics": METRICS, **changes})


def evaluate_with_jitter(truth=None) -> Evaluation:
    """Return an evaluation under two conditions."""
    first, second = make_evaluation(truth), make_evaluation(truth, condition="jittered boxes")
    return dataclasses.replace(
        first, measurements=first.measurements + second.measurements, predicted={**first.predicted, **second.predicted}
    )


def write_report(folder, *, truth=None, faces_per_sheet=3, **changes):
    evaluation = evaluate_with_jitter(truth)
    arguments = {
        "title": "Wing & <others>",
        "details": {"model": "tiny", "command": "wing-jax evaluate a&b"},
        "measurements": evaluation.measurements,
        "faces": evaluation.faces,
        "predicted": evaluation.points,
        "faces_per_sheet": faces_per_sheet,
    }
    return page.write_report(folder, **{**arguments, **changes})


class Links(HTMLParser):
    """The links, texts and unclosed tags of a page."""

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
