"""Compile the training programs for a GPU that is not here, and report the kernels of a step and the bytes they move.

    python benchmarks/compile_ahead_gpu.py --cuda FOLDER [--programs cnn6 cnn7 w300] [--batches 8 256]

FOLDER has XLA's CUDA plugin and NVIDIA's libraries (README.md); no GPU and no driver are needed. The card is described
by `CARD`, an H200. The programs are those of `compile_ahead.py`: all augmentations, bfloat16, many steps in one call.
For each the table has

- kernels: the fusions, convolutions, matrix products and copies of a step, each one launch or more;
- moved: the bytes of their arguments and results, which is what they read and write if nothing stays in a cache;
- the arithmetic of the network, three times that of its forward pass;
- the time of a step that each of these allows: LAUNCH seconds for a kernel, the memory's bandwidth, and the peak of the
  bfloat16 arithmetic. CUDA graphs, which XLA makes of the loop when it runs, make launches shorter. Nothing here was
  measured on a card.

It uses functions of JAX that are not public, and was written for jax 0.10.2. Without a card XLA cannot try out kernels,
so it runs with `xla_gpu_autotune_level=0`; the kernels on a card can differ.
"""

import os
from pathlib import Path

import compile_ahead as ahead
import jax
import jax.numpy as jnp
import numpy as np
from compiled import FREE, read_operations
from jax._src.lib import _jax, xla_client
from jax.sharding import AxisType, Mesh
from report import arguments, publish, table

from wing_jax import presets
from wing_jax.models import cpu_kernel
from wing_jax.runtime import devices

CARD = """
gpu_device_info {
  threads_per_block_limit: 1024  threads_per_warp: 32  threads_per_core_limit: 2048
  shared_memory_per_block: 49152  shared_memory_per_core: 233472  shared_memory_per_block_optin: 232448
  core_count: 132  fpus_per_core: 128  clock_rate_ghz: 1.98
  block_dim_limit_x: 2147483647  block_dim_limit_y: 65535  block_dim_limit_z: 65535
  thread_dim_limit_x: 1024  thread_dim_limit_y: 1024  thread_dim_limit_z: 64
  memory_bandwidth: 4800000000000  device_memory_size: 151397597184  l2_cache_size: 52428800
  registers_per_core_limit: 65536  registers_per_block_limit: 65536
  cuda_compute_capability { major: 9 feature_extension: ACCELERATED_FEATURES }
  device_vendor: "NVIDIA Corporation"  name: "NVIDIA H200"  device_address_bits: 64
  driver_version: "13.0.0"  runtime_version: "13.0.0"  compile_time_toolkit_version: "13.0.0"  dnn_version: "9.10.0"
}
platform_name: "CUDA"  device_description_str: "NVIDIA H200"
dnn_version_info { major: 9 minor: 10 patch: 0 }
"""
BANDWIDTH, PEAK, LAUNCH = 4.8e12, 989e12, 2e-6  # bytes and bfloat16 operations a second; seconds for a kernel
FLAGS = "--xla_gpu_autotune_level=0 --xla_gpu_enable_triton_gemm=false --xla_gpu_cuda_data_dir={folder}/nvidia/cu13"
RUNS = {256: 1_000_000, 8: 960_000}  # faces of the training runs whose time is computed, by batch size


def main() -> None:
    """Compile all programs, and publish the table."""
    parser = arguments(__doc__)
    parser.add_argument("--cuda", type=Path, required=True, help="folder of XLA's CUDA plugin and NVIDIA's libraries")
    parser.add_argument("--programs", nargs="+", default=["cnn6", "cnn7", "w300"])
    parser.add_argument("--batches", type=int, nargs="+", default=[8, 256])
    options = parser.parse_args()
    mesh, rows = card_mesh(options.cuda), []
    for name in options.programs:
        for batch in options.batches:
            program = ahead.compile_program(name, mesh, batch, platform="gpu")
            rows.append([name, str(batch), *describe(program, name, batch)])
            print(*rows[-1], sep=" | ", flush=True)
    header = ["program", "batch", "compiles, s", "temporaries, MB", "kernels", "moved, MB", "GFLOP"]
    header += ["launches, ms", "memory, ms", "arithmetic, ms", "run, s"]
    notes = [f"- Run: the largest of the three times, for {faces:,} faces at batch {b}." for b, faces in RUNS.items()]
    title = "Programs compiled ahead for an H200 that was not there, a step"
    versions = {"jax": jax.__version__, "jaxlib": jax.lib.__version__}
    body = [*table(header, rows), "", *notes]
    publish("compile_ahead_gpu", title, body, versions=versions, options=options)


def card_mesh(folder: Path) -> Mesh:
    """Return the mesh of one card of `CARD`, to compile for."""
    os.environ["XLA_FLAGS"] = FLAGS.format(folder=folder.resolve())
    plugin = next(folder.glob("jax_plugins/*/xla_cuda_plugin.so"))
    api = xla_client.load_pjrt_plugin_dynamically("cuda", str(plugin))
    xla_client.initialize_pjrt_plugin("cuda")
    topology = _jax.get_c_api_topology(api, "1x1x1", {"topology": "1x1x1", "target_config": CARD})
    cards = np.array(topology._make_compile_only_devices())
    return Mesh(cards, (devices.AXIS,), axis_types=(AxisType.Auto,))


def describe(program: ahead.Program, name: str, batch: int) -> list[str]:
    """Return the cells of a program's row."""
    operations = read_operations(program.compiled.as_text())
    kernels = [operation for operation in operations if operation.in_loop and operation.kind not in FREE]
    count = sum(kernel.times for kernel in kernels) / program.steps
    moved = sum(kernel.times * kernel.moved for kernel in kernels) / program.steps
    flops = 3 * batch * forward_flops(name)
    times = {"launches": count * LAUNCH, "memory": moved / BANDWIDTH, "arithmetic": flops / PEAK}
    return [
        f"{program.seconds:.0f}",
        f"{program.compiled.memory_analysis().temp_size_in_bytes / 1e6:,.0f}",
        f"{count:.0f}",
        f"{moved / 1e6:,.0f}",
        f"{flops / 1e9:,.1f}",
        *(f"{1000 * seconds:.3f}" for seconds in times.values()),
        f"{RUNS[batch] / batch * max(times.values()):.1f}" if batch in RUNS else "",
    ]


def forward_flops(name: str) -> float:
    """Return the operations of the forward pass of a program's network for one face, as XLA counts them for the CPU."""
    preset, number, _ = ahead.PROGRAMS[name]
    spec = presets.recipe(preset).stages[number - 1]
    model, crop = spec.build_model(68), jnp.zeros((1, spec.input_size, spec.input_size, 3))
    variables = jax.eval_shape(model.init, jax.random.key(0), crop)
    with cpu_kernel.switched("off"):
        return jax.jit(model.apply).lower(variables, crop).compile().cost_analysis()["flops"]


if __name__ == "__main__":
    main()
