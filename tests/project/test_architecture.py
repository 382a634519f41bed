"""The architecture: layers of the package, where libraries are imported, and rules for public names and for tests."""

import ast
import functools
import graphlib
import subprocess
import sys

import pytest

from tests.support.paths import ROOT

PACKAGE = ROOT / "wing_jax"
FILES = sorted(PACKAGE.rglob("*.py"))
LAYERS = (
    {"types", "text", "values", "errors", "choices", "runtime"},
    {"schemes", "config", "pretrained"},
    {"losses", "geometry", "procrustes", "balance", "config_files"},
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
LAYER = {part: number for number, parts in enumerate(LAYERS) for part in parts}
LIBRARY_USERS = {  # library: where it may be imported
    "tensorflow": ("runtime/tensorflow_runtime.py", "data/tfds/", "input/"),
    "tensorflow_datasets": ("data/tfds/",),
    "cv2": ("data/", "synthetic/", "augment/", "input/", "inference/", "report/", "evaluation/stress.py"),
    "av": ("inference/video", "data/video_frames.py"),
    "optax": ("train/", "from_config/"),
    "flax": ("models/", "train/", "analysis/", "inference/"),
    "orbax": ("train/checkpoints.py",),
    "tyro": ("cli/",),
    "filelock": ("runtime/locks.py",),
    "cattrs": ("config_files.py",),
    "tensorboardX": ("train/logs.py",),
    "matplotlib": ("report/canvas.py",),
    "h5py": ("data/readers/",),
}
PATCHES = {  # what tests replace in this package, and why an argument is not enough
    "conftest.py: devices.prepare_xla": "XLA reads its flags once per process; those of the tests compile fastest",
    "conftest.py: render.render_face": "rendering takes seconds; rendered faces are cached",
    "test_batch_norm.py: batch_norm._sums": "sums in another order, for the effect of rounding",
    "test_bundle.py: bundle.np.savez": "a disk that becomes full in the middle of a file",
    "test_environment.py: wing_jax.data.images.LARGEST_PICTURE": "a picture beyond the limit would take gigabytes",
    "test_hostile.py: video_frames.CONTAINERS": "a container that must not be read, so that the test can fail",
    "test_localizer.py: crop_sources.LARGEST_PIXELS": "crops of more pixels than the limit would take gigabytes",
    "test_localizer.py: module.cut_square": "which of two equivalent ways is used",
    "test_predict.py: video_writer.ENCODERS": "an FFmpeg without H.264",
    "test_pretrained.py: wing_jax.cli.export.make_crops": "a difference between two formats, which does not occur",
    "test_pretrained.py: wing_jax.cli.export.halve": "a difference between two formats, which does not occur",
    "test_reproduce.py: published.EPSILONS": "fewer trainings; the paper's table has four rows",
    "test_reproduce.py: studies.NOISE": "fewer trainings; the study has five levels",
    "test_reproduce.py: studies.WING_PARAMETERS": "fewer trainings; the study has six pairs",
    "test_tfds_builders.py: builders.WingAflw.read": "tensorflow-datasets creates the builder, without arguments",
    "test_tfds_builders.py: builders.WingCofw.read": "tensorflow-datasets creates the builder, without arguments",
}
# the only arguments of their functions; the second of two common ones
POSITIONAL_DEFAULTS = {"make_mesh.count", "finetune.start", "load_faces.split"}


def relative(path):
    return path.relative_to(PACKAGE).as_posix()


def part_of(path):
    return relative(path).split("/")[0].removesuffix(".py")


def module_of(path):
    return ".".join(("wing_jax", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")


MODULES = {module_of(path): path for path in FILES}


@functools.cache
def parsed(path):
    """Return the syntax tree of a file; parsed late, as each worker imports this module."""
    return ast.parse(path.read_text())


def trees():
    """Return the syntax trees of the package by path."""
    return {path: parsed(path) for path in FILES}


def trees_of_tests():
    """Return the syntax trees of the tests by path."""
    return {path: parsed(path) for path in sorted((ROOT / "tests").rglob("*.py"))}


@functools.cache
def imported_names(tree):
    """Return the full names of all imports, also inside of functions; `from a import b` is a.b."""
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "use absolute imports"
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


def imported_modules(tree):
    """Yield the modules of wing_jax among the imports."""
    for name in imported_names(tree):
        parts = name.split(".")
        if parts[0] == "wing_jax":
            yield next(m for n in range(len(parts), 0, -1) if (m := ".".join(parts[:n])) in MODULES)


def test_every_part_has_a_layer():
    assert {part_of(path) for path in FILES} - {"__init__"} == set(LAYER)


def test_imports_go_down_only():
    upwards = []
    for path in set(FILES) - {PACKAGE / "__init__.py"}:
        for module in imported_modules(parsed(path)):
            assert module != "wing_jax", "import the module, not the package"
            if LAYER[module.split(".")[1]] > LAYER[part_of(path)]:
                upwards.append(f"{relative(path)} imports {module}")
    assert not upwards


def test_there_are_no_import_cycles():
    graph = {name: set(imported_modules(parsed(path))) - {name} for name, path in MODULES.items()}
    # A package and its modules import each other, because the package re-exports names.
    graph = {name: {m for m in modules if not m.startswith(f"{name}.")} for name, modules in graph.items()}
    graphlib.TopologicalSorter(graph).prepare()


@pytest.mark.slow
@pytest.mark.parametrize("library", LIBRARY_USERS)
def test_library_is_imported_only_where_allowed(library):
    users = {
        relative(path) for path, tree in trees().items() if library in {n.split(".")[0] for n in imported_names(tree)}
    }
    assert not {path for path in users if not path.startswith(LIBRARY_USERS[library])}


def test_files_have_at_most_400_lines():
    lengths = {relative(path): len(path.read_text().splitlines()) for path in FILES}
    assert max(lengths.values()) <= 400, max(lengths, key=lengths.get)


def public_definitions(path):
    for node in parsed(path).body:
        overloads = any(ast.unparse(decorator) == "overload" for decorator in getattr(node, "decorator_list", ()))
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_") and not overloads:
            yield node


def test_modules_and_public_names_have_docstrings():
    undocumented = [relative(path) for path in FILES if not ast.get_docstring(parsed(path))]
    undocumented += [
        f"{relative(path)}: {node.name}"
        for path in FILES
        for node in public_definitions(path)
        if not ast.get_docstring(node)
    ]
    assert not undocumented


def test_hyper_parameters_are_keyword_only():
    """An argument with a default is a hyper-parameter, unless the default is None or (), as for a missing mask."""
    positional = []
    for path in FILES:
        for node in public_definitions(path):
            if isinstance(node, ast.ClassDef):
                continue
            arguments = [*node.args.posonlyargs, *node.args.args]
            for argument, default in zip(reversed(arguments), reversed(node.args.defaults), strict=False):
                if ast.unparse(default) not in ("None", "()"):
                    positional.append((relative(path), f"{node.name}.{argument.arg}"))
    assert not [(path, name) for path, name in positional if name not in POSITIONAL_DEFAULTS]


def test_text_files_are_utf_8_whatever_the_locale():
    """Without an encoding, Python uses that of the locale, which may not be able to write or read a name."""
    unspecified = []
    for path, tree in trees().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                reads = node.func.attr == "read_text" and ast.unparse(node.func.value) != "files"
                writes = node.func.attr == "write_text"
                if (reads or writes) and "encoding" not in {keyword.arg for keyword in node.keywords}:
                    unspecified.append(f"{relative(path)}:{node.lineno}")
    assert not unspecified


def test_consoles_are_created_in_one_module():
    """Consoles of `wing_jax.runtime.console` print file names unchanged, without markup."""
    locations = [
        f"{relative(path)}:{node.lineno}"
        for path, tree in trees().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("Console", "rich.print", "rich.console.Console")
    ]
    assert [location.split(":")[0] for location in locations] == ["runtime/console.py"]


def test_localizer_can_be_imported_from_the_package():
    import wing_jax
    from wing_jax.inference.localizer import Localizer

    assert wing_jax.Localizer is Localizer
    with pytest.raises(AttributeError, match="'wing_jax' has no attribute 'Trainer'"):
        _ = wing_jax.Trainer
    assert wing_jax.__version__.count(".") == 2


@pytest.mark.slow
def test_tensorflow_is_not_imported_before_it_is_needed():
    code = (
        "import sys, wing_jax, wing_jax.inference.localizer, wing_jax.losses, wing_jax.from_config.train,"
        "wing_jax.cli.main, wing_jax.cli.train,"
        "wing_jax.cli.evaluate, wing_jax.cli.predict, wing_jax.data.load, wing_jax.input.tfdata;"
        "print([name for name in ('tensorflow', 'tensorflow_datasets') if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_the_command_line_imports_no_slow_libraries_before_it_handles_signals():
    code = "import sys, wing_jax.cli; print({'jax', 'numpy', 'cv2', 'tensorflow'} & sys.modules.keys() or 'none')"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "none"


def names_from_package(tree):
    """Return the names that a test module imports from wing_jax."""
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    return {
        alias.asname or alias.name
        for node in imports
        if (node.module or "").split(".")[0] == "wing_jax"
        for alias in node.names
    }


def root_name(node):
    while isinstance(node, ast.Attribute | ast.Call | ast.Subscript):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else ""


def find_patches(tree):
    """Yield what a test module replaces in wing_jax, except libraries reached through its modules (`module.cv2`)."""
    package_names = names_from_package(tree)
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "setattr"):
            continue
        target, *rest = node.args
        if isinstance(target, ast.Constant) and str(target.value).startswith("wing_jax"):
            yield target.value
        elif root_name(target) in package_names and ast.unparse(target).split(".")[-1] not in ("cv2", "time", "sys"):
            yield f"{ast.unparse(target)}.{rest[0].value}"


def test_tests_replace_only_listed_names():
    patches = {f"{path.name}: {patch}" for path, tree in trees_of_tests().items() for patch in find_patches(tree)}
    assert patches == PATCHES.keys()
    assert len(PATCHES) <= 20


def test_tests_use_no_private_name():
    private = set()
    for path, tree in trees_of_tests().items():
        package_names = names_from_package(tree)
        private |= {f"{path.name}: {name}" for name in package_names if name.startswith("_") and not name.endswith("_")}
        private |= {
            f"{path.name}: {ast.unparse(node)}"
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__")
            and node.attr != "_fields" and root_name(node) in package_names
        }  # fmt: skip
    assert not private
