"""Face metrics other than NMEs: functions of the predicted points and the annotated faces."""

import numpy as np
from jaxtyping import Float

from wing_jax.data.face_set import FaceSet
from wing_jax.evaluation.measures import PerFace, nme, point_errors
from wing_jax.evaluation.normalizers import inter_ocular
from wing_jax.evaluation.registry import Eyes, register_metric


@register_metric(name="worst-landmark")
def worst_landmark(predicted: Float[np.ndarray, "faces points 2"], faces: FaceSet) -> PerFace:
    """Return the largest landmark error of each face as a fraction of its inter-ocular distance.

    This shows a single misplaced landmark, which a mean over all points hides. In profile views the eye corners nearly
    meet, so the value is large whatever the error.

    Args:
      predicted: `[faces, points, 2]`, (x, y) in pixels of the images.
      faces: the annotated faces, their points in the same pixels; invisible points do not count.

    Returns:
      `[faces]`, fractions, float64: NaN where an outer eye corner is not visible or the two coincide.

    Raises:
      InputError: the shapes differ, or a visible point is not finite.

    >>> true = np.float32([[[30, 30], [70, 30], [50, 50], [35, 70], [65, 70]]])
    >>> faces = FaceSet.from_arrays(np.zeros((1, 100, 100, 3), np.uint8), true, scheme="mtfl5")
    >>> worst_landmark(true + np.float32([[0, 0], [0, 0], [3, 4], [0, 1], [0, 0]]), faces).tolist()
    [0.125]
    """
    errors = point_errors(predicted, faces.points, faces.visible)
    lengths = inter_ocular(faces.points, faces.boxes, Eyes.of(faces.scheme), faces.visible)
    return nme(errors.max(1, keepdims=True), lengths)  # the mean over a single point is that point's error
