"""Sound files in situations that spoiling them would not find: odd names, hidden companions, bytes behind the end,
another order, sizes, times, arguments of Python, folders to predict. Each has an outcome that must come.

A situation lays files into an empty folder and returns what judges them: it raises InputError where they may be refused
and are, and AssertionError where what came of them is wrong. Used as `hostile.py` is.
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
from tests.support.hostile import TARGETS, Files, lay
from tests.support.uses import NAMES, ON_DISK_ALONE, TRAILERS, Judge, arguments, predictions, times
from wing_jax.data.check import check_split
from wing_jax.data.face_crops import crop_faces
from wing_jax.errors import InputError
from wing_jax.schemes import IBUG_68

Situation = Callable[[Path, random.Random], Judge]
MEMORY = 3 << 30  # bytes beyond what the process has
PICTURES = (".jpg", ".png", ".bmp", ".webp", ".tif")
TEXTS = (".csv", ".json", ".xml", ".pts", ".ljson", ".txt")


@functools.cache
def sound(name: str) -> Files:
    """The files of a set of the format `name`."""
    with tempfile.TemporaryDirectory() as folder:
        return TARGETS[name].sound(Path(folder))


@functools.cache
def expected(name: str) -> tuple[list[tuple[str, np.ndarray, np.ndarray]], int]:
    """What reading that set gives: of each face the picture's digest, the points and the box; and the faults."""
    with tempfile.TemporaryDirectory() as folder:
        lay(Path(folder), sound(name), {})
        return _read(name, Path(folder))


def _read(name: str, folder: Path) -> tuple[list[tuple[str, np.ndarray, np.ndarray]], int]:
    faults: list[str] = []
    faces = load(name, folder, faults)
    found = []
    for index in range(len(faces)):
        digest = hashlib.sha256(np.ascontiguousarray(faces.picture(index)).tobytes()).hexdigest()
        found.append((digest, faces.points[index], faces.boxes[index]))
    return sorted(found, key=lambda face: (face[0], face[1].tobytes())), len(faults)


def _reads_the_same(name: str, folder: Path) -> Judge:
    expected(name)  # while nobody watches
    return functools.partial(_compare, name, folder)


def _compare(name: str, folder: Path) -> None:
    try:
        (found, faults), (known, known_faults) = _read(name, folder), expected(name)
    except InputError as error:
        raise AssertionError(f"a sound set is refused: {error}") from error
    assert len(found) == len(known), f"{len(found)} faces of {len(known)}"
    assert faults == known_faults, f"{faults} faults"
    for (digest, points, box), (known_digest, known_points, known_box) in zip(found, known, strict=True):
        assert digest == known_digest, "another picture"
        np.testing.assert_allclose(points, known_points, atol=1e-3)
        np.testing.assert_allclose(box, known_box, atol=1e-3)


def odd_folder(folder: Path, draw: random.Random) -> Judge:
    """The set lies in a folder of an odd name, hidden ones among them: whoever names it means it."""
    name = draw.choice(sorted(WRITERS))
    place = folder / draw.choice((*NAMES, *ON_DISK_ALONE, ".hidden")) / "set"
    place.mkdir(parents=True)
    lay(place, sound(name), {})
    return _reads_the_same(name, place)


def odd_names(folder: Path, draw: random.Random) -> Judge:
    """One's own pictures have odd names, in the list too."""
    name = draw.choice(("pts", "csv", "coco", "imglab"))
    files = dict(sound(name))
    pictures = [path for path in files if path.endswith(PICTURES)]
    odd = draw.sample((*NAMES, *ON_DISK_ALONE) if name == "pts" else NAMES, len(pictures))
    new = {}
    for number, (path, stem) in enumerate(zip(pictures, odd, strict=True)):
        place = path.rpartition("/")[0]
        for each in [each for each in files if each.rpartition(".")[0] == path.rpartition(".")[0]]:
            content, ending = files.pop(each), each.rpartition(".")[2]
            files[f"{place}/{stem}.{ending}"] = content
        told = unicodedata.normalize(draw.choice(("NFC", "NFD")), stem) if number % 2 else stem
        told = stem if told in odd else told  # that is another picture's name
        new[path] = f"{place}/{told}.{path.rpartition('.')[2]}"
    lay(folder, {path: _relisted(path, content, new) for path, content in files.items()}, {})
    return _reads_the_same(name, folder)


def _relisted(path: str, content: bytes, new: dict[str, str]) -> bytes:
    """A list of pictures with their new names, as a program would write them."""
    if path.endswith(".csv"):
        rows = [[new.get(cell, cell) for cell in row] for row in csv.reader(io.StringIO(content.decode()))]
        return _csv(rows)
    if path.endswith(".xml"):
        for old, other in new.items():
            content = content.replace(f"'{old}'".encode(), quoteattr(other).encode("ascii", "xmlcharrefreplace"))
    if path.endswith(".json"):
        table = json.loads(content)
        for image in table["images"]:
            image["file_name"] = new[f"images/{image['file_name']}"].rpartition("/")[2]
        return json.dumps(table, ensure_ascii=len(content) % 2 == 0).encode()
    return content


