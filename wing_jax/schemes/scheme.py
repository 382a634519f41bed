"""What a landmark scheme is: the points, which of them swap under a mirror, where the eyes are, what to draw."""

import dataclasses

import numpy as np
from jaxtyping import Int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scheme:
    """One way to mark a face. "Left" is the left of the image for a face that looks at the camera."""

    name: str
    names: tuple[str, ...]  # of the points, in their order, each once
    mirrored: tuple[tuple[int, int], ...]  # pairs that change places under a horizontal flip
    left_eye: tuple[int, ...]  # the points whose mean is taken as the pupil
    right_eye: tuple[int, ...]
    left_outer: int  # outer eye corners; where a scheme has none, the two points whose distance normalises errors
    right_outer: int
    lines: tuple[tuple[int, ...], ...]
    about: str

    @property
    def points(self) -> int:
        """How many there are."""
        return len(self.names)

    @property
    def flip(self) -> Int[np.ndarray, "points"]:
        """The permutation `p` for which `flipped_points = mirrored_image_points[p]`."""
        permutation = np.arange(self.points)
        for left, right in self.mirrored:
            permutation[[left, right]] = right, left
        return permutation
