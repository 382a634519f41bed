"""The house: floors, who may name which library, what every public name must have."""

import ast
import graphlib
import statistics
import subprocess
import sys

import pytest

from tests.support.paths import ROOT

PACKAGE = ROOT / "wing_jax"
FILES = sorted(PACKAGE.rglob("*.py"))
FLOORS = (
    {"types", "text", "values", "errors", "choices", "runtime"},
    {"schemes", "config", "pretrained"},
    {"losses", "geometry", "procrustes", "balance"},
    {"models", "synthetic"},
    {"data"},
    {"augment"},
    {"input", "inference"},
    {"evaluation", "report", "train", "export"},
    {"from_config"},
    {"presets"},
    {"analysis", "reproduce"},
    {"cli"},
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
HOMES = {  # library: where it may be named
    "tensorflow": ("runtime/tensorflow_runtime.py", "data/tfds/", "input/"),
    "tensorflow_datasets": ("data/tfds/",),
    "cv2": ("data/", "synthetic/", "augment/", "input/", "inference/", "report/"),
    "av": ("inference/video", "data/video_frames.py"),
    "optax": ("train/", "from_config/"),
    "flax": ("models/", "train/", "analysis/", "inference/"),
    "orbax": ("train/checkpoints.py",),
    "tyro": ("cli/",),
    "filelock": ("runtime/locks.py",),
    "cattrs": ("config.py",),
    "tensorboardX": ("train/logs.py",),
    "matplotlib": ("report/canvas.py",),
    "h5py": ("data/readers/",),
}
TESTS = {path: ast.parse(path.read_text()) for path in sorted((ROOT / "tests").rglob("*.py"))}
PATCHED = {  # what tests replace in this package, and why no argument serves
    "conftest.py: devices.prepare_xla": "XLA reads its flags once a process, and the tests' own compile fastest",
    "conftest.py: render.render_face": "the synthetic faces take seconds; those already drawn are kept",
    "test_batch_norm.py: batch_norm._sums": "sums by another order, for what rounding can do",
    "test_bundle.py: bundle.np.savez": "a disk that is full in the middle of a file",
    "test_environment.py: wing_jax.data.images.LARGEST_PICTURE": "a picture beyond the limit would take gigabytes",
    "test_hostile.py: video_frames.CONTAINERS": "a container that is not to be read, for the test to be able to fail",
    "test_localizer.py: module.LARGEST_PIXELS": "crops of more pixels than the limit would take gigabytes",
    "test_localizer.py: module.crop_face": "which of two equal ways is taken",
    "test_predict.py: video_writer.ENCODERS": "an FFmpeg without H.264",
    "test_pretrained.py: wing_jax.cli.export.crops_of": "a difference between two formats that there is not",
    "test_pretrained.py: wing_jax.cli.export.halve": "a difference between two formats that there is not",
    "test_tfds_builders.py: builders.WingAflw.read": "tensorflow-datasets makes the builder itself, without arguments",
    "test_tfds_builders.py: builders.WingCofw.read": "tensorflow-datasets makes the builder itself, without arguments",
}
POSITIONAL_DEFAULTS = {"make_mesh.count", "load_faces.split"}  # the only argument; the second of two that all give


def relative(path):
    return path.relative_to(PACKAGE).as_posix()


def room_of(path):
    return relative(path).split("/")[0].removesuffix(".py")


def module_of(path):
    return ".".join(("wing_jax", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")


MODULES = {module_of(path): path for path in FILES}
TREES = {path: ast.parse(path.read_text()) for path in FILES}


def imported(tree):
    """Full names of all that is imported, lazily or not; `from a import b` counts as a.b."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute here"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def own_modules(tree):
    """The modules of wing_jax among the imports."""
    for name in imported(tree):
        parts = name.split(".")
        if parts[0] == "wing_jax":
            yield next(m for n in range(len(parts), 0, -1) if (m := ".".join(parts[:n])) in MODULES)


def test_every_room_has_a_floor():
    assert {room_of(path) for path in FILES} - {"__init__"} == set(FLOOR)


def test_imports_only_go_down():
    upwards = []
    for path in set(FILES) - {PACKAGE / "__init__.py"}:
        for module in own_modules(TREES[path]):
            assert module != "wing_jax", "import the room, not the house"
            if FLOOR[module.split(".")[1]] > FLOOR[room_of(path)]:
                upwards.append(f"{relative(path)} imports {module}")
    assert not upwards


def test_no_module_imports_itself_round_a_corner():
    graph = {name: set(own_modules(TREES[path])) - {name} for name, path in MODULES.items()}
    # A package and its parts import each other by design: the package re-exports.
    graph = {name: {m for m in found if not m.startswith(f"{name}.")} for name, found in graph.items()}
    graphlib.TopologicalSorter(graph).prepare()


@pytest.mark.parametrize("library", HOMES)
def test_library_is_named_only_at_home(library):
    named = {relative(path) for path, tree in TREES.items() if library in {n.split(".")[0] for n in imported(tree)}}
    assert not {path for path in named if not path.startswith(HOMES[library])}


def test_no_file_is_long_and_most_are_short():
    lengths = {relative(path): len(path.read_text().splitlines()) for path in FILES}
    assert max(lengths.values()) <= 400, max(lengths, key=lengths.get)
    assert statistics.median(lengths.values()) <= 150


def public(path):
    for node in TREES[path].body:
        overloads = any(ast.unparse(decorator) == "overload" for decorator in getattr(node, "decorator_list", ()))
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_") and not overloads:
            yield node


def test_modules_and_public_names_say_what_they_are():
    silent = [relative(path) for path in FILES if not ast.get_docstring(TREES[path])]
    silent += [
        f"{relative(path)}: {node.name}" for path in FILES for node in public(path) if not ast.get_docstring(node)
    ]
    assert not silent


def test_hyper_parameters_are_keyword_only():
    """A default is a hyper-parameter's, unless it is None or (), which stand for "no mask", "no captions"."""
    positional = []
    for path in FILES:
        for node in public(path):
            if isinstance(node, ast.ClassDef):
                continue
            arguments = [*node.args.posonlyargs, *node.args.args]
            for argument, default in zip(reversed(arguments), reversed(node.args.defaults), strict=False):
                if ast.unparse(default) not in ("None", "()"):
                    positional.append((relative(path), f"{node.name}.{argument.arg}"))
    assert not [found for found in positional if found[1] not in POSITIONAL_DEFAULTS]


def test_text_files_are_utf_8_whatever_the_locale():
    """Without an encoding Python takes the locale's: a name in a file could then not be written, or read again."""
    silent = []
    for path, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                reads = node.func.attr == "read_text" and ast.unparse(node.func.value) != "files"
                writes = node.func.attr == "write_text"
                if (reads or writes) and "encoding" not in {keyword.arg for keyword in node.keywords}:
                    silent.append(f"{relative(path)}:{node.lineno}")
    assert not silent


def test_consoles_are_made_in_one_place():
    """Those of `wing_jax.runtime.console` take names of files as they are, without markup."""
    made = [
        f"{relative(path)}:{node.lineno}"
        for path, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("Console", "rich.print", "rich.console.Console")
    ]
    assert [place.split(":")[0] for place in made] == ["runtime/console.py"]


def test_no_name_says_nothing():
    """`rng`, `tmp` and `utils` tell a reader nothing (`x1` and its like neither)."""
    assert not [relative(path) for path in FILES if path.stem in ("utils", "helpers", "misc", "common")]
    for path, tree in TREES.items():
        names = {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
        names |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        assert not names & {"rng", "tmp", "x1", "y1", "x2", "y2"}, relative(path)


def test_localizer_can_be_had_from_the_house_itself():
    import wing_jax
    from wing_jax.inference.localizer import Localizer

    assert wing_jax.Localizer is Localizer
    with pytest.raises(AttributeError, match="'wing_jax' has no attribute 'Trainer'"):
        _ = wing_jax.Trainer
    assert wing_jax.__version__.count(".") == 2


def test_tensorflow_is_not_imported_before_it_is_needed():
    code = (
        "import sys, wing_jax, wing_jax.inference.localizer, wing_jax.losses, wing_jax.from_config.train,"
        "wing_jax.cli.main, wing_jax.cli.train,"
        "wing_jax.cli.evaluate, wing_jax.cli.predict, wing_jax.data.load, wing_jax.input.tfdata;"
        "print([name for name in ('tensorflow', 'tensorflow_datasets') if name in sys.modules])"
    )
    answered = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answered.stdout.strip() == "[]"


def test_the_command_line_heeds_signals_before_it_imports_what_takes_long():
    code = "import sys, wing_jax.cli; print({'jax', 'numpy', 'cv2', 'tensorflow'} & sys.modules.keys() or 'none')"
    answered = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answered.stdout.strip() == "none"


def names_from_package(tree):
    """The names that a test module has imported from wing_jax."""
    imported = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    return {
        alias.asname or alias.name
        for node in imported
        if (node.module or "").split(".")[0] == "wing_jax"
        for alias in node.names
    }


def first_name(node):
    while isinstance(node, ast.Attribute | ast.Call | ast.Subscript):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else ""


def patches_of(tree):
    """What a test module replaces in wing_jax; libraries reached through one of its modules (`module.cv2`) do not
    count."""
    ours = names_from_package(tree)
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "setattr"):
            continue
        target, *others = node.args
        if isinstance(target, ast.Constant) and str(target.value).startswith("wing_jax"):
            yield target.value
        elif first_name(target) in ours and ast.unparse(target).split(".")[-1] not in ("cv2", "time", "sys"):
            yield f"{ast.unparse(target)}.{others[0].value}"


def test_tests_replace_only_what_is_listed():
    patched = {f"{path.name}: {patch}" for path, tree in TESTS.items() for patch in patches_of(tree)}
    assert patched == PATCHED.keys()
    assert len(PATCHED) <= 20


def test_tests_use_no_private_name():
    private = set()
    for path, tree in TESTS.items():
        ours = names_from_package(tree)
        private |= {f"{path.name}: {name}" for name in ours if name.startswith("_") and not name.endswith("_")}
        private |= {
            f"{path.name}: {ast.unparse(node)}"
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__")
            and node.attr != "_fields" and first_name(node) in ours
        }  # fmt: skip
    assert not private