def _csv(rows: list[list[str]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()


def hidden(folder: Path, draw: random.Random) -> Judge:
    """Beside the files lie those that systems and editors hide: they are no data."""
    name = draw.choice(sorted(WRITERS))
    files = dict(sound(name))
    for path, content in sorted(files.items()):
        place, _, file = path.rpartition("/")
        stem, _, ending = file.rpartition(".")
        companions = (
            (f"._{file}", b"\0\5\x16\7\0\2\0\0Mac OS X" + bytes(40)),
            (f".ipynb_checkpoints/{stem}-checkpoint.{ending}", content),
            (f".{file}.swp", b"b0VIM"),
            (".DS_Store", b"\0\0\0\1Bud1"),
            (f".Trash-1000/files/{file}", b""),
        )
        for other, own in draw.sample(companions, 2):
            files.setdefault(f"{place}/{other}".lstrip("/"), own)
    lay(folder, files, {})
    return _reads_the_same(name, folder)


def behind_the_end(folder: Path, draw: random.Random) -> Judge:
    """Bytes follow the pictures' ends, as phones and forums put them there, and line ends the lists'."""
    name = draw.choice(sorted(WRITERS))
    files = dict(sound(name))
    for path in files if name != "packed" else ():  # packed sets are sealed
        if path.endswith(PICTURES):
            files[path] += draw.choice(TRAILERS)
        elif path.endswith(TEXTS):
            files[path] += draw.choice((b"", b"\n", b"\r\n", b"\n\n"))
    lay(folder, files, {})
    return _reads_the_same(name, folder)


def another_order(folder: Path, draw: random.Random) -> Judge:
    """Columns, rows, keys, pictures and named keypoints in another order."""
    name = draw.choice(("csv", "coco", "imglab"))
    files = dict(sound(name))
    for path in [path for path in files if path.endswith((".csv", ".json", ".xml"))]:
        files[path] = _shuffled(path, files[path], draw)
    lay(folder, files, {})
    return _reads_the_same(name, folder)


def _shuffled(path: str, content: bytes, draw: random.Random) -> bytes:
    if path.endswith(".csv"):
        header, *rows = csv.reader(io.StringIO(content.decode()))
        order = draw.sample(range(len(header)), len(header))
        draw.shuffle(rows)
        return _csv([[row[column] for column in order] for row in (header, *rows)])
    if path.endswith(".xml"):
        images = re.findall(rb" *<image .*?</image>\n", content, re.DOTALL)
        return content.replace(b"".join(images), b"".join(draw.sample(images, len(images))))
    table = json.loads(content)
    order = draw.sample(range(68), 68)
    for annotation in table["annotations"]:
        triples = np.reshape(annotation["keypoints"], (68, 3))
        annotation["keypoints"] = triples[order].ravel().tolist()
    table["categories"][0]["keypoints"] = [_spelled(number, draw) for number in order]
    for part in table.values():
        draw.shuffle(part)
    return json.dumps({key: table[key] for key in draw.sample(sorted(table), len(table))}).encode()


def _spelled(number: int, draw: random.Random) -> str:
    name = IBUG_68.names[number]
    return draw.choice((name, name.upper(), name.replace(" ", "_"), name.replace(" ", "-")))


def sizes(folder: Path, draw: random.Random) -> Judge:
    """Boxes, points and told sizes many times too large: refused or found by the check, whatever they are, and no
    memory is asked for that nobody has."""
    name = draw.choice(("csv", "coco", "imglab", "wflw", "mtfl", "pts"))
    files, factor = dict(sound(name)), 10.0 ** draw.randint(3, 30)
    path = draw.choice([path for path in files if path.endswith(TEXTS)])
    numbers = list(re.finditer(rb"(?<![\w.])\d+(?:\.\d+)?(?![\w.])", files[path]))
    chosen = sorted(draw.sample(numbers, min(len(numbers), draw.choice((1, 4, 40)))), key=lambda found: -found.start())
    for found in chosen:
        larger = f"{float(found[0]) * factor:{draw.choice(('.0f', 'g'))}}".encode()
        files[path] = files[path][: found.start()] + larger + files[path][found.end() :]
    must_be_found = False
    if name == "coco" and draw.random() < 0.5:  # what every annotation is wrong in must not pass
        files, must_be_found = dict(sound(name)), True
        for path in [path for path in files if path.endswith(".json")]:
            table, key = json.loads(files[path]), draw.choice(("bbox", "keypoints"))
            for annotation in table["annotations"]:
                annotation[key] = [float(value) * factor for value in annotation[key]]
            files[path] = json.dumps(table).encode()
    lay(folder, files, {})

    def judge() -> None:
        with room():
            faults: list[str] = []
            faces = load(name, folder, faults)
            check = check_split(faces, faults)
            noticed = check.faults or check.outside.any() or getattr(check, "misfits", ())
            assert noticed or not must_be_found, f"{factor:g} times too large, and unnoticed"
            crop_faces(faces, size=32)

    return judge


@contextlib.contextmanager
def room(size: int = MEMORY) -> Iterator[None]:
    """Within, the process gets no more than `size` bytes beyond what it has."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    most = used + size if before[0] == resource.RLIM_INFINITY else min(before[0], used + size)
    resource.setrlimit(resource.RLIMIT_AS, (most, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


# How often each is drawn beside the kinds of files of `hostile.TARGETS`.
SITUATIONS: dict[str, tuple[Situation, int]] = {
    "odd folder": (odd_folder, 3),
    "odd names": (odd_names, 3),
    "hidden files": (hidden, 2),
    "bytes behind the end": (behind_the_end, 3),
    "another order": (another_order, 1),
    "sizes": (sizes, 3),
    "times": (times, 2),
    "arguments": (arguments, 2),
    "predict": (predictions, 2),
}
