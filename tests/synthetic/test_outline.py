"""The points along the visible outline of the synthetic faces, against geometry, real annotations and a real model."""

import dataclasses
import itertools

import numpy as np
import pytest

import wing_jax as wj
from wing_jax.errors import InputError
from wing_jax.geometry import tight_box
from wing_jax.schemes import IBUG_68
from wing_jax.synthetic.appearance import Appearance, Pose, sample_appearance
from wing_jax.synthetic.camera import Camera
from wing_jax.synthetic.mesh import JAW, ROWS, head_grid, landmark_sites, sample_grid
from wing_jax.synthetic.outline import LINES, outline_sites
from wing_jax.synthetic.render import draw_face

BARE = Appearance(hair="bald")


def project(**pose) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the projected vertices of a bare head between brows and chin, its 3-D and its annotated points."""
    skin, sites = (make(BARE.shape, BARE.expression) for make in (head_grid, landmark_sites))
    camera = Camera.aim(Pose(**pose), sample_grid(skin, sites), 512)
    moved = outline_sites(skin, sites, camera.project, roll=pose.get("roll", 0.0))
    face = skin[(ROWS > -33) & (ROWS <= JAW)].reshape(-1, 3)
    parts = (face, sample_grid(skin, sites), sample_grid(skin, moved))
    return tuple(camera.project(vertices)[:, :2] for vertices in parts)


def draw(landmarks: str, *, appearance: Appearance = BARE, size: int = 160, **pose):
    return draw_face(dataclasses.replace(appearance, pose=Pose(**pose)), size=size, landmarks=landmarks)


def distance_to_line(points: np.ndarray, line: np.ndarray) -> np.ndarray:
    """Return the distance of each point to the polyline, computed on a thousand places of each part."""
    share = np.linspace(0, 1, 1000)[:, None]
    places = np.concatenate([a * (1 - share) + b * share for a, b in itertools.pairwise(line)])
    return np.linalg.norm(points[:, None] - places[None], axis=-1).min(1)


def test_only_jaw_and_brows_differ():
    solid, outline = (draw(landmarks, yaw=40.0, pitch=5.0) for landmarks in ("3d", "2d"))
    np.testing.assert_array_equal(outline.image, solid.image)
    np.testing.assert_array_equal(outline.points[27:], solid.points[27:])
    ends = [8, 17, 21, 22, 26]
    np.testing.assert_allclose(outline.points[ends], solid.points[ends], atol=1e-3)
    assert np.linalg.norm(outline.points - solid.points, axis=1)[11:15].min() > 8


@pytest.mark.parametrize("yaw", [-35.0, 35.0])
def test_hidden_points_are_on_the_silhouette(yaw):
    """No vertex of the head at the height of such a point is farther out, by more than a hundredth of the face."""
    face, solid, moved = project(yaw=yaw)
    out = np.sign(yaw)
    for point in range(12, 16) if yaw > 0 else range(1, 5):
        level = np.abs(face[:, 1] - moved[point, 1]) < 4
        assert level.sum() > 10
        outermost = (out * face[level, 0]).max()
        assert abs(out * moved[point, 0] - outermost) < 0.01 * np.ptp(solid[:, 0])
        assert outermost - out * solid[point, 0] > 0.05 * np.ptp(solid[:, 0])


@pytest.mark.parametrize("yaw", [-50.0, 0.0, 50.0])
def test_points_of_the_near_side_stay_on_the_jaw_line(yaw):
    _, solid, moved = project(yaw=yaw)
    near = [slice(0, 9), slice(8, 17)] if yaw == 0 else [slice(0, 9) if yaw > 0 else slice(8, 17)]
    for half in near:
        assert distance_to_line(moved[half], solid[half]).max() < 0.02 * np.ptp(solid[:, 1])


@pytest.mark.parametrize("pose", [{}, {"yaw": 30.0, "roll": 12.0}, {"yaw": -65.0, "pitch": -15.0}])
def test_points_of_a_line_have_equal_distances(pose):
    points = project(**pose)[2]
    for line in LINES:
        lengths = np.linalg.norm(np.diff(points[line], axis=0), axis=1)
        assert lengths.std() < 0.1 * lengths.mean()


def test_mirrored_pose_mirrors_the_points():
    right, left = (draw("2d", yaw=sign * 40.0, pitch=7.0, roll=sign * 10.0).points for sign in (1, -1))
    mirrored = np.stack([159 - right[:, 0], right[:, 1]], axis=1)[IBUG_68.flip]
    np.testing.assert_allclose(left, mirrored, atol=0.02)


def test_roll_only_turns_the_points():
    """The same head rolled: the points agree after the best similarity."""
    upright, rolled = (project(yaw=-40.0, pitch=6.0, roll=roll)[2] for roll in (0.0, 35.0))
    transform = wj.geometry.fit_similarity(upright, rolled)
    np.testing.assert_allclose(wj.geometry.transform(transform, upright), rolled, atol=0.01)


def test_points_on_the_outline_are_visible():
    solid, outline = (draw(landmarks, yaw=40.0) for landmarks in ("3d", "2d"))
    assert not solid.visible[10:16].any()
    assert outline.visible[10:16].all()


def test_an_occluder_covers_points_of_the_outline():
    masked = draw("2d", appearance=dataclasses.replace(BARE, occluder="mask"), yaw=40.0)
    assert masked.covered[11:14].all()
    assert not masked.covered[[0, 16]].any()


@pytest.mark.parametrize("landmarks", ["3d", "2d"])
def test_the_covered_points_are_those_where_an_object_is_drawn(landmarks):
    plain = draw(landmarks, yaw=20.0)
    cup = draw(landmarks, appearance=dataclasses.replace(BARE, occluder="cup"), yaw=20.0)
    column, row = np.round(plain.points).astype(int).T
    change = np.abs(cup.image.astype(float) - plain.image).mean(-1)[row, column]
    assert 5 < cup.covered.sum() < 40
    assert np.median(change[cup.covered]) > 5 * np.median(change[~cup.covered])


def test_another_kind_of_landmarks_is_refused(unchecked):
    with pytest.raises(InputError, match="landmarks='4d' must be one of '3d', '2d'"):
        draw_face(BARE, size=64, landmarks="4d")


@pytest.mark.slow
def test_a_model_of_real_faces_agrees():
    """`w300`, trained on the annotations of 300-W, marks the jaw of turned synthetic faces near these points."""
    localizer, errors = wj.Localizer.load("w300"), []
    for index, yaw in enumerate((-45, -35, -25, 25, 35, 45)):
        appearance = dataclasses.replace(sample_appearance(seed=3, index=index), occluder="none", hat="none")
        solid, outline = (draw(kind, appearance=appearance, size=192, yaw=float(yaw)) for kind in ("3d", "2d"))
        boxes = np.asarray(tight_box(outline.points))[None]
        predicted = localizer.predict(outline.image, boxes=boxes)[0]
        errors.append([np.linalg.norm(predicted - face.points, axis=1)[:17].mean() for face in (solid, outline)])
    solid, outline = np.mean(errors, axis=0)
    assert outline < 0.6 * solid


@pytest.mark.slow
def test_lines_of_real_annotations_have_equal_distances(data_root):
    """The figures of the module's docstring."""
    points = wj.load_faces("w300", "train", root=data_root / "300w").points
    frontal = np.linalg.norm(points[:, 2] - points[:, 30], axis=1) / np.linalg.norm(
        points[:, 14] - points[:, 30], axis=1
    )
    for low, high in ((0.1, 0.3), (0.3, 0.5), (0.5, 0.8), (0.8, 1.25), (1.25, 2), (2, 3.3), (3.3, 10)):
        turned = points[(frontal > low) & (frontal <= high)]
        assert len(turned) > 100
        for line in LINES[:2]:
            assert shares(turned[:, line]).min() > 0.1065
            assert shares(turned[:, line]).max() < 0.1335
    for line in LINES[2:]:
        assert shares(points[:, line]).min() > 0.2355
        assert shares(points[:, line]).max() < 0.2655


def shares(lines: np.ndarray) -> np.ndarray:
    """Return the mean share of each part of the lines `[n, points, 2]` in their lengths."""
    lengths = np.linalg.norm(np.diff(lines, axis=1), axis=-1)
    return (lengths / lengths.sum(1, keepdims=True)).mean(0)
