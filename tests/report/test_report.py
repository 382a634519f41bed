"""The report of an evaluation: its page, pictures, plots and tables."""

import io
import json

import cv2
import numpy as np
import pytest
from rich.console import Console

from tests.support.reports import (
    FACE,
    LINES,
    Links,
    evaluate_with_jitter,
    image_of,
    make_evaluation,
    make_faces,
    write_report,
)
from wing_jax.errors import InputError
from wing_jax.inference.drawing import draw_points
from wing_jax.report import draw, page, plots, tables


def read_image(path):
    image = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_COLOR_RGB)
    assert image is not None
    return image


def render(figure):
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())


@pytest.mark.slow
def test_report_is_self_contained_and_has_no_dead_links(tmp_path):
    index = write_report(tmp_path / "new" / "report")
    parsed = Links(index.read_text())
    folder = index.parent
    assert parsed.open == []
    assert {path.name for path in folder.iterdir()} == {*parsed.links, "index.html"}
    pictures = [folder / link for link in parsed.links if link.endswith(".png")]
    assert len(pictures) == 3 + 3 + 2 + 4  # curves by metric, sheets, two groups, landmarks by stage and boxes
    assert all(read_image(path).std() > 0 for path in pictures)


@pytest.mark.slow
def test_the_report_is_written_if_a_picture_is_missing(tmp_path):
    def image_or_error(face):
        if face == 2:
            raise InputError("2.jpg: cannot read this image")
        return image_of(face)

    complete = write_report(tmp_path / "complete")
    partial = write_report(tmp_path / "partial", truth=make_faces(image_of=image_or_error))
    assert {path.name for path in partial.parent.iterdir()} == {path.name for path in complete.parent.iterdir()}
    sheets = [read_image(folder.parent / "faces-typical.png") for folder in (complete, partial)]
    assert sheets[0].shape == sheets[1].shape
    assert (sheets[0] != sheets[1]).any()


@pytest.mark.slow
def test_report_shows_and_escapes_texts(tmp_path):
    html = write_report(tmp_path).read_text()
    text = " ".join(Links(html).text)
    for expected in ("Wing & <others>", "a&b", "stage <1>", "five faces", "jittered boxes", "inter-pupil", "By pose"):
        assert expected in text
    assert "<others>" not in html
    assert "Faces excluded" in text
    assert json.loads((tmp_path / "results.json").read_text()) == evaluate_with_jitter().to_dict()["results"]


@pytest.mark.slow
def test_report_reads_only_the_images_it_shows(tmp_path):
    read = []

    def record_and_return(face):
        read.append(face)
        return image_of(face)

    write_report(tmp_path, truth=make_faces(image_of=record_and_return), faces_per_sheet=1)
    assert read == [1, 2, 4]  # face 0 has a hidden eye corner, so it has no NME; face 2 is next to the median


@pytest.mark.slow
def test_report_draws_a_face_whose_box_is_empty(tmp_path):
    index = write_report(tmp_path, truth=make_faces(boxes=np.zeros((5, 4), np.float32)))
    assert read_image(index.parent / "faces-best.png").std() > 0


def test_report_needs_an_evaluation(tmp_path):
    with pytest.raises(ValueError, match="at least one"):
        write_report(tmp_path, measurements=())


def test_choose_faces_by_their_errors():
    chosen = page.choose_faces(make_evaluation().measurements[1], 2)
    assert chosen == {"Best": [1, 2], "Typical": [2, 3], "Worst": [4, 3]}


def test_dots_are_accurate_to_a_fraction_of_a_pixel():
    black = np.zeros((40, 40, 3), np.uint8)
    center = np.array([[17.3, 21.8]], np.float32)
    image = draw_points(black, center, color=(200, 0, 0), radius=3.0)
    weights = image[..., 0].astype(np.float64)  # the outline adds the same gray all around
    rows, columns = np.indices(weights.shape)
    centroid = np.array([(weights * columns).sum(), (weights * rows).sum()]) / weights.sum()
    np.testing.assert_allclose(centroid, center[0], atol=0.05)
    assert (image[22, 17] == (200, 0, 0)).all()
    assert not black.any()


