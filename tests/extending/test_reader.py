"""Readers of an external package, found by entry points: listed, checked, read and trained on."""

import json

import numpy as np
import pytest

from wing_jax.data.images import write_image
from wing_jax.data.load import load_faces
from wing_jax.data.registry import detect, register_reader
from wing_jax.errors import InputError

MODULE = '''
import numpy as np
from wing_jax.data.face_set import FaceSet
from wing_jax.data.registry import register_reader
from wing_jax.errors import InputError


@register_reader(name="dots", title="dots, 5 points", splits=("train", "test"), folder="dots", patterns=("*.dots",))
def read_dots(root, split, *, faults=None):
    """Read `SPLIT.dots`: each line is the name of a picture and x y of five points."""
    pictures, points = [], []
    for number, line in enumerate((root / f"{split}.dots").read_text().splitlines(), 1):
        name, *values = line.split()
        if len(values) != 10:
            fault = f"{root / split}.dots:{number}: {len(values)} numbers, not 10: correct the line"
            if faults is None:
                raise InputError(fault)
            faults.append(fault)
            continue
        pictures.append(root / name)
        points.append(np.reshape(np.float32(values), (5, 2)))
    return FaceSet.from_arrays(pictures, points, scheme="mtfl5", name="dots")


def read_bare(root):
    return "no faces"
'''
POINTS = np.array([[20, 30], [60, 30], [40, 50], [25, 70], [55, 70]])
ENTRIES = {"dots": "read_dots", "bare": "read_bare"}


@pytest.fixture
def package(install):
    """The package, and another one that cannot be imported."""
    install(MODULE, name="dots_of_wing_jax", entry_points={"wing_jax.readers": ENTRIES})
    install("import no_such_module", name="broken_of_wing_jax", entry_points={"wing_jax.readers": {"broken": "read"}})


@pytest.fixture
def root(tmp_path):
    random = np.random.default_rng(0)
    for split, count in (("train", 40), ("test", 3)):
        lines = []
        for index in range(count):
            write_image(tmp_path / "set" / f"{split}{index}.png", random.integers(0, 256, (100, 80, 3), dtype=np.uint8))
            points = POINTS + random.normal(0, 2, POINTS.shape)
            lines.append(f"{split}{index}.png {' '.join(f'{value:.2f}' for value in points.ravel())}\n")
        (tmp_path / "set" / f"{split}.dots").write_text("".join(lines))
    return tmp_path / "set"


@pytest.mark.usefixtures("package")
def test_it_is_read_by_name_and_detected_from_the_file_layout(root):
    faces = load_faces("dots", root=root)
    assert (len(faces), faces.scheme.name, faces.photos[0]) == (40, "mtfl5", "train0.png")
    assert len(load_faces("dots", "test", root=root, boxes="square", scheme="mtfl5")) == 3
    assert detect(root) == "dots"
    assert len(load_faces("auto", "test", root=root)) == 3
    with pytest.raises(InputError, match="dots, 5 points has no split 'val': it has train, test"):
        load_faces("dots", "val", root=root)
    with pytest.raises(InputError, match=r"no data in .*dots"):
        load_faces("dots")


@pytest.mark.usefixtures("package")
def test_errors_of_an_external_package_are_one_line(root):
    with pytest.raises(InputError, match="the reader of 'bare' returns a str, not a FaceSet"):
        load_faces("bare", "all", root=root)
    with pytest.raises(InputError, match=r"'broken_of_wing_jax:read' cannot be imported .*: fix that package"):
        load_faces("broken", root=root)
    with pytest.raises(InputError, match="no data set is called 'dot': did you mean dots"):
        load_faces("dot", root=root)


def test_names_that_are_in_use_are_refused():
    def read(root, split):
        raise AssertionError("never called")

    with pytest.raises(ValueError, match="a data set called 'w300' is already registered"):
        register_reader(name="w300")(read)
    with pytest.raises(ValueError, match="cannot be called 'auto'"):
        register_reader(name="auto")(read)
    with pytest.raises(InputError, match="a reader must be a function of a root"):
        register_reader(name="none")(lambda folder: folder)


@pytest.mark.slow
@pytest.mark.usefixtures("package")
def test_the_command_line_lists_checks_trains_and_evaluates(run_command, config, root, tmp_path):
    listing = run_command("data", "formats")
    assert listing.returncode == 0, listing.stderr
    assert "'broken_of_wing_jax:read' cannot be imported" in listing.stderr
    assert "dots, 5 points" in listing.stdout
    checked = run_command("data", "check", root)
    assert checked.returncode == 0, checked.stderr
    assert "dots: 5 points (mtfl5), 'landmarks' boxes" in checked.stdout
    valid_lines = (root / "test.dots").read_text(encoding="utf-8")
    (root / "test.dots").write_text(valid_lines + "test0.png 1 2\n", encoding="utf-8")
    checked = run_command("data", "check", root)
    assert checked.returncode == 1
    assert "test.dots:4: 2 numbers, not 10" in checked.stdout.replace("\n", " ")
    words = ("--data.name", "dots", "--data.root", root, "--data.train_faces", 0, "--data.validation", 0.3)
    trained = run_command("train", config, *words, "--name", "tiny")
    assert trained.returncode == 0, trained.stderr
    model = json.loads((tmp_path / "runs" / "tiny" / "model" / "model.json").read_text())
    assert model["scheme"] == "mtfl5"
    (root / "test.dots").write_text(valid_lines, encoding="utf-8")
    arguments = ("--data", "dots", "--root", root, "--output", "report")
    evaluated = run_command("evaluate", tmp_path / "runs" / "tiny", *arguments)
    assert evaluated.returncode == 0, evaluated.stderr
    results = json.loads((tmp_path / "report" / "results.json").read_text(encoding="utf-8"))
    assert {entry["faces"] for entry in results} == {3}


@pytest.mark.slow
@pytest.mark.usefixtures("package")
def test_fit_trains_on_it(train_small, root):
    result, evaluation = train_small(faces=load_faces("dots", root=root))
    assert result.localizer.scheme.name == "mtfl5"
    assert np.isfinite(evaluation.mean["box-size"])
