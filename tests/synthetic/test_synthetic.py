"""The synthetic faces: their ground truth, and that the pictures match it."""

import dataclasses
import hashlib
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wing_jax.schemes import IBUG_68
from wing_jax.synthetic.appearance import Appearance, Expression, Light, Paint, Pose, Shape, sample_appearance
from wing_jax.synthetic.clothing import STRIP
from wing_jax.synthetic.mesh import landmark_sites
from wing_jax.synthetic.raster import rasterize
from wing_jax.synthetic.render import draw_face, render_face, render_faces, texels_per_mm
from wing_jax.synthetic.texture import PAGE_SIZE, to_page

BARE = Appearance(hair="bald")


def with_pose(appearance: Appearance = BARE, **pose) -> Appearance:
    return dataclasses.replace(appearance, pose=Pose(**pose))


def digest(face) -> str:
    return hashlib.sha256(face.image.tobytes() + face.points.tobytes() + face.visible.tobytes()).hexdigest()


def test_shapes_and_types():
    face = render_face(seed=1, index=2, size=96)
    assert face.image.shape == (96, 96, 3)
    assert face.image.dtype == np.uint8
    assert face.points.shape == (68, 2)
    assert face.points.dtype == np.float32
    assert face.visible.shape == face.covered.shape == (68,)
    assert all(isinstance(angle, float) for angle in (face.yaw, face.pitch, face.roll))


def test_depends_only_on_seed_and_index():
    alone = [digest(render_face(seed=5, index=i, size=64)) for i in reversed(range(6))][::-1]
    assert [digest(face) for face in render_faces(6, seed=5, size=64, workers=3)] == alone
    assert [digest(face) for face in render_faces(6, seed=5, size=64, workers=1)] == alone
    assert len(set(alone)) == 6
    assert digest(render_face(seed=6, index=0, size=64)) != alone[0]


@pytest.mark.slow
def test_same_in_another_process():
    source = (
        "from wing_jax.synthetic.render import render_face as f; import hashlib; a = f(seed=5, index=1, size=64);"
        "print(hashlib.sha256(a.image.tobytes() + a.points.tobytes() + a.visible.tobytes()).hexdigest())"
    )
    printed = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == digest(render_face(seed=5, index=1, size=64))


def test_same_points_at_every_size():
    small, large = (render_face(seed=2, index=9, size=size) for size in (64, 192))
    np.testing.assert_allclose((small.points + 0.5) * 3 - 0.5, large.points, atol=1e-3)


@pytest.mark.slow
def test_face_fills_about_half_of_the_picture():
    for face in render_faces(24, seed=3, size=128, workers=1):
        low, high = face.points.min(0), face.points.max(0)
        assert 0.43 < (high - low).max() / 128 < 0.56
        assert np.abs((low + high) / 2 - 63.5).max() < 0.12 * 128
        assert ((face.points > -0.5) & (face.points < 127.5)).all()


def test_pictures_have_contrast_and_are_not_overexposed():
    for face in render_faces(12, seed=4, size=96, workers=1):
        assert face.image.std() > 15
        assert (face.image.max(-1) >= 254).mean() < 0.25


@pytest.mark.parametrize("yaw", [0.0, 25.0, 60.0, 90.0])
def test_mirrored_pose_mirrors_the_points(yaw):
    size = 128
    right = draw_face(with_pose(yaw=yaw, pitch=7.0, roll=5.0), size=size)
    left = draw_face(with_pose(yaw=-yaw, pitch=7.0, roll=-5.0), size=size)
    mirrored = np.stack([size - 1 - right.points[:, 0], right.points[:, 1]], axis=1)[IBUG_68.flip]
    np.testing.assert_allclose(left.points, mirrored, atol=0.02)
    assert (left.visible == right.visible[IBUG_68.flip]).mean() > 0.95


def test_signs_of_the_angles():
    middle = draw_face(with_pose(), size=256).points
    outer = (36, 45)
    assert middle[30, 0] == pytest.approx(127.5, abs=0.5)
    assert middle[36, 0] < middle[45, 0]
    turned = draw_face(with_pose(yaw=30.0), size=256).points
    assert turned[30, 0] > turned[list(outer), 0].mean() + 10
    lifted = draw_face(with_pose(pitch=15.0), size=256).points
    assert np.ptp(lifted[[30, 33], 1]) < np.ptp(middle[[30, 33], 1]) or lifted[30, 1] < lifted[33, 1]
    assert lifted[30, 1] - lifted[list(outer), 1].mean() < middle[30, 1] - middle[list(outer), 1].mean()
    rolled = draw_face(with_pose(roll=12.0), size=256).points
    across = rolled[45] - rolled[36]
    assert np.rad2deg(np.arctan2(across[1], across[0])) == pytest.approx(12.0, abs=0.5)