def test_hidden_missing_and_outside_points_are_not_drawn():
    gray = np.full((30, 30, 3), 90, np.uint8)
    points = np.array([[10, 10], [np.nan, 5], [1e9, -1e9]], np.float32)
    visible = np.array([False, True, True])
    image = draw_points(gray, points, lines=((0, 1), (1, 2), (0, 2)), visible=visible)
    np.testing.assert_array_equal(image, gray)


def test_lines_connect_visible_points():
    image = draw_points(np.zeros((20, 20, 3), np.uint8), np.array([[2, 10], [17, 10]], np.float32), lines=((0, 1),))
    assert image[10, 9].any()
    assert not image[5, 9].any()


def test_target_and_prediction_have_different_colors():
    black = np.zeros((40, 40, 3), np.uint8)
    target, predicted = np.array([[10, 10]], np.float32), np.array([[30, 30]], np.float32)
    image = draw.draw_pair(black, target, predicted)
    assert tuple(image[10, 10]) == draw.TARGET
    assert tuple(image[30, 30]) == draw.PREDICTED


@pytest.mark.parametrize("side", [20, 100])
def test_tile_and_its_affine_agree(side):
    rows, columns = np.indices((200, 200))
    image = np.stack([columns, rows, np.zeros_like(rows)], -1).astype(np.uint8)
    box = np.array([60, 50, 60 + side, 50 + side / 2], np.float32)
    tile, affine = draw.face_tile(image, box, size=64, margin=1.2)
    assert tile.shape == (64, 64, 3)
    corners = affine[:, :2] @ np.array([[60.0, 60 + side], [50.0, 50 + side / 2]]) + affine[:, 2:]
    assert corners[0] == pytest.approx([31.5 - 32 / 1.2, 31.5 + 32 / 1.2])
    x, y = 40, 25
    source = np.linalg.solve(affine[:, :2], [x, y] - affine[:, 2])
    np.testing.assert_allclose(tile[y, x, :2], source, atol=1.0)


def test_tile_of_an_empty_box_raises():
    with pytest.raises(ValueError, match="is empty"):
        draw.face_tile(image_of(0), np.zeros(4, np.float32))


def test_contact_sheet_places_its_tiles():
    tiles = [np.full((32, 32, 3), 10 * i, np.uint8) for i in range(5)]
    sheet = draw.contact_sheet(tiles, columns=2, gap=4)
    assert sheet.shape == (3 * 36 + 4, 2 * 36 + 4, 3)
    np.testing.assert_array_equal(sheet[4 + 36 : 36 + 36, 4 + 36 : 36 + 36], tiles[3])
    assert (sheet[-10, -10] == 255).all()
    captioned = draw.contact_sheet(tiles, ["a caption that is much too long for its tile"] * 5, columns=2, gap=4)
    assert captioned.shape[0] > sheet.shape[0]
    assert (captioned[:, -4:] == 255).all()


def test_contact_sheet_rejects_invalid_tiles_and_captions():
    tile = np.zeros((8, 8, 3), np.uint8)
    with pytest.raises(ValueError, match="at least one tile"):
        draw.contact_sheet([])
    with pytest.raises(ValueError, match="one size"):
        draw.contact_sheet([tile, tile[:4]])
    with pytest.raises(ValueError, match="1 captions for 2"):
        draw.contact_sheet([tile, tile], ["one"])


def test_png_keeps_red_red(tmp_path):
    image = np.zeros((4, 5, 3), np.uint8)
    image[..., 0] = 255
    np.testing.assert_array_equal(read_image(draw.write_png(tmp_path / "red.png", image)), image)


