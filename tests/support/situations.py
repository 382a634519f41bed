"""Valid files in unusual situations: odd names, hidden files, bytes after the end, another order, sizes, times, Python
arguments, and folders to predict. Each has a defined outcome.

A situation writes files into an empty folder and returns a function that checks them: it raises InputError if they are
rejected where that is allowed, and AssertionError if the result is wrong. Used like `hostile.py`.
"""

import contextlib
import csv
import functools
import hashlib
import io
import json
import random
import re
import resource
import tempfile
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from xml.sax.saxutils import quoteattr

import numpy as np

from tests.support.formats import WRITERS, load
from tests.support.hostile import TARGETS, Files, write_files
from tests.support.uses import NAMES, ON_DISK_ONLY, TRAILERS, Judge, arguments, predictions, times
from wing_jax.data.check import check_split
from wing_jax.data.face_crops import crop_faces
from wing_jax.errors import InputError
from wing_jax.schemes import IBUG_68

Situation = Callable[[Path, random.Random], Judge]
MEMORY = 3 << 30  # bytes in addition to the memory of the process
PICTURES = (".jpg", ".png", ".bmp", ".webp", ".tif")
TEXTS = (".csv", ".json", ".xml", ".pts", ".ljson", ".txt")


@functools.cache
def valid_files(name: str) -> Files:
    """Return the files of a set of the format `name`."""
    with tempfile.TemporaryDirectory() as folder:
        return TARGETS[name].sound(Path(folder))


@functools.cache
def expected(name: str) -> tuple[list[tuple[str, np.ndarray, np.ndarray]], int]:
    """Return what reading that set returns: the picture's digest, points and box of each face; and the faults."""
    with tempfile.TemporaryDirectory() as folder:
        write_files(Path(folder), valid_files(name), {})
        return _read(name, Path(folder))


def _read(name: str, folder: Path) -> tuple[list[tuple[str, np.ndarray, np.ndarray]], int]:
    faults: list[str] = []
    faces = load(name, folder, faults)
    results = []
    for index in range(len(faces)):
        digest = hashlib.sha256(np.ascontiguousarray(faces.picture(index)).tobytes()).hexdigest()
        results.append((digest, faces.points[index], faces.boxes[index]))
    return sorted(results, key=lambda face: (face[0], face[1].tobytes())), len(faults)


def _make_judge(name: str, folder: Path) -> Judge:
    expected(name)  # before opened files are recorded
    return functools.partial(_compare, name, folder)


def _compare(name: str, folder: Path) -> None:
    try:
        (results, faults), (expected_results, expected_faults) = _read(name, folder), expected(name)
    except InputError as error:
        raise AssertionError(f"a valid set is rejected: {error}") from error
    assert len(results) == len(expected_results), f"{len(results)} faces of {len(expected_results)}"
    assert faults == expected_faults, f"{faults} faults"
    pairs = zip(results, expected_results, strict=True)
    for (digest, points, box), (expected_digest, expected_points, expected_box) in pairs:
        assert digest == expected_digest, "another picture"
        np.testing.assert_allclose(points, expected_points, atol=1e-3)
        np.testing.assert_allclose(box, expected_box, atol=1e-3)


def odd_folder(folder: Path, draw: random.Random) -> Judge:
    """Put the set into a folder with an odd or hidden name, which the user names explicitly."""
    name = draw.choice(sorted(WRITERS))
    parent = folder / draw.choice((*NAMES, *ON_DISK_ONLY, ".hidden")) / "set"
    parent.mkdir(parents=True)
    write_files(parent, valid_files(name), {})
    return _make_judge(name, parent)


def odd_names(folder: Path, draw: random.Random) -> Judge:
    """Give the pictures of custom data odd names, in the list too."""
    name = draw.choice(("pts", "csv", "coco", "imglab"))
    files = dict(valid_files(name))
    pictures = [path for path in files if path.endswith(PICTURES)]
    odd = draw.sample((*NAMES, *ON_DISK_ONLY) if name == "pts" else NAMES, len(pictures))
    new = {}
    for number, (path, stem) in enumerate(zip(pictures, odd, strict=True)):
        parent = path.rpartition("/")[0]
        for file in [file for file in files if file.rpartition(".")[0] == path.rpartition(".")[0]]:
            content, ending = files.pop(file), file.rpartition(".")[2]
            files[f"{parent}/{stem}.{ending}"] = content
        written = unicodedata.normalize(draw.choice(("NFC", "NFD")), stem) if number % 2 else stem
        written = stem if written in odd else written  # that is another picture's name
        new[path] = f"{parent}/{written}.{path.rpartition('.')[2]}"
    write_files(folder, {path: _rename_pictures(path, content, new) for path, content in files.items()}, {})
    return _make_judge(name, folder)


def _rename_pictures(path: str, content: bytes, new: dict[str, str]) -> bytes:
    """Return a list of pictures with their new names, as a program would write them."""
    if path.endswith(".csv"):
        rows = [[new.get(cell, cell) for cell in row] for row in csv.reader(io.StringIO(content.decode()))]
        return _format_csv(rows)
    if path.endswith(".xml"):
        for old, other in new.items():
            content = content.replace(f"'{old}'".encode(), quoteattr(other).encode("ascii", "xmlcharrefreplace"))
    if path.endswith(".json"):
        table = json.loads(content)
        for image in table["images"]:
            image["file_name"] = new[f"images/{image['file_name']}"].rpartition("/")[2]
        return json.dumps(table, ensure_ascii=len(content) % 2 == 0).encode()
    return content


