"""Compile the training and inference programs for TPUs that are not here, and report what the compiler says of them.

    pip install "wing-jax[tpu]"
    python benchmarks/compile_ahead.py [--targets v5e:1x1 v5e:2x2 v5p:2x2x1 v6e:1x1] [--programs cnn6 cnn7 w300 predict]
        [--batches 256 1024] [--written-for gpu] [--name compile_ahead]

A target is a kind of TPU and the shape of its slice: v5e:1x1 is one chip, v5e:8x8 are 64. No TPU is needed. The
programs are those of `wing_jax.fit` on such a device, with many steps in one call, bfloat16, and all augmentations of
`AUGMENT`; "predict" is `Localizer.predict` of the two stages of `w300`. For each program the table has

- the memory of each chip: arguments (the training faces, the state) and temporaries;
- the compiler's estimate of the cycles of a step, by part. Gathers and scatters have no estimate: the column
  "gathered" counts the slices that they read or write one by one;
- the share of the roofline: the cycles that the step's arithmetic would take as one large matrix product, divided by
  the estimated cycles;
- the bytes that the chips exchange in a step.

With `--written-for gpu` the programs are those of a GPU, compiled for the TPU: what the code for TPUs gains.
"""

import dataclasses
import os
import time

os.environ.setdefault("JAX_PLATFORMS", "cpu")  # the programs are compiled on this machine's CPU
os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")  # libtpu would look for a TPU
os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")  # there is none to share
os.environ.pop("XLA_FLAGS", None)  # libtpu ends the process if it does not know one

import jax
import jax.numpy as jnp
import numpy as np
from compiled import PARTS, collective_bytes, cycles_by_part, gathered_slices, read_operations
from jax import NamedSharding
from jax import P as Spec
from jax.experimental import topologies
from jax.sharding import AxisType, Mesh
from report import arguments, publish, table

import wing_jax as wj
from wing_jax import augment, presets
from wing_jax.inference import forward
from wing_jax.input.on_device import TrainingFaces, packed_shape, splits_images
from wing_jax.input.sampling import BatchIndices
from wing_jax.runtime import devices
from wing_jax.train import stages
from wing_jax.train.data import FaceSource, prepare_data
from wing_jax.train.replicas import Replicas
from wing_jax.train.runners import make_program
from wing_jax.train.setup import StageSetup

AUGMENT = (
    augment.aspect_jitter(0.1),
    augment.rotation(30),
    augment.scale(0.1),
    augment.flip(),
    augment.translation(0.05),
    augment.blur(0.5),
    augment.color(0.4),
    augment.noise(8),
    augment.occlusion(0.4),
)
PROGRAMS = {  # preset, stage, faces of its training set
    "cnn6": ("w300", 1, 2_012),
    "cnn7": ("aflw", 2, 20_000),
    "w300": ("w300", 2, 2_012),
    "predict": ("w300", 0, 0),
}
STEPS = 10  # in one call of a program
PRODUCT = 8192  # side of the matrices by which the estimated cycles of arithmetic are calibrated


def main() -> None:
    """Compile all programs for all targets, and publish the tables."""
    parser = arguments(__doc__)
    parser.add_argument("--targets", nargs="+", default=["v5e:1x1", "v5e:2x2", "v5p:2x2x1", "v6e:1x1"])
    parser.add_argument("--programs", nargs="+", choices=PROGRAMS, default=list(PROGRAMS))
    parser.add_argument("--batches", type=int, nargs="+", default=[256], help="faces a chip")
    parser.add_argument(
        "--written-for", choices=["tpu", "gpu"], default="tpu", help="the device whose code is compiled"
    )
    parser.add_argument("--name", default="compile_ahead", help="of the section in RESULTS.md")
    options = parser.parse_args()
    rows = []
    for target in options.targets:
        mesh = topology_mesh(target)
        unit = cycles_per_flop(mesh)
        for name in options.programs:
            for batch in options.batches:
                program = compile_program(name, mesh, batch, platform=options.written_for)
                rows.append([target, name, str(batch), *describe(program, unit)])
                print(*rows[-1], sep=" | ", flush=True)  # a run takes long, and libtpu can end the process
    header = ["target", "program", "batch a chip", "compiles, s"]
    header += ["arguments, MB", "temporaries, MB", "exchanged, MB", "gathered, thousands"]
    header += [*(f"{part}, Mcycles" for part in PARTS), "once per call, Mcycles", "share of the roofline"]
    versions = {"jax": jax.__version__, "jaxlib": jax.lib.__version__, "libtpu": libtpu_version()}
    title = "Programs compiled ahead for TPUs that were not there, a step"
    title += ", written for GPUs" if options.written_for == "gpu" else ""
    publish(options.name, title, table(header, rows), versions=versions, options=options)