def test_the_plotted_curve_is_the_ced():
    nmes = np.array([0.01, 0.02, 0.05, np.nan])
    figure = plots.ced_figure({"a": nmes, "empty": nmes[3:]}, threshold=0.04, label="NME by inter-ocular (%)")
    (axes,) = figure.axes
    (line,) = axes.lines
    assert line.get_ydata()[-1] == pytest.approx(200 / 3)
    assert line.get_xdata()[-1] == pytest.approx(4)
    assert "inter-ocular" in axes.get_xlabel()


def test_bars_are_as_high_as_the_errors():
    groups = {m.stage: m.by("pose") for m in make_evaluation().measurements[:2]}
    (axes,) = plots.group_figure(groups, label="NME by inter-ocular (%)").axes
    heights = [bar.get_height() for bar in axes.patches]
    assert heights == [groups[s][label]["mean"] or 0 for s in groups for label in ("front", "left", "right")]
    assert [label.get_text() for label in axes.get_xticklabels()] == [
        "front\n2 faces", "left\n0 faces", "right\n2 faces",
    ]  # fmt: skip


def test_landmark_plot_draws_every_point_once():
    shape = np.vstack([FACE[:5], [[np.nan, np.nan]]]).astype(np.float64)
    errors = np.array([0.01, 0.02, np.nan, 0.03, 0.04, np.nan])
    figure = plots.landmark_figure(shape, errors, normalizer="box-size", lines=LINES)
    hollow, filled = figure.axes[0].collections
    assert len(filled.get_offsets()) == 4
    assert len(hollow.get_offsets()) == 2
    assert [text.get_text() for text in figure.axes[0].texts] == ["0", "1", "2", "3", "4"]
    assert render(figure).std() > 0


def test_mean_shape_of_scaled_and_shifted_copies_is_their_shape():
    points = np.stack([FACE, 3 * FACE - 7])
    expected = (FACE - FACE.mean(0)) / np.sqrt(((FACE - FACE.mean(0)) ** 2).sum(-1).mean())
    np.testing.assert_allclose(plots.mean_shape(points), expected, rtol=1e-5)
    visible = np.ones((2, 6), bool)
    visible[:, 2] = False
    assert np.isnan(plots.mean_shape(points, visible)).any(-1).tolist() == [False, False, True, False, False, False]


def test_tables_name_the_normalizer_in_every_row():
    summary = evaluate_with_jitter().to_dict()["results"]
    grid = tables.results_grid(summary)
    assert [row[0] for row in grid.rows] == ["inter-ocular"] * 4 + ["inter-pupil"] * 4 + ["box-size"] * 4
    assert "1 by inter-ocular" in grid.note
    assert "box-size" not in grid.note
    assert grid.rows[0][3:] == (
        "4", *(f"{summary[0][key]:.2f}" for key in ("mean", "median")),
        f"{summary[0]['auc']:.3f}", f"{summary[0]['failure_percent']:.2f}", "10",
    )  # fmt: skip


def test_markdown_is_a_table_and_rich_prints_it():
    grid = tables.Grid("Title", ("name", "value"), (("a|b", "1.00"),), 1, "A note.")
    assert tables.markdown(grid).splitlines() == [
        "**Title**", "", "| name | value |", "| --- | ---: |", "| a\\|b | 1.00 |", "", "A note.",
    ]  # fmt: skip
    screen = io.StringIO()
    Console(file=screen, width=60).print(tables.rich_table(grid))
    assert "a|b" in screen.getvalue()
    assert "A note." in screen.getvalue()


def test_group_and_landmark_tables():
    summary = make_evaluation().to_dict()["results"]
    poses = tables.group_grid(summary, "pose")
    assert [row[:2] for row in poses.rows[:2]] == [("front", "stage <1>"), ("front", "stage 2")]
    assert poses.rows[2][3:5] == ("0", "-")
    landmarks = tables.landmark_grid(summary)
    assert len(landmarks.rows) == 6
    assert landmarks.rows[5][2] == f"{summary[1]['landmarks'][5]:.2f}"
