"""Write the report of an evaluation: index.html with its pictures, and the numbers as JSON and Markdown."""

import html
import itertools
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from wing_jax.data.face_set import FaceSet
from wing_jax.errors import InputError
from wing_jax.evaluation.measurement import Measurement, headline
from wing_jax.report import canvas, draw, plots, tables
from wing_jax.text import printable
from wing_jax.types import Image


class StressSection(NamedTuple):
    """The results on changed faces: the table, the function that makes the figure, and plain values for stress.json."""

    grid: tables.Grid
    plot: Callable[[], canvas.Figure]
    entries: Sequence[dict]


def write_report(
    folder: Path,
    *,
    title: str,
    details: Mapping[str, str],
    measurements: Sequence[Measurement],
    faces: FaceSet,
    predicted: Float[np.ndarray, "n points 2"],
    stress: StressSection | None = None,
    faces_per_sheet: int = 8,
) -> Path:
    """Write the report of an evaluation (`wing_jax.evaluation.Evaluation.report`).

    The page has no links to anything outside `folder`.

    Args:
      folder: created if it does not exist; files of an earlier report are overwritten.
      title: the page's headline.
      details: details about the evaluation, in the order to show them: model, data, commit, command, ...
      measurements: the metric of the first measurement leads, and each of its groups gets a section. The last stage of
        the first condition determines the best, typical and worst faces.
      faces: the annotated faces. Only the images of the faces shown are read; if one cannot be read, its tile says so.
        The entire image is shown if a box has no extent.
      predicted: the predictions of that stage, in pixels of the images.
      stress: the results on changed faces.
      faces_per_sheet: the number of best, typical and worst faces to show.

    Returns:
      The path of its index.html.

    Raises:
      InputError: there is no measurement.
    """
    if not measurements:
        raise InputError("a report needs at least one measurement")
    folder.mkdir(parents=True, exist_ok=True)
    summary = [measurement.to_dict() for measurement in measurements]
    errors = [grid for grid in (tables.results_grid(summary), *tables.other_grids(summary)) if grid.rows]
    groups = {name: tables.group_grid(summary, name) for name in measurements[0].groups}
    landmarks = tables.landmark_grid(summary)
    grids = [*errors, *([stress.grid] if stress else []), *groups.values(), *([landmarks] if landmarks else [])]
    (folder / "results.json").write_text(json.dumps(summary, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    (folder / "results.md").write_text(
        "\n".join(map(tables.markdown, grids)), encoding="utf-8", errors="backslashreplace"
    )
    shown = headline(measurements)
    sheets = _write_sheets(folder, shown, predicted, faces, count=faces_per_sheet)
    parts = [
        f"<h1>{escape(title)}</h1>",
        _cards(summary),
        _section("What was evaluated", _summary(details, measurements)),
        *(_section(grid.title, _table(grid)) for grid in errors[:-1]),
        _section(errors[-1].title, _table(errors[-1]), _links()),
        _section("Cumulative error distribution", _html_or_error(lambda: _plots(_write_curves(folder, measurements)))),
        _section("Faces", _key(shown), *sheets),
    ]
    if stress:
        picture = _html_or_error(lambda: _write_stress(folder, stress.plot()))
        parts.append(_section("Stress", picture, _details(stress.grid)))
        (folder / "stress.json").write_text(
            json.dumps(stress.entries, indent=1, allow_nan=False) + "\n", encoding="utf-8"
        )
    for name, grid in groups.items():
        bars = _html_or_error(lambda name=name: _write_bars(folder, measurements, name))
        parts.append(_section(f"By {name}", bars, _details(grid)))
    if landmarks:
        shape = plots.mean_shape(faces.points, faces.visible)
        pictures = _html_or_error(lambda: _plots(_write_landmarks(folder, measurements, shape, faces.scheme.lines)))
        parts.append(_section("By landmark", pictures, _details(landmarks)))
    index = folder / "index.html"
    index.write_text(_document(title, parts), encoding="utf-8", errors="backslashreplace")
    return index


def choose_faces(measurement: Measurement, count: int) -> dict[str, list[int]]:
    """Return the indices of the `count` best faces, of those around the median, and of the worst, worst first."""
    order = np.argsort(measurement.values, kind="stable")[: measurement.counted.sum()]
    middle = max(0, (len(order) - count) // 2)
    chosen = {"Best": order[:count], "Typical": order[middle : middle + count], "Worst": order[::-1][:count]}
    return {name: faces.tolist() for name, faces in chosen.items()}


def _write_sheets(
    folder: Path, shown: Measurement, predicted: Float[np.ndarray, "n points 2"], faces: FaceSet, *, count: int
) -> list[str]:
    figures = []
    for name, chosen in choose_faces(shown, count).items():
        tiles, captions = [], []
        for face in chosen:
            unit = " %" if shown.unit == "%" else f" {shown.unit}"
            caption = f"#{face}   {shown.scale * shown.values[face]:.2f}{unit}"
            try:
                image = faces.picture(face)
            except InputError:  # the image was deleted after the measurement; still show its error
                image = np.full((2, 2, 3), 128, np.uint8)
                tiles.append(draw.face_tile(image, _box_or_all(np.zeros(4), image))[0])
                captions.append(f"{caption}   (picture not readable)")
                continue
            tile, affine = draw.face_tile(image, _box_or_all(np.asarray(faces.boxes[face]), image))
            target, guess = (
                np.asarray(points[face]) @ affine[:, :2].T + affine[:, 2] for points in (faces.points, predicted)
            )
            tiles.append(
                draw.draw_pair(tile, target, guess, lines=faces.scheme.lines, visible=np.asarray(faces.visible[face]))
            )
            captions.append(caption)
        if tiles:
            path = draw.write_png(folder / f"faces-{name.lower()}.png", draw.contact_sheet(tiles, captions))
            figures.append(_picture(path.name, f"{name} faces"))
    return figures


def _box_or_all(box: np.ndarray, image: Image) -> np.ndarray:
    """Return the box, or the image's if the box has no extent: such a face can still be measured by its eyes."""
    image_box = np.array([-0.5, -0.5, image.shape[1] - 0.5, image.shape[0] - 0.5])
    return box if (box[2:] > box[:2]).all() else image_box


def _html_or_error(make: Callable[[], str]) -> str:
    """Return the HTML from `make`, or an error message if Matplotlib is not installed."""
    absence = canvas.missing_message()
    return f"<p>{escape(absence)}</p>" if absence else make()


def _write_curves(folder: Path, measurements: Sequence[Measurement]) -> list[str]:
    figures, slugs = [], slugs_of(m.metric for m in measurements)
    for metric in slugs:
        chosen = [m for m in measurements if m.metric == metric]
        if (threshold := chosen[0].threshold) is None:
            continue
        curves = {tables.series(m, measurements): m.values for m in chosen}
        label = _label(chosen[0])
        figure = plots.ced_figure(curves, threshold=threshold, label=label, scale=chosen[0].scale)
        path = plots.save_figure(figure, folder / f"ced-{slugs[metric]}.png")
        figures.append(_picture(path.name, label))
    return figures


def _write_bars(folder: Path, measurements: Sequence[Measurement], group: str) -> str:
    leading = [m for m in _leading(measurements) if group in m.groups]
    numbers = {tables.series(m, measurements): m.by(group) for m in leading}
    label = _label(leading[0])
    figure = plots.group_figure(numbers, label=label)
    path = plots.save_figure(figure, folder / f"by-{slugs_of(measurements[0].groups)[group]}.png")
    return _picture(path.name, label)


def _write_stress(folder: Path, figure: canvas.Figure) -> str:
    path = plots.save_figure(figure, folder / "stress.png")
    return _picture(path.name, "the last stage on changed faces")


def _write_landmarks(
    folder: Path, measurements: Sequence[Measurement], shape: np.ndarray, lines: Sequence[Sequence[int]]
) -> list[str]:
    figures = []
    for number, measurement in enumerate(_leading([m for m in measurements if m.is_nme])):
        assert measurement.landmarks is not None
        figure = plots.landmark_figure(shape, measurement.landmarks, normalizer=measurement.metric, lines=lines)
        path = plots.save_figure(figure, folder / f"landmarks-{number}.png")
        figures.append(_picture(path.name, f"{tables.series(measurement, measurements)}, by {measurement.metric}"))
    return figures


def _leading(measurements: Sequence[Measurement]) -> list[Measurement]:
    return [m for m in measurements if m.metric == measurements[0].metric]


def _label(measurement: Measurement) -> str:
    return tables.label({"nme": measurement.is_nme, "metric": measurement.metric, "unit": measurement.unit})


def slugs_of(names: Iterable[str]) -> dict[str, str]:
    """Return a unique slug for file names, for each name."""
    slugs: dict[str, str] = {}
    for name in dict.fromkeys(names):
        plain = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:60] or "group"
        numbered = itertools.chain([plain], (f"{plain}-{number}" for number in itertools.count(2)))
        slugs[name] = next(slug for slug in numbered if slug not in slugs.values())
    return slugs


def escape(text: str) -> str:
    """Escape text for HTML and its attributes."""
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
        f"<div class='card'><b>{tables.number(entry['mean'])} {escape(entry['unit'])}</b>"
        f"<span>{escape(entry['stage'])}, {escape(entry['condition'])}:<br>"
        f"{'NME by ' if entry['nme'] else ''}{escape(entry['metric'])}</span></div>"
        for entry in summary
        if entry["metric"] == summary[0]["metric"]
    ]
    return "<div class='cards'>" + "".join(cards) + "</div>"


def _summary(details: Mapping[str, str], measurements: Sequence[Measurement]) -> str:
    first = measurements[0]
    data = {"data set": first.dataset, "faces": str(len(first.values))}
    rows = {**details, **data, "boxes given": "; ".join(dict.fromkeys(m.condition for m in measurements))}
    code = {"command", "commit"}
    pairs = ((escape(name), escape(value), name.lower() in code) for name, value in rows.items())
    cells = (f"<dt>{n}</dt><dd>{f'<code>{v}</code>' if mono else v}</dd>" for n, v, mono in pairs)
    return "<dl>" + "".join(cells) + "</dl>"


def _table(grid: tables.Grid) -> str:
    def row(cells: Sequence[str], tag: str) -> str:
        kinds = [" class='word'" if column < grid.words else "" for column in range(len(cells))]
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


def _key(shown: Measurement) -> str:
    blue, yellow = (
        f"<span class='key' style='background: rgb{color}'></span>" for color in (draw.TARGET, draw.PREDICTED)
    )
    source = f"{shown.stage}, {shown.condition}; {_label(shown)}"
    return f"<p>{blue} ground truth &nbsp; {yellow} prediction ({escape(source)}). Click a sheet for full size.</p>"


def _picture(name: str, caption: str) -> str:
    image = f"<img src='{escape(name)}' alt='{escape(caption)}' loading='lazy'>"
    return f"<figure><figcaption>{escape(caption)}</figcaption><a href='{escape(name)}'>{image}</a></figure>"
