"""Sizes that do not fit into memory are rejected before allocation, or reported in one line afterwards."""

import resource
import subprocess
import sys

import cv2
import numpy as np
import pytest

from wing_jax.cli import main
from wing_jax.config import BalanceConfig
from wing_jax.data.face_crops import crop_faces
from wing_jax.data.load import load_faces
from wing_jax.data.readers.synthetic import synthetic_faces
from wing_jax.errors import InputError
from wing_jax.report.draw import contact_sheet, face_tile, sheet_size
from wing_jax.runtime import memory


def refusal(capsys, *arguments: object) -> str:
    """Run a command that must be rejected and return its message."""
    with pytest.raises(SystemExit) as stopped:
        main([*map(str, arguments)])
    assert stopped.value.code == 2
    message = capsys.readouterr().err.splitlines()[-1]
    assert message.startswith("wing-jax: ")
    return message


def test_available_memory_is_the_minimum_of_the_limits(tmp_path):
    files = {"meminfo": tmp_path / "meminfo", "cgroup": tmp_path / "cgroup"}
    files["meminfo"].write_text("MemTotal: 9 kB\nMemAvailable:  5000 kB\nSwapFree: 1000 kB\n")
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    assert limit == resource.RLIM_INFINITY or limit > 6_144_000
    assert memory.available(**files) == 6_144_000
    files["cgroup"].write_text("max\n")
    assert memory.available(**files) == 6_144_000
    files["cgroup"].write_text("4096\n")
    assert memory.available(**files) == 4096
    files["meminfo"].write_text("odd")
    files["cgroup"].unlink()
    assert memory.available(**files) > 1 << 20  # of the machine


def test_more_than_the_available_memory_is_refused():
    memory.require_memory(4096, what="it", fix="less")
    with pytest.raises(
        InputError, match=r"^it: needs 5,000,000,000\.0 GB of memory, but only [\d,]+\.\d GB are free: less$"
    ):
        memory.require_memory(5 * 10**18, what="it", fix="less")