def topology_mesh(target: str) -> Mesh:
    """Return the mesh of the chips of a target such as "v5e:2x2"."""
    is_chip = set(target.partition(":")[2].split("x")) == {"1"}
    bounds = {"chips_per_host_bounds": [1, 1, 1]} if is_chip else {}  # by default, some kinds have four chips on a host
    topology = topologies.get_topology_desc(platform="tpu", topology_name=target, **bounds)
    return Mesh(np.array(topology.devices).ravel(), (devices.AXIS,), axis_types=(AxisType.Auto,))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Program:
    """A compiled program, and the seconds that it took to compile."""

    compiled: jax.stages.Compiled
    seconds: float
    steps: int


def compile_program(name: str, mesh: Mesh, batch: int, *, platform: str = "tpu") -> Program:
    """Compile a program of `PROGRAMS` for `batch` faces a chip."""
    preset, number, faces = PROGRAMS[name]
    with devices.compiling_for(platform):
        if name == "predict":
            lowered, steps = lower_predict(mesh, batch), 1
        else:
            setup = make_setup(preset, number, batch=batch * mesh.size)
            spec = presets.recipe(preset).stages[number - 1]
            crops = spec.crops_per_face if number == 2 and spec.stage2_crops == "predicted" else 1
            lowered, steps = lower_training(setup, mesh, faces=faces, crops_per_face=crops), STEPS
        start = time.perf_counter()
        return Program(compiled=lowered.compile(), seconds=time.perf_counter() - start, steps=steps)


def make_setup(preset: str, number: int, *, batch: int) -> StageSetup:
    """Return the setup of a preset's stage for synthetic faces, with all augmentations."""
    recipe = presets.recipe(preset)
    changes = {"batch_size": batch, "precision": "auto", "stage2_crops": "annotated"}
    specs = [dataclasses.replace(spec, **changes) for spec in recipe.stages]
    faces = wj.load_faces("synthetic", count=24)
    data = prepare_data([FaceSource(faces=faces)], specs, validation=0.25, balance=None, seed=0)
    first = stages.first_setup(specs[0], data, augment=AUGMENT)
    if number == 1:
        return first
    return stages.second_setup(specs[1], data, None, data.template(first.mean), augment=AUGMENT)


def lower_training(setup: StageSetup, mesh: Mesh, *, faces: int, crops_per_face: int = 1) -> jax.stages.Lowered:
    """Trace the program of `STEPS` training steps on `faces` faces."""
    points, size, batches = setup.scheme.points, setup.face_crops.size, setup.device_input(seed=0)
    batches = dataclasses.replace(batches, split=splits_images(faces * 3 * size**2))
    faces += -faces % mesh.size
    rows = {
        "images": ((faces, *packed_shape(size)), jnp.uint8),
        "points": ((faces, 2 * points), jnp.float32),
        "visible": ((faces, points), bool),
        "crop_to_image": ((faces, 6 * crops_per_face), jnp.float32),
        "order": ((faces,), jnp.int32),
        "flip": ((points,), jnp.int32),
    }
    training_faces = TrainingFaces(
        **{name: _array(*row, mesh, split=batches.split and name == "images") for name, row in rows.items()}
    )
    indices = BatchIndices(*3 * [_array((STEPS, setup.spec.batch_size), jnp.int32, mesh)])
    state = jax.tree.map(lambda x: _array(x.shape, x.dtype, mesh), jax.eval_shape(lambda: setup.state(seed=0)))
    program = make_program(setup.step(seed=0), batches, replicas=Replicas(mesh))
    return program.lower(state, training_faces, indices)