def test_a_profile_hides_its_far_side():
    right, left = draw_face(with_pose(yaw=90.0), size=160).visible, draw_face(with_pose(yaw=-90.0), size=160).visible
    near, far = [36, 48, 17, 2, 3], [45, 54, 26, 13, 14]
    assert right[near].all()
    assert not right[far].any()
    assert left[far].all()
    assert not left[near].any()
    assert draw_face(with_pose(), size=160).visible[17:].all()


def test_hair_hides_and_a_mask_covers():
    fringe = draw_face(dataclasses.replace(BARE, hair="long"), size=160)
    assert fringe.visible[30:68].all()
    masked = draw_face(dataclasses.replace(BARE, occluder="mask"), size=160)
    assert masked.covered[48:68].all()
    assert not masked.covered[17:27].any()
    assert masked.visible[48:68].all()
    assert not draw_face(BARE, size=160).covered.any()


@pytest.mark.slow
def test_yaw_has_a_long_tail():
    yaw = np.array([sample_appearance(seed=0, index=i).pose.yaw for i in range(1200)])
    assert np.abs(yaw).max() <= 90
    assert 0.6 < (np.abs(yaw) < 25).mean() < 0.85
    assert 0.05 < (np.abs(yaw) > 50).mean() < 0.2
    assert (yaw > 75).any()
    assert (yaw < -75).any()
    assert abs(yaw.mean()) < 3


def test_expressions_move_the_points():
    def points(**expression):
        return draw_face(dataclasses.replace(BARE, expression=Expression(**expression)), size=256).points

    rest = points()
    assert np.linalg.norm(np.subtract(*points(mouth_open=1.0)[[62, 66]])) > 5 * np.linalg.norm(
        np.subtract(*rest[[62, 66]])
    )
    smile = points(smile=(1.0, 1.0))
    assert smile[54, 0] - smile[48, 0] > 1.1 * (rest[54, 0] - rest[48, 0])
    shut = points(lids=(0.0, 0.0))
    assert shut[41, 1] - shut[37, 1] < 0.25 * (rest[41, 1] - rest[37, 1])
    raised = points(brows=(1.0, 1.0))
    assert (raised[[37, 44], 1] - raised[[19, 24], 1]).min() > (rest[[37, 44], 1] - rest[[19, 24], 1]).max() * 1.1


def marked_pages(sites: np.ndarray, size: int):
    """Yield gray textures with three dots, one per channel, on three of the points; and these points."""
    texels = texels_per_mm(size)
    height, width = round(PAGE_SIZE[1] * texels) + round(STRIP * texels), round(PAGE_SIZE[0] * texels)
    x, y = (np.arange(width) + 0.5) / texels, (np.arange(height) + 0.5) / texels
    positions = to_page(sites)
    for first in range(0, 66, 3):
        page = np.full((3, height, width), 100, np.float32)
        for channel, point in enumerate(range(first, first + 3)):
            distance = np.hypot(x[None] - positions[point, 0], y[:, None] - positions[point, 1])
            page[channel] += 100 * np.clip(2.5 - distance, 0, 1)
        yield range(first, first + 3), page


@pytest.mark.slow
@pytest.mark.parametrize("index", [0, 3])
def test_marks_on_the_skin_appear_at_the_points(index):
    """Dots painted at the points' texture positions appear in the picture within about half a pixel of the points."""
    size = 256
    appearance = dataclasses.replace(sample_appearance(seed=8, index=index), hair="bald", hat="none", occluder="none")
    appearance = dataclasses.replace(appearance, pose=Pose(yaw=(-20.0, 35.0)[index % 2], pitch=6.0, roll=-9.0))
    sites, errors = landmark_sites(appearance.shape, appearance.expression), []
    plain = None
    for points, page in marked_pages(sites, size):
        if plain is None:
            plain = draw_face(appearance, size=size, texture=np.full_like(page, 100)).image.astype(float)
        face = draw_face(appearance, size=size, texture=page)
        for channel, point in enumerate(points):
            dot = np.clip(face.image[..., channel] - plain[..., channel], 0, None)
            if not face.visible[point] or dot.sum() < 300:
                continue
            rows, columns = np.indices(dot.shape)
            center = np.array([(columns * dot).sum(), (rows * dot).sum()]) / dot.sum()
            errors.append(np.linalg.norm(center - face.points[point]))
    assert len(errors) > 45
    assert np.median(errors) < 0.3
    assert np.quantile(errors, 0.9) < 1.0


