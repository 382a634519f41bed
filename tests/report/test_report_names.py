"""Unusual names of groups, models and pictures are shown literally in figures and pages."""

import os
import re

import numpy as np
import pytest
from matplotlib.cbook import is_math_text

from tests.support.reports import Links, make_evaluation, make_faces, write_report
from wing_jax.evaluation import evaluate_points
from wing_jax.report import analysis, draw, grids, page, plots

UNUSUAL = (
    "$x$", "a_b$", "_hidden", "\U0001f600 日本", "new\nline", os.fsdecode(b"m\xfcller"), "[b] <i>&\"'", "\\alpha",
    "x" * 300,
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", UNUSUAL, ids=ascii)
def test_figures_show_names_literally(name, tmp_path):
    nmes, entry = np.array([0.02, 0.04, 0.05]), {"faces": 3, "mean": 3.7}
    ced = plots.ced_figure({name: nmes, "other": nmes}, threshold=0.1, label=name)
    bars = plots.group_figure({name: {name: entry}, "other": {name: entry}}, label=name)
    seeds = grids.seeds_figure({name: {name: [1.0], "other": [2.0]}}, label="NME")
    for number, figure in enumerate((ced, bars, seeds)):
        # A warning, such as that of a missing glyph, is an error.
        plots.save_figure(figure, tmp_path / name[:40] / f"{number}.png")
        texts = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
        assert len(texts) == 2
        assert texts[0].startswith(plots.plain(name))
    shares = {name: np.array([0.2, 0.3, 0.5])}
    analysis.save_vector(analysis.shares_figure({name: shares}, (2.0, 8.0)), tmp_path / f"{name[:40]}.x")
    assert {path.name for path in tmp_path.iterdir()} == {name[:40], f"{name[:40]}.x.svg", f"{name[:40]}.x.png"}


@pytest.mark.parametrize(
    ("name", "start"),
    [("all", b"\x89PNG"), ("results v1.2", b"\x89PNG"), ("a.b", b"\x89PNG"), ("A.PNG", b"\x89PNG"), ("a.pdf", b"%PDF")],
)
def test_a_figure_is_saved_under_its_exact_name(tmp_path, name, start):
    figure, _ = plots.new_figure(1.0, 1.0)
    assert plots.save_figure(figure, tmp_path / name) == tmp_path / name
    assert (tmp_path / name).read_bytes().startswith(start)
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("$x$", "\\$x\\$"),
        ("_a", " _a"),
        ("日", "\\u65e5"),
        ("é ß Ж", "é ß Ж"),
        (os.fsdecode(b"m\xfc"), "m\\xfc"),
        ("x" * 100, "x" * 57 + "..."),
    ],
)
def test_names_have_no_formulas_and_no_missing_glyphs(name, expected):
    assert plots.plain(name) == expected
    assert not is_math_text(expected)


@pytest.mark.slow
def test_groups_with_similar_names_have_separate_pictures(tmp_path):
    names = ("年齢", "性別", "poses", "Poses!", os.fsdecode(b"m\xfcller <b>$"))
    groups = {name: [os.fsdecode(b"\xfc [/b]"), "$a$", "b|c", "b|c", "d"] for name in names}
    truth = make_faces(name=names[-1])
    evaluation = evaluate_points({"stage 1": truth.points + 1}, truth, groups=groups)
    index = write_report(
        tmp_path / "r",
        measurements=evaluation.measurements,
        faces=truth,
        predicted=evaluation.points,
        title=names[-1],
    )
    text = index.read_text(encoding="utf-8")
    links = Links(text)
    pictures = {link for link in links.links if link.startswith("by-")}
    assert len(pictures) == len(names) + 2  # pose and subset
    assert all(re.fullmatch(r"by-[a-z0-9-]+\.png", link) and (index.parent / link).exists() for link in pictures)
    assert "m\\xfcller <b>$" in "".join(links.text)
    assert "\\xfc [/b]" in "".join(links.text)
    assert "| b\\|c |" in (index.parent / "results.md").read_text(encoding="utf-8")
    assert not links.open


def test_file_names_of_pictures_do_not_change():
    assert list(page.slugs_of(["inter-ocular", "box-size"]).values()) == ["inter-ocular", "box-size"]
    assert make_evaluation().measurements[0].groups.keys() == {"subset", "pose"}


def test_a_caption_may_have_bytes_that_are_not_utf_8():
    tile = np.zeros((40, 40, 3), np.uint8)
    assert draw.contact_sheet([tile], [os.fsdecode(b"m\xfcller 100%s \n")]).any()