def _format_csv(rows: list[list[str]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()


def hidden(folder: Path, draw: random.Random) -> Judge:
    """Add hidden files of operating systems and editors, which are not data."""
    name = draw.choice(sorted(WRITERS))
    files = dict(valid_files(name))
    for path, content in sorted(files.items()):
        parent, _, file = path.rpartition("/")
        stem, _, ending = file.rpartition(".")
        companions = (
            (f"._{file}", b"\0\5\x16\7\0\2\0\0Mac OS X" + bytes(40)),
            (f".ipynb_checkpoints/{stem}-checkpoint.{ending}", content),
            (f".{file}.swp", b"b0VIM"),
            (".DS_Store", b"\0\0\0\1Bud1"),
            (f".Trash-1000/files/{file}", b""),
        )
        for other, other_content in draw.sample(companions, 2):
            files.setdefault(f"{parent}/{other}".lstrip("/"), other_content)
    write_files(folder, files, {})
    return _make_judge(name, folder)


def bytes_after_the_end(folder: Path, draw: random.Random) -> Judge:
    """Append bytes to the pictures, as phones and forums do, and line ends to the lists."""
    name = draw.choice(sorted(WRITERS))
    files = dict(valid_files(name))
    for path in files if name != "packed" else ():  # packed sets have checksums
        if path.endswith(PICTURES):
            files[path] += draw.choice(TRAILERS)
        elif path.endswith(TEXTS):
            files[path] += draw.choice((b"", b"\n", b"\r\n", b"\n\n"))
    write_files(folder, files, {})
    return _make_judge(name, folder)


def another_order(folder: Path, draw: random.Random) -> Judge:
    """Change the order of columns, rows, keys, pictures and named keypoints."""
    name = draw.choice(("csv", "coco", "imglab"))
    files = dict(valid_files(name))
    for path in [path for path in files if path.endswith((".csv", ".json", ".xml"))]:
        files[path] = _shuffle(path, files[path], draw)
    write_files(folder, files, {})
    return _make_judge(name, folder)


def _shuffle(path: str, content: bytes, draw: random.Random) -> bytes:
    if path.endswith(".csv"):
        header, *rows = csv.reader(io.StringIO(content.decode()))
        order = draw.sample(range(len(header)), len(header))
        draw.shuffle(rows)
        return _format_csv([[row[column] for column in order] for row in (header, *rows)])
    if path.endswith(".xml"):
        images = re.findall(rb" *<image .*?</image>\n", content, re.DOTALL)
        return content.replace(b"".join(images), b"".join(draw.sample(images, len(images))))
    table = json.loads(content)
    order = draw.sample(range(68), 68)
    for annotation in table["annotations"]:
        triples = np.reshape(annotation["keypoints"], (68, 3))
        annotation["keypoints"] = triples[order].ravel().tolist()
    table["categories"][0]["keypoints"] = [_draw_spelling(number, draw) for number in order]
    for part in table.values():
        draw.shuffle(part)
    return json.dumps({key: table[key] for key in draw.sample(sorted(table), len(table))}).encode()


def _draw_spelling(number: int, draw: random.Random) -> str:
    name = IBUG_68.names[number]
    return draw.choice((name, name.upper(), name.replace(" ", "_"), name.replace(" ", "-")))


def sizes(folder: Path, draw: random.Random) -> Judge:
    """Make boxes, points and annotated sizes far too large: they are rejected or reported by the check, and not much
    memory is allocated."""
    name = draw.choice(("csv", "coco", "imglab", "wflw", "mtfl", "pts"))
    files, factor = dict(valid_files(name)), 10.0 ** draw.randint(3, 30)
    path = draw.choice([path for path in files if path.endswith(TEXTS)])
    numbers = list(re.finditer(rb"(?<![\w.])\d+(?:\.\d+)?(?![\w.])", files[path]))
    chosen = sorted(draw.sample(numbers, min(len(numbers), draw.choice((1, 4, 40)))), key=lambda match: -match.start())
    for match in chosen:
        larger = f"{float(match[0]) * factor:{draw.choice(('.0f', 'g'))}}".encode()
        files[path] = files[path][: match.start()] + larger + files[path][match.end() :]
    must_be_reported = False
    if name == "coco" and draw.random() < 0.5:  # a fault in every annotation must be reported
        files, must_be_reported = dict(valid_files(name)), True
        for path in [path for path in files if path.endswith(".json")]:
            table, key = json.loads(files[path]), draw.choice(("bbox", "keypoints"))
            for annotation in table["annotations"]:
                annotation[key] = [float(value) * factor for value in annotation[key]]
            files[path] = json.dumps(table).encode()
    write_files(folder, files, {})

    def judge() -> None:
        with limited_memory():
            faults: list[str] = []
            faces = load(name, folder, faults)
            check = check_split(faces, faults)
            reported = check.faults or check.outside.any() or getattr(check, "misfits", ())
            assert reported or not must_be_reported, f"{factor:g} times too large, and not reported"
            crop_faces(faces, size=32)

    return judge


@contextlib.contextmanager
def limited_memory(size: int = MEMORY) -> Iterator[None]:
    """Limit the process to `size` bytes in addition to its current memory."""
    previous = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limit = used + size if previous[0] == resource.RLIM_INFINITY else min(previous[0], used + size)
    resource.setrlimit(resource.RLIMIT_AS, (limit, previous[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, previous)


# How often each is drawn, relative to the kinds of files of `hostile.TARGETS`.
SITUATIONS: dict[str, tuple[Situation, int]] = {
    "odd folder": (odd_folder, 3),
    "odd names": (odd_names, 3),
    "hidden files": (hidden, 2),
    "bytes behind the end": (bytes_after_the_end, 3),
    "another order": (another_order, 1),
    "sizes": (sizes, 3),
    "times": (times, 2),
    "arguments": (arguments, 2),
    "predict": (predictions, 2),
}
