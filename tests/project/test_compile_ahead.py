"""Programs compiled for TPUs that are not here (`benchmarks/compile_ahead.py`), and what is read from them."""

import importlib
import importlib.util
import os
import subprocess
import sys

import pytest

from tests.support.paths import ROOT

# The relevant parts of a compiled program: a loop of 10 steps, a fusion that gathers, a product, a sum over chips.
PROGRAM = """HloModule jit_program
%fused_computation.1 (p: u8[100,32,128], q: s32[8]) -> u8[8,32,128] {
  %p = u8[100,32,128]{2,1,0} parameter(0)
  %q = s32[8]{0} parameter(1)
  ROOT %gather.1 = u8[8,32,128]{2,1,0} gather(%p, %q), offset_dims={1,2}, slice_sizes={1,32,128}
}
%body.1 (state: (s32[], f32[4,2])) -> (s32[], f32[4,2]) {
  %a = u8[100,32,128]{2,1,0} get-tuple-element(%state), index=0
  %b = s32[8]{0} get-tuple-element(%state), index=1
  %rows = u8[8,32,128]{2,1,0:T(8,128)(4,1)} fusion(%a, %b), kind=kCustom, calls=%fused_computation.1, \
metadata={op_name="jit(program)/while/body/input/gather"}
  %crops = f32[8,16]{1,0} fusion(%rows), metadata={op_name="jit(program)/while/body/input/dot_general"}, \
backend_config={"window_config":{"estimated_cycles":"300"}}
  %conv.1 = (bf16[2,3]{1,0}, u8[1000]{0}) custom-call(%b, /*index=1*/%crops), custom_call_target="convolution", \
metadata={op_name="jit(program)/while/body/jvp(Model)/conv"}
  %forward = f32[4,2]{1,0} fusion(%c), metadata={op_name="jit(program)/while/body/jvp(Model)/dot_general"}, \
backend_config={"window_config":{"estimated_cycles":"1000"}}
  %backward = f32[4,2]{1,0} fusion(%d), metadata={op_name="jit(program)/while/body/transpose(jvp(Model))/mul"}, \
backend_config={"window_config":{"estimated_cycles":"2000"}}
  %sum = (f32[4,2]{1,0}, bf16[3]{0}) all-reduce(%d, %e), metadata={op_name="jit(program)/while/body/psum"}
  %norm = f32[] conditional(%f, %g), branch_computations={%yes.1, %no.1}
  %pixels = f32[4,2]{1,0} conditional(%f, %g), branch_computations={%seldom.1, %no.1}
  ROOT %update = f32[4,2]{1,0} add(%h, %i), metadata={op_name="jit(program)/while/body/update/add"}, \
backend_config={"window_config":{"estimated_cycles":"50"}}
}
%yes.1 (x: f32[4,2]) -> f32[] {
  ROOT %r = f32[] reduce(%x), backend_config={"window_config":{"estimated_cycles":"7"}}
}
%seldom.1 (x: f32[4,2]) -> f32[] {
  %unnamed = f32[4,2]{1,0} copy(%x), backend_config={"window_config":{"estimated_cycles":"6000"}}
  %rare = u8[8,32,128]{2,1,0} gather(%a, %b), offset_dims={1,2}, slice_sizes={1,32,128}, \
metadata={op_name="jit(program)/while/body/input/cond/branch_0_fun/fallback/gather"}
  ROOT %slow = f32[4,2]{1,0} fusion(%c), metadata={op_name="jit(program)/while/body/input/cond/fallback/dot_general"}, \
backend_config={"window_config":{"estimated_cycles":"3000"}}
}
%no.1 (y: f32[4,2]) -> f32[] {
  ROOT %zero = f32[] constant(0)
}
%compare.1 (i: s32[]) -> pred[] {
  %ten = s32[] constant(10)
  ROOT %less = pred[] compare(%i, %ten), direction=LT
}
%condition.1 (state: (s32[], f32[4,2])) -> pred[] {
  ROOT %c = pred[] fusion(%i), kind=kLoop, calls=%compare.1
}
ENTRY %main.1 (images: u8[100,32,128]) -> f32[4,2] {
  %copy.1 = u8[100,32,128]{2,1,0} copy(%images), backend_config={"window_config":{"estimated_cycles":"4000"}}
  %loop = (s32[], f32[4,2]) while(%start), condition=%condition.1, body=%body.1
  ROOT %out = f32[4,2] get-tuple-element(%loop), index=1
}
"""


def test_the_cycles_of_a_compiled_program_are_counted_by_part(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    compiled = importlib.import_module("compiled")
    operations = compiled.read_operations(PROGRAM)
    assert compiled.cycles_by_part(operations, steps=10) == {
        "input": 300,
        "forward": 1000,
        "backward": 2000,
        "update": 50,
        "other": 7,
        "fallback": 9000,
        "once per call": 4000,
    }
    assert compiled.gathered_slices(operations, steps=10) == 8
    assert compiled.collective_bytes(operations, steps=10) == 4 * 8 + 2 * 3


def test_the_bytes_that_operations_move_are_counted(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    compiled = importlib.import_module("compiled")
    moved = {
        "fallback" * (operation.part == "fallback") + operation.name.rpartition("/")[2]: operation.moved
        for operation in compiled.read_operations(PROGRAM)
    }
    rows = 8 * 32 * 128
    assert moved["gather"] == rows + 4 * 8 + rows, "of the images it reads only what it gathers"
    assert moved["conv"] == 4 * 8 + 4 * 8 * 16 + 2 * 2 * 3, "the workspace does not count"


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason='needs pip install "wing-jax[tpu]"')
def test_a_training_program_compiles_for_a_tpu_and_does_not_copy_the_faces():
    script = """
import compile_ahead as ahead
from compiled import cycles_by_part, gathered_slices, read_operations
mesh = ahead.topology_mesh("v5e:1x1")
with ahead.devices.compiling_for("tpu"):
    setup = ahead.make_setup("own", 1, batch=64)
    program = ahead.lower_training(setup, mesh, faces=20_000).compile()
images = 20_000 * 3 * setup.face_crops.size**2
memory, operations = program.memory_analysis(), read_operations(program.as_text())
assert memory.argument_size_in_bytes > images > 4 * memory.temp_size_in_bytes, memory
cycles = cycles_by_part(operations, steps=ahead.STEPS)
assert all(cycles[part] > 0 for part in ("input", "forward", "backward", "update")), cycles
assert cycles["once per call"] < sum(cycles.values()) / 10, cycles
assert gathered_slices(operations, steps=ahead.STEPS) < 64 * 100, "pixels are gathered one by one"
"""
    path = os.pathsep.join([str(ROOT / "benchmarks"), os.environ.get("PYTHONPATH", "")])
    subprocess.run([sys.executable, "-c", script], check=True, cwd=ROOT, env=os.environ | {"PYTHONPATH": path})