def test_the_limit_of_the_process_is_used():
    script = (
        "import resource; from wing_jax.runtime import memory\n"
        "resource.setrlimit(resource.RLIMIT_AS, (1 << 30,) * 2); print(memory.available() < 1 << 30)"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert run.stdout == "True\n", run.stderr


def test_out_of_memory_errors_of_libraries_are_recognized():
    blank = np.zeros((4, 4, 3), np.uint8)
    with pytest.raises(cv2.error) as out_of_memory:
        cv2.copyMakeBorder(blank, 2_000_000, 2_000_000, 2_000_000, 2_000_000, cv2.BORDER_REPLICATE)
    assert memory.is_out_of_memory(out_of_memory.value)
    with pytest.raises(cv2.error) as other:
        cv2.cvtColor(blank[..., 0], cv2.COLOR_RGB2GRAY)
    assert not memory.is_out_of_memory(other.value)
    assert memory.is_out_of_memory(MemoryError())
    assert memory.is_out_of_memory(RuntimeError("RESOURCE_EXHAUSTED: Out of memory"))
    assert not memory.is_out_of_memory(RuntimeError("something else"))
    assert not memory.is_out_of_memory(ValueError("RESOURCE_EXHAUSTED"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (
            r"MemoryError('Unable to allocate 7 TiB\nfor an array')",
            2,
            "wing-jax: out of memory (Unable to allocate 7 TiB",
        ),
        ("RuntimeError('an internal fault')", 1, "RuntimeError: an internal fault"),
    ],
)
def test_a_command_that_runs_out_of_memory_reports_it_in_one_line(error, status, message):
    """In a new process, because a registered reader stays registered."""
    script = (
        "import wing_jax\nfrom wing_jax.cli.main import main\n@wing_jax.register_reader(root_optional=True)\n"
        f"def read_starved(root, split, count, seed): raise {error}\nmain(['data', 'stats', '--data', 'starved'])"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=120)
    assert run.returncode == status
    assert run.stderr.splitlines()[-1].startswith(message), run.stderr


def test_face_crops_that_do_not_fit_are_refused_before_they_are_cut():
    faces = load_faces("synthetic", "train", count=2)
    with pytest.raises(InputError, match=r"synthetic faces: 2 faces cut to 9,000,000 x 9,000,000 pixels: needs .* GB"):
        crop_faces(faces, size=9_000_000)
    with pytest.raises(InputError, match=r"^1,000,000,000,000 synthetic faces of 192 x 192 pixels: needs"):
        synthetic_faces(10**12, seed=0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("train", "synthetic", "--name", "absurd", "--data.train_faces", 10**12),
            "synthetic faces of 192 x 192 pixels: needs",
        ),
        (("train", "synthetic", "--stage1.input_size", 2**20), "input_size=1048576 must be at most 4,096"),
        (  # before the faces are rendered, which would be the other error
            ("train", "synthetic", "--data.train_faces", 10**12, "--stage1.batch_size", 8 * 10**9),
            "a batch of 8,000,000,000 crops of",
        ),
        (
            ("train", "synthetic", "--data.train_faces", 4, "--stage1.model.params.hidden", 10**12),
            "the model of stage 1 on 64 pixels: needs",
        ),
        (
            ("train", "synthetic", "--balance.bins", 10**12),
            "bins=1000000000000, cap=10: bins must be 1 to 10,000",
        ),
        (("evaluate", "w300", "--data", "synthetic", "--faces", 10**12), "synthetic faces of 192 x 192 pixels: needs"),
        (("data", "stats", "--data", "synthetic", "--faces", 10**12), "synthetic faces of 192 x 192 pixels: needs"),
        (
            ("data", "stats", "--data", "synthetic", "--bins", 10**12),
            "bins=1000000000000 must be between 1 and 10,000",
        ),
        (("data", "stats", "--data", "synthetic", "--bins", 0), "bins=0 must be between 1 and 10,000"),
        (("data", "show", ".", "--columns", 10**12), "columns=1000000000000 must be between 1 and 1,000"),
        (("data", "show", ".", "--columns", 0), "columns=0 must be between 1 and 1,000"),
        (("data", "show", ".", "--faces", -1), "faces=-1 must be between 1 and 10,000"),
        (("data", "stats", ".", "--bins", 10**12), "bins=1000000000000 must be between 1 and 10,000"),
        (("data", "pack", ".", "out", "--size", 10**6), "size=1000000 must be between 16 and 8,192"),
        (("data", "label", ".", "w300", "out", "--size", 10**6), "size=1000000 must be between 16 and 8,192"),
        (("data", "check", ".", "--workers", 0), "workers=0 must be between 1 and 256"),
    ],
)
def test_absurd_sizes_of_options_are_refused_in_one_line(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # without the runs of the demo
    assert message in refusal(capsys, *arguments)


def test_configs_refuse_invalid_bins():
    for wrong in ({"bins": 0}, {"cap": 0}, {"bins": 10**9}):
        with pytest.raises(InputError, match="bins must be 1 to 10,000, and cap at least 1"):
            BalanceConfig(**wrong)


def test_the_size_of_a_contact_sheet_is_limited():
    assert sheet_size(5, columns=2, step=(110, 100), gap=10) == (310, 230)
    with pytest.raises(ValueError, match="900 tiles in 1 columns make a sheet of 384 x 334,812 pixels"):
        sheet_size(900, columns=1, step=(372, 372))
    with pytest.raises(ValueError, match="columns=0"):
        contact_sheet([np.zeros((4, 4, 3), np.uint8)], columns=0)


def test_a_tile_of_a_large_box_matches_its_affine():
    """Below `MIN_BLUR_SCALE` the picture is shrunk before it is blurred; marks must stay where the affine puts them."""
    image = np.full((2400, 3200, 3), 30, np.uint8)
    cv2.circle(image, (2000, 900), 120, (220, 220, 220), -1)
    tile, affine = face_tile(image, np.float32([0, 0, 3199, 2399]), size=150)
    weight = np.clip(tile[..., 0].astype(float) - 100, 0, None)
    rows, columns = np.mgrid[:150, :150]
    center = np.array([(weight * columns).sum(), (weight * rows).sum()]) / weight.sum()
    np.testing.assert_allclose(center, affine[:, :2] @ (2000, 900) + affine[:, 2], atol=0.2)