def test_eyes_and_lips_are_painted_where_the_points_are():
    light = Light(direction=(0.0, -0.3, 0.95), shine=0.0)
    appearance = dataclasses.replace(BARE, light=light, paint=Paint(freckles=0), noise=0.0)
    face = draw_face(appearance, size=256)

    def color(positions) -> np.ndarray:
        column, row = np.round(np.mean(positions, axis=0)).astype(int)
        return face.image[row - 1 : row + 2, column - 1 : column + 2].mean((0, 1))

    cheek = color([face.points[31], face.points[3], face.points[41]])
    for eye in (range(36, 42), range(42, 48)):
        assert color(face.points[list(eye)]).mean() < 0.6 * cheek.mean()
    lower_lip = color(face.points[[57, 66]])
    assert lower_lip[0] / lower_lip[1] > 1.1 * cheek[0] / cheek[1]
    opened = draw_face(dataclasses.replace(appearance, expression=Expression(mouth_open=1.0)), size=256)
    column, row = np.round(opened.points[[61, 62, 63, 65, 66, 67]].mean(0)).astype(int)
    assert opened.image[row + 3, column].mean() < 0.75 * cheek.mean()


@settings(max_examples=15)
@given(st.floats(-90, 90), st.floats(-25, 25), st.floats(-2.2, 2.2), st.floats(0, 1))
def test_any_head_keeps_the_order_of_its_points(yaw, pitch, trait, opening):
    shape = Shape(**dict.fromkeys((field.name for field in dataclasses.fields(Shape)), trait))
    appearance = Appearance(shape=shape, expression=Expression(mouth_open=opening), pose=Pose(yaw=yaw, pitch=pitch))
    points = draw_face(appearance, size=64).points
    assert np.isfinite(points).all()
    assert points[8, 1] > points[57, 1] > points[51, 1] > points[33, 1] > points[27, 1]
    sites = landmark_sites(shape, appearance.expression)
    assert (np.diff(sites[:17, 0]) > 0).all()
    assert (sites[[41, 40, 46, 47], 1] > sites[[37, 38, 44, 43], 1]).all()


def test_rasterizer_against_brute_force():
    random, size = np.random.default_rng(0), 24
    vertices = random.uniform(-4, 28, (30, 3)).astype(np.float32)
    triangles = random.integers(0, 30, (40, 3))
    fragments = rasterize(vertices, triangles, size=size)
    y, x = np.mgrid[:size, :size].astype(float)
    expected = np.full((size, size), -np.inf)
    for a, b, c in vertices[triangles].astype(float):
        system = np.stack([np.append(v[:2], 1) for v in (a, b, c)], axis=1)
        if np.linalg.det(system) <= 1e-6:
            continue
        weights = np.linalg.solve(system, np.stack([x.ravel(), y.ravel(), np.ones(x.size)]))
        near = (weights.T @ np.array([a[2], b[2], c[2]])).reshape(size, size)
        expected = np.where((weights >= 0).all(0).reshape(size, size), np.maximum(expected, near), expected)
    covered = np.isfinite(expected) & np.isfinite(fragments.depth)
    assert covered.sum() > 100
    assert (np.isfinite(expected) == np.isfinite(fragments.depth)).mean() > 0.99
    assert np.quantile(np.abs(fragments.depth[covered] - expected[covered]), 0.99) < 1e-2
    np.testing.assert_allclose(fragments.weights.sum(0), 1, atol=1e-5)


def test_bad_input_raises():
    with pytest.raises(ValueError, match="seed and index"):
        render_face(seed=-1, index=0)
    with pytest.raises(ValueError, match="at least 32"):
        render_face(seed=0, index=0, size=8)
    with pytest.raises(ValueError, match="count"):
        render_faces(-1, seed=0)
