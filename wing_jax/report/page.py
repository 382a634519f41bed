"""The report of an evaluation: a folder with index.html, its pictures, and the numbers as JSON and Markdown."""

import html
import itertools
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path

import numpy as np

from wing_jax.errors import InputError
from wing_jax.evaluation.evaluation import Evaluation, by_group, summarise
from wing_jax.evaluation.metrics import Boxes, Points, Visible
from wing_jax.report import canvas, draw, plots, tables
from wing_jax.text import printable
from wing_jax.types import Image


def write_report(
    folder: Path,
    *,
    title: str,
    facts: Mapping[str, str],
    evaluations: Sequence[Evaluation],
    shown: Evaluation,
    predicted: Points,
    points: Points,
    boxes: Boxes,
    image_of: Callable[[int], Image],
    visible: Visible | None = None,
    lines: Sequence[Sequence[int]] = (),
    faces_a_sheet: int = 8,
) -> Path:
    """Write the report and return the path of its index.html. Nothing in it points outside `folder`.

    Args:
      folder: made if it is not there; files of an earlier report are overwritten.
      title: the page's headline.
      facts: what was evaluated, in the order to be shown: model, data, commit, command, ...
      evaluations: from `wing_jax.evaluation.evaluation.evaluate`; the first one's normaliser leads, and its groups get
      a
        section each.
      shown: the evaluation by which the best, typical and worst faces are chosen.
      predicted: the predictions that `shown` measured, in image pixels.
      points: the truth.
      boxes: around the faces, to cut the tiles; the whole image is shown where one has no extent.
      image_of: gives the image of a face by its number; called for the faces that are drawn only. Where it raises
        InputError, the tile says that the picture cannot be read.
      visible: the points that count; None for all.
      lines: chains of point indices to be joined.
      faces_a_sheet: how many best, typical and worst faces to show.

    Raises:
      ValueError: there is no evaluation.
    """
    if not evaluations:
        raise ValueError("a report needs at least one evaluation")
    folder.mkdir(parents=True, exist_ok=True)
    summary = summarise(evaluations)
    grids = [tables.results_grid(summary), *(tables.group_grid(summary, name) for name in evaluations[0].groups)]
    grids.append(tables.landmark_grid(summary))
    (folder / "results.json").write_text(json.dumps(summary, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    (folder / "results.md").write_text(
        "\n".join(map(tables.markdown, grids)), encoding="utf-8", errors="backslashreplace"
    )
    sheets = _write_sheets(
        folder, shown, predicted, points, boxes, image_of, visible=visible, lines=lines, count=faces_a_sheet
    )
    shape = plots.mean_shape(points, visible)
    parts = [
        f"<h1>{escape(title)}</h1>",
        _cards(summary),
        _section("What was evaluated", _facts(facts, evaluations)),
        _section("Normalised mean error", _table(grids[0]), _links()),
        _section("Cumulative error distribution", _drawn(lambda: _plots(_write_curves(folder, evaluations)))),
        _section("Faces", _key(shown), *sheets),
    ]
    for name, grid in zip(evaluations[0].groups, grids[1:-1], strict=True):
        parts.append(
            _section(f"By {name}", _drawn(lambda name=name: _write_bars(folder, evaluations, name)), _details(grid))
        )
    landmarks = _drawn(lambda: _plots(_write_landmarks(folder, evaluations, shape, lines)))
    parts.append(_section("By landmark", landmarks, _details(grids[-1])))
    index = folder / "index.html"
    index.write_text(_document(title, parts), encoding="utf-8", errors="backslashreplace")
    return index


def choose_faces(evaluation: Evaluation, count: int) -> dict[str, list[int]]:
    """Numbers of the `count` best faces, of those around the median, and of the worst, worst first."""
    order = np.argsort(evaluation.nmes, kind="stable")[: evaluation.counted.sum()]
    middle = max(0, (len(order) - count) // 2)
    chosen = {"Best": order[:count], "Typical": order[middle : middle + count], "Worst": order[::-1][:count]}
    return {name: faces.tolist() for name, faces in chosen.items()}


def _write_sheets(
    folder: Path,
    shown: Evaluation,
    predicted: Points,
    points: Points,
    boxes: Boxes,
    image_of: Callable[[int], Image],
    *,
    visible: Visible | None,
    lines: Sequence[Sequence[int]],
    count: int,
) -> list[str]:
    figures = []
    for name, faces in choose_faces(shown, count).items():
        tiles, captions = [], []
        for face in faces:
            caption = f"#{face}   {100 * shown.nmes[face]:.2f} %"
            try:
                image = image_of(face)
            except InputError:  # it was there when it was measured, which is not to be lost
                image = np.full((2, 2, 3), 128, np.uint8)
                tiles.append(draw.face_tile(image, _box_or_all(np.zeros(4), image))[0])
                captions.append(f"{caption}   (picture not readable)")
                continue
            tile, affine = draw.face_tile(image, _box_or_all(np.asarray(boxes[face]), image))
            target, guess = (np.asarray(p[face]) @ affine[:, :2].T + affine[:, 2] for p in (points, predicted))
            seen = None if visible is None else np.asarray(visible[face])
            tiles.append(draw.draw_pair(tile, target, guess, lines=lines, visible=seen))
            captions.append(caption)
        if tiles:
            path = draw.write_png(folder / f"faces-{name.lower()}.png", draw.contact_sheet(tiles, captions))
            figures.append(_picture(path.name, f"{name} faces"))
    return figures


def _box_or_all(box: np.ndarray, image: Image) -> np.ndarray:
    """The box, or the whole image's where it has no extent: such a face can be measured by its eyes."""
    whole = np.array([-0.5, -0.5, image.shape[1] - 0.5, image.shape[0] - 0.5])
    return box if (box[2:] > box[:2]).all() else whole


def _drawn(make: Callable[[], str]) -> str:
    """What `make` makes, or, where Matplotlib is not installed, what to do about it."""
    absence = canvas.absence()
    return f"<p>{escape(absence)}</p>" if absence else make()


def _write_curves(folder: Path, evaluations: Sequence[Evaluation]) -> list[str]:
    figures, slugs = [], _slugs(evaluation.normalisation for evaluation in evaluations)
    for normalisation in slugs:
        chosen = [evaluation for evaluation in evaluations if evaluation.normalisation == normalisation]
        curves = {_series(evaluation, evaluations): evaluation.nmes for evaluation in chosen}
        figure = plots.ced_figure(curves, threshold=chosen[0].threshold, normalisation=normalisation)
        path = plots.save_figure(figure, folder / f"ced-{slugs[normalisation]}.png")
        figures.append(_picture(path.name, f"NME by {normalisation}"))
    return figures


def _write_bars(folder: Path, evaluations: Sequence[Evaluation], group: str) -> str:
    leading = [e for e in _leading(evaluations) if group in e.groups]
    numbers = {_series(evaluation, evaluations): by_group(evaluation, group) for evaluation in leading}
    figure = plots.group_figure(numbers, normalisation=leading[0].normalisation)
    path = plots.save_figure(figure, folder / f"by-{_slugs(evaluations[0].groups)[group]}.png")
    return _picture(path.name, f"NME by {leading[0].normalisation}")


def _write_landmarks(
    folder: Path, evaluations: Sequence[Evaluation], shape: np.ndarray, lines: Sequence[Sequence[int]]
) -> list[str]:
    figures = []
    for number, evaluation in enumerate(_leading(evaluations)):
        normalisation = evaluation.normalisation
        figure = plots.landmark_figure(shape, evaluation.landmarks, normalisation=normalisation, lines=lines)
        path = plots.save_figure(figure, folder / f"landmarks-{number}.png")
        figures.append(_picture(path.name, f"{_series(evaluation, evaluations)}, by {normalisation}"))
    return figures


def _leading(evaluations: Sequence[Evaluation]) -> list[Evaluation]:
    return [e for e in evaluations if e.normalisation == evaluations[0].normalisation]


def _series(evaluation: Evaluation, evaluations: Sequence[Evaluation]) -> str:
    several = len({e.condition for e in evaluations}) > 1
    return f"{evaluation.stage}, {evaluation.condition}" if several else evaluation.stage


def _slugs(names: Iterable[str]) -> dict[str, str]:
    """For each name a part of a file's name, each another, however alike the names are."""
    slugs: dict[str, str] = {}
    for name in dict.fromkeys(names):
        plain = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:60] or "group"
        numbered = itertools.chain([plain], (f"{plain}-{number}" for number in itertools.count(2)))
        slugs[name] = next(slug for slug in numbered if slug not in slugs.values())
    return slugs


def escape(text: str) -> str:
    """Text that may hold names, for HTML and its attributes."""
    return html.escape(printable(text))


def _document(title: str, parts: Sequence[str]) -> str:
    style = resources.files("wing_jax.report").joinpath("style.css").read_text(encoding="utf-8")
    head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
    head += f"<title>{escape(title)}</title>\n<style>\n{style}</style>"
    body = "\n".join(parts)
    return f'<!doctype html>\n<html lang="en">\n<head>{head}</head>\n<body>\n{body}\n</body>\n</html>\n'


def _section(title: str, *parts: str) -> str:
    return "\n".join([f"<section>\n<h2>{escape(title)}</h2>", *parts, "</section>"])


def _cards(summary: Sequence[dict]) -> str:
    cards = [
        f"<div class='card'><b>{tables.number(entry['nme_percent'])} %</b>"
        f"<span>{escape(entry['stage'])}, {escape(entry['condition'])}:<br>"
        f"NME by {escape(entry['normalisation'])}</span></div>"
        for entry in summary
        if entry["normalisation"] == summary[0]["normalisation"]
    ]
    return "<div class='cards'>" + "".join(cards) + "</div>"


def _facts(facts: Mapping[str, str], evaluations: Sequence[Evaluation]) -> str:
    own = {"data set": evaluations[0].dataset, "faces": str(len(evaluations[0].nmes))}
    rows = {**facts, **own, "boxes given": "; ".join(dict.fromkeys(e.condition for e in evaluations))}
    code = {"command", "commit"}
    pairs = ((escape(name), escape(value), name.lower() in code) for name, value in rows.items())
    cells = (f"<dt>{n}</dt><dd>{f'<code>{v}</code>' if mono else v}</dd>" for n, v, mono in pairs)
    return "<dl>" + "".join(cells) + "</dl>"


def _table(grid: tables.Grid) -> str:
    def row(cells: Sequence[str], tag: str) -> str:
        kinds = [" class='word'" if place < grid.words else "" for place in range(len(cells))]
        return "<tr>" + "".join(f"<{tag}{k}>{escape(c)}</{tag}>" for k, c in zip(kinds, cells, strict=True)) + "</tr>"

    body = "\n".join(row(cells, "td") for cells in grid.rows)
    note = f"<p>{escape(grid.note)}</p>" if grid.note else ""
    return (
        f"<div class='scroll'><table><thead>{row(grid.header, 'th')}</thead>\n<tbody>{body}</tbody></table></div>{note}"
    )


def _details(grid: tables.Grid) -> str:
    return f"<details><summary>Numbers</summary>{_table(grid)}</details>"


def _links() -> str:
    return "<p>As files: <a href='results.json'>results.json</a>, <a href='results.md'>results.md</a>.</p>"


def _plots(figures: Sequence[str]) -> str:
    return "<div class='plots'>" + "\n".join(figures) + "</div>"


def _key(shown: Evaluation) -> str:
    blue, yellow = (
        f"<span class='key' style='background: rgb{colour}'></span>" for colour in (draw.TARGET, draw.PREDICTED)
    )
    told = f"{shown.stage}, {shown.condition}; NME by {shown.normalisation}"
    return f"<p>{blue} truth &nbsp; {yellow} prediction ({escape(told)}). Each opens in full size.</p>"


def _picture(name: str, caption: str) -> str:
    image = f"<img src='{escape(name)}' alt='{escape(caption)}' loading='lazy'>"
    return f"<figure><figcaption>{escape(caption)}</figcaption><a href='{escape(name)}'>{image}</a></figure>"