def lower_predict(mesh: Mesh, batch: int) -> jax.stages.Lowered:
    """Trace the prediction of `batch` faces by the pretrained `w300`, whose crops the device cuts."""
    model = wj.Localizer.load("w300")
    size = model.stages[-1].face_crop_size
    mesh = Mesh(mesh.devices.ravel()[:1], mesh.axis_names)
    weights = jax.tree.map(lambda x: _array(np.shape(x), jnp.float32, mesh), tuple(s.variables for s in model.stages))
    spec = forward.ForwardSpec(stages=tuple(stage.forward for stage in model.stages))
    rows = {
        "template": ((model.scheme.points, 2), jnp.float32),
        "parts": ((batch, 2 * size, 2 * size, 3), jnp.uint8),
        "first": ((batch, 2), jnp.int32),
        "length": ((batch, 2), jnp.int32),
        "side": ((batch,), jnp.int32),
        "boxes": ((batch, 4), jnp.float32),
        "degrees": ((batch,), jnp.float32),
    }
    template, *faces = (_array(*row, mesh) for row in rows.values())
    return forward.crop_and_predict.lower(spec, weights, template, None, *faces)


def cycles_per_flop(mesh: Mesh) -> float:
    """Return the estimated cycles of an operation of a large matrix product in bfloat16 on one chip."""
    mesh = Mesh(mesh.devices.ravel()[:1], mesh.axis_names)
    side = _array((PRODUCT, PRODUCT), jnp.bfloat16, mesh)
    operations = read_operations(jax.jit(jnp.matmul).lower(side, side).compile().as_text())
    return sum(operation.cycles or 0 for operation in operations) / (2 * PRODUCT**3)


def describe(program: Program, unit: float) -> list[str]:
    """Return the cells of a program's row."""
    memory, steps = program.compiled.memory_analysis(), program.steps
    sizes = [f"{size / 1e6:,.0f}" for size in (memory.argument_size_in_bytes, memory.temp_size_in_bytes)]
    try:
        operations = read_operations(program.compiled.as_text())
    except jax.errors.JaxRuntimeError:  # a libtpu newer than jaxlib can compile to operations that jaxlib cannot read
        return [f"{program.seconds:.0f}", *sizes, *(len(PARTS) + 4) * ["not readable"]]
    if steps == 1:  # no loop
        operations = [dataclasses.replace(operation, in_loop=True) for operation in operations]
    cycles = cycles_by_part(operations, steps=steps)
    total = sum(cycles.get(part, 0) for part in PARTS)
    flops = program.compiled.cost_analysis()["flops"]  # counts the loop's body once
    return [
        f"{program.seconds:.0f}",
        *sizes,
        f"{collective_bytes(operations, steps=steps) / 1e6:.1f}",
        f"{gathered_slices(operations, steps=steps) / 1e3:,.1f}",
        *(f"{cycles.get(part, 0) / 1e6:.2f} ({cycles.get(part, 0) / total:.0%})" for part in PARTS),
        f"{cycles.get('once per call', 0) / 1e6:.2f}",
        f"{unit * flops / total:.0%}",
    ]


def libtpu_version() -> str:
    """Return the version of the installed libtpu."""
    from importlib.metadata import version

    return version("libtpu")


def _array(shape: tuple[int, ...], dtype, mesh: Mesh, *, split: bool = False) -> jax.ShapeDtypeStruct:
    """Return the description of an array, split over the chips or on each of them."""
    return jax.ShapeDtypeStruct(shape, dtype, sharding=NamedSharding(mesh, Spec(devices.AXIS) if split else Spec()))


if __name__ == "__main__":
    main()
