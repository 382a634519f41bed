"""The tutorial docs/how-to/own-faces.md, run as it stands: its files written, its code executed, its commands given."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.support.paths import CONFIGS, DOCS
from wing_jax.cli import main
from wing_jax.data.load import load_faces
from wing_jax.data.readers.points_folder import read_points_folder
from wing_jax.inference.localizer import Localizer
from wing_jax.schemes import find_scheme

pytestmark = pytest.mark.slow

PAGE = DOCS / "how-to" / "own-faces.md"
COMMAND = "from wing_jax.cli import main; main()"
BLOCK = re.compile(r"(?:<!-- file: (?P<file>\S+) -->\n)?```(?P<kind>\w+)\n(?P<text>.*?)```", re.DOTALL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The folder in which all code and commands of the page were run."""
    folder = tmp_path_factory.mktemp("tutorial")
    (folder / "configs").symlink_to(CONFIGS)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for block in BLOCK.finditer(PAGE.read_text()):
            if block["file"]:
                Path(block["file"]).write_text(block["text"])
            elif block["kind"] == "python":
                exec(compile(block["text"], str(PAGE), "exec"), {})
            else:
                for line in block["text"].splitlines():
                    command, *words = shlex.split(line)
                    assert command == "wing-jax"
                    if words[0] == "train":  # in a new process, with the XLA flags of the command line
                        subprocess.run([sys.executable, "-c", COMMAND, *words], check=True, timeout=600)
                    else:
                        main(words)
    return folder


def test_the_model_is_better_than_the_mean_face(folder):
    report = folder / "runs" / "twelve" / "model" / "report-pts" / "results.json"
    entries = [entry for entry in json.loads(report.read_text()) if entry["metric"] == "inter-ocular"]
    medians = {(entry["stage"], entry["condition"]): entry["median"] for entry in entries}
    scheme = find_scheme(str(folder / "twelve.toml"))
    faces = read_points_folder(folder / "faces" / "test", scheme=scheme)
    train = read_points_folder(folder / "faces" / "train", scheme=scheme)

    def normalize(face_set):
        side = (face_set.boxes[:, None, 2:] - face_set.boxes[:, None, :2]).max(-1, keepdims=True)
        return (face_set.points - face_set.boxes[:, None, :2]) / side, side

    (target, side), (train_points, _) = normalize(faces), normalize(train)
    distance = (np.linalg.norm(target - train_points.mean(0), axis=-1) * side[..., 0]).mean(1)
    eyes = np.linalg.norm(faces.points[:, scheme.left_outer] - faces.points[:, scheme.right_outer], axis=1)
    mean_face = 100 * np.median(distance / eyes)
    assert medians["stage 1", "landmarks boxes"] < 0.7 * mean_face
    assert medians["stage 2", "landmarks boxes"] < 0.7 * mean_face


def test_the_model_stores_its_scheme(folder):
    localizer = Localizer.load(folder / "runs" / "twelve" / "model")
    assert localizer.scheme == find_scheme(str(folder / "twelve.toml"))
    written = json.loads((folder / "predictions" / "0003.json").read_text())
    assert written["scheme"] == "twelve"
    assert np.array(written["faces"][0]["points"]).shape == (12, 2)
    assert (folder / "predictions" / "0003.pts").exists()
    assert (folder / "predictions" / "0003.png").exists()


def test_the_contact_sheet_and_the_packed_data_exist(folder):
    assert (folder / "shown.png").stat().st_size > 100_000
    manifest = json.loads((folder / "packed" / "manifest.json").read_text())
    assert manifest["counts"] == {"all": 120}
    assert manifest["scheme"]["name"] == "twelve"
    scheme = find_scheme(str(folder / "twelve.toml"))
    packed = load_faces("packed", "train", root=str(folder / "packed"))
    assert packed.scheme == scheme
    assert packed.photos == read_points_folder(folder / "faces" / "train", scheme=scheme).photos
