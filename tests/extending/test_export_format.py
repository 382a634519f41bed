"""An export format of an external package, used from Python and from the command line."""

import json

import numpy as np
import pytest

import wing_jax as wj
from wing_jax.export import EXPORTS, export, make_crops

PACKAGE = """
    import jax
    import jax.numpy as jnp
    import numpy as np
    from wing_jax.export import Format, register_export

    @register_export
    def jax_text():
        def write(network, size, path):
            crops = jax.ShapeDtypeStruct((4, size, size, 3), jnp.uint8)
            path.write_bytes(jax.export.export(jax.jit(network))(crops).serialize())

        def load(path):
            call = jax.export.deserialize(bytearray(path.read_bytes())).call

            def run(crops):
                parts = [crops[i : i + 4] for i in range(0, len(crops), 4)]
                padded = [np.pad(part, ((0, 4 - len(part)), (0, 0), (0, 0), (0, 0))) for part in parts]
                return np.concatenate([np.asarray(call(batch)) for batch in padded])[: len(crops)]

            return run

        return Format(title="JAX export, four crops", ending=".jax", write=write, load=load, runtime="JAX")
"""


@pytest.fixture
def package(install):
    entries = {"jax_text": "jax_text"}
    return install(PACKAGE, name="other_exports", entry_points={"wing_jax.exports": entries})


@pytest.mark.slow
@pytest.mark.usefixtures("package")
def test_it_exports_a_trained_model(train_small, tmp_path):
    result, _ = train_small()
    faces = wj.load_faces("synthetic", "test", count=6)
    (stage,) = export(result.localizer, "jax_text", tmp_path / "exported", make_crops(result.localizer, faces))
    assert stage.path == tmp_path / "exported" / "stage1.jax"
    assert stage.difference < 1e-3
    crops = np.zeros((3, 16, 16, 3), np.uint8)
    assert EXPORTS["jax_text"].load(stage.path)(crops).shape == (3, 68, 2)


@pytest.mark.slow
@pytest.mark.usefixtures("package")
def test_the_command_line_accepts_it(run_command, tmp_path):
    result = run_command("export", "mtfl", "--to", "jax_text", "--output", "exported")
    assert result.returncode == 0, result.stderr
    assert json.loads((tmp_path / "exported" / "model.json").read_text(encoding="utf-8"))["stages"]
    assert (tmp_path / "exported" / "stage1.jax").stat().st_size > 0
    rejected = run_command("export", "mtfl", "--to", "jax_texts", "--output", "again")
    assert rejected.returncode == 2
    assert "jax_text" in rejected.stderr.splitlines()[-1]
