"""The documentation site builds without warnings, contains every page, and has API pages from docstrings."""

import os
import re
import subprocess
import sys

import pytest

from tests.support.paths import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]
DOCS = ROOT / "docs"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The built site's folder."""
    folder = tmp_path_factory.mktemp("site")
    run = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert "WARNING" not in run.stderr
    return folder


def test_every_page_is_in_the_navigation(site):
    listed = re.findall(r": (\S+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    pages = (path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md"))
    written = {page for page in pages if not page.startswith("reproduce/paper/")}  # excluded in mkdocs.yml
    assert set(listed) == written | {"results/index.md", "results/speed.md", "reference/commands.md"}
    assert len(listed) == len(set(listed))
    for page in listed:
        assert (site / page.removesuffix(".md").removesuffix("index") / "index.html").exists()


def test_every_picture_of_a_page_exists(site):
    missing = [
        (page.relative_to(site).as_posix(), source)
        for page in site.rglob("*.html")
        for source in re.findall(r'<img [^>]*src="([^":]+)"', page.read_text(encoding="utf-8"))
        if not (page.parent / source).exists()
    ]
    assert missing == []


def test_measured_results_are_pages_with_their_pictures(site):
    page = (site / "results" / "index.html").read_text()
    assert 'src="../mtfl-hsm.png"' in page
    assert (site / "mtfl-hsm.png").exists()
    assert "Training step, CNN-6" in (site / "results" / "speed" / "index.html").read_text()


def test_the_page_of_commands_has_their_options(site):
    page = (site / "reference" / "commands" / "index.html").read_text()
    assert all(option in page for option in ("--min_cutoff", "--stage1.loss.name", "--grid.execution", "--against"))


@pytest.mark.parametrize(
    ("page", "name"),
    [
        ("losses", "wing_jax.losses.regression.wing_loss"),
        ("balance", "wing_jax.balance.pose.pose_axis"),
        ("models", "wing_jax.models.plain.PlainRegressor"),
        ("use", "wing_jax.inference.face_landmarker.FaceLandmarker"),
        ("train", "wing_jax.train.fit.fit"),
        ("train", "wing_jax.train.spec.StageSpec"),
        ("presets", "wing_jax.config.StageConfig"),
        ("presets", "wing_jax.presets.w300"),
        ("registries", "wing_jax.runtime.registry.Registry"),
        ("input", "wing_jax.augment.augmentation.Augmentation"),
    ],
)
def test_api_pages_come_from_docstrings(site, page, name):
    assert f'id="{name}"' in (site / "reference" / "api" / page / "index.html").read_text()


def test_the_questions_of_the_faq_are_numbered():
    numbers = re.findall(r"^## (\d+)\. ", (DOCS / "faq.md").read_text(), re.MULTILINE)
    assert [int(number) for number in numbers] == list(range(1, len(numbers) + 1))
    assert len(numbers) >= 20
